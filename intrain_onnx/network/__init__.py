"""The graph as layers, parameters, depth and shapes: reads it and never changes it."""
