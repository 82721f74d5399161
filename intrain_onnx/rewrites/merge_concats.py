"""Merges nested concatenations: Concat(Concat(a, b), c) along one axis is Concat(a, b, c)."""

from __future__ import annotations

import onnx_ir as ir

from intrain_onnx.network.values import name_of, put_in_place
from intrain_onnx.opset.traits import is_op


def merge_concats(model: ir.Model) -> int:
    """Replace each Concat that reads Concats along the same axis by one of all their operands, in place.

    An inner one that others read too stays beside it.

    Requires: inferred shapes, for an axis that one of them counts from the end.

    Returns:
        The number of nodes removed.
    """
    before = sum(1 for _ in model.graph.all_nodes())
    for node in list(model.graph.all_nodes()):  # in order, so that an inner one is merged already
        if not is_op(node, "Concat") or node.graph is None:
            continue
        operands = [operand for value in node.inputs for operand in _operands(node, value)]
        if len(operands) > len(node.inputs):
            old = node.outputs[0]
            out = ir.Value(name=f"{old.name}.merged", type=old.type, shape=old.shape)
            axis = ir.AttrInt64("axis", node.attributes.get_int("axis", 0))
            put_in_place(node, ir.Node("", "Concat", operands, [axis], outputs=[out], name=name_of(node)))
    return before - sum(1 for _ in model.graph.all_nodes())


def _operands(node: ir.Node, value: ir.Value | None) -> list[ir.Value | None]:
    """What an operand of a Concat is made of along the same axis."""
    inner = value.producer() if value is not None else None
    if inner is None or not is_op(inner, "Concat") or _axis(inner) is None or _axis(inner) != _axis(node):
        return [value]
    return list(inner.inputs)


def _axis(node: ir.Node) -> int | None:
    """The axis from the front; None if the rank is unknown."""
    axis = node.attributes.get_int("axis", 0)
    shapes = [v.shape for v in (*node.outputs, *node.inputs) if v is not None and v.shape is not None]
    if axis < 0:
        return axis + len(shapes[0]) if shapes else None
    return axis
