"""The subgraphs of a node, and what flows into them."""

from __future__ import annotations

import onnx_ir as ir

from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import kind


def bodies(node: ir.Node) -> list[tuple[str, ir.Graph]]:
    """The subgraphs of an If, Loop, Scan or SequenceMap, with the names of their attributes."""
    if not node.domain and kind(node) is not Kind.CONTROL:  # attributes are slow to walk, and asked for often
        return []
    return [(a.name, a.as_graph()) for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]


def entering(node: ir.Node, body: ir.Graph) -> list[tuple[ir.Value, ir.Value | None]]:
    """Each formal input of a body with the node's input that it is, or starts from.

    A Loop's body gets its round and condition first. Before version 9 Scan had lengths before its values,
    and it is told by their number.
    """
    outer = list(node.inputs)
    if node.op_type == "Loop":
        outer = [None, *outer[1:]]
    elif node.op_type == "Scan" and len(outer) > len(body.inputs):
        outer = outer[1:]
    outer += [None] * len(body.inputs)
    return list(zip(body.inputs, outer, strict=False))
