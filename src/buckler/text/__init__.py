"""Texts: as numbers, as they are read, and what they are disguised with."""
