"""Pure rules of operation: who may do what. No torch, no SQL, no HTTP."""
