"""Changes of a graph, in place, before it is converted."""
