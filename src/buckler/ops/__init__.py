"""Pure rules of operation: no torch, no SQL, no HTTP, and no clock but the one passed in."""
