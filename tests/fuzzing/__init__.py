"""Mutants of valid models, and what becomes of each: see CONTRIBUTING.md, "How to look for internal errors"."""
