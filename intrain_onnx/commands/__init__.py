"""One file per command: parses, calls and prints. Heavy imports are inside the functions."""
