"""Replaces nodes one by one, in the order of the graph: the loop that the rewrites of this package share."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import put_in_place


def replace_each(model: ir.Model, suffix: str, make: Callable[[ir.Node], ir.Node | None]) -> int:
    """Put a new node in the place of each node that one is made for, subgraphs included.

    Args:
        model: changed in place; nodes that become unused are removed.
        suffix: of the name of the new node's output, after that of the old one.
        make: returns a node of one output for a node, or None where it stays.

    Returns:
        The number of nodes that are there less.
    """
    before = sum(1 for _ in every_node(model.graph))
    for node in list(every_node(model.graph)):
        new = make(node) if node.graph is not None else None
        if new is not None:
            old, out = node.outputs[0], new.outputs[0]
            out.name, out.type, out.shape = f"{old.name}.{suffix}", old.type, old.shape
            put_in_place(node, new)
    return before - sum(1 for _ in every_node(model.graph))
