"""The checks, a file for each kind. Each says what it looks for, from which threshold, and what to do."""
