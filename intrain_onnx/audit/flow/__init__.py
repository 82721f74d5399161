"""Data-flow analyses of a graph for the checks."""
