"""Conversion of a graph to a `torch.fx` module, and an interpreter with observers."""
