"""Graph rewrites, in place, before a graph is converted to torch."""
