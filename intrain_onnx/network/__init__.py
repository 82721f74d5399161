"""Static analyses of a graph: layers, parameters, depth, shapes. None of them changes it."""
