"""Pure rules of operation: who may do what, what a review queue does, what is drawn at random."""
