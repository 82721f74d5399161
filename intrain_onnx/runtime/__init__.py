"""A `torch.fx` module from a graph, and the interpreter that shows its values."""
