"""Mutants of valid models, and what becomes of each (see docs/fuzzing.md)."""
