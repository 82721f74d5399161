"""The networks of the search spaces in torch, written from the papers and not from the generators.

Modules run in the order in which the graph has its nodes, so weights are matched by that order.
"""
