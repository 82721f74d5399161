"""Merges nested concatenations: Concat(Concat(a, b), c) along one axis is Concat(a, b, c)."""

from __future__ import annotations

import onnx_ir as ir

from intrain_onnx.network.values import name_of
from intrain_onnx.opset.traits import is_op
from intrain_onnx.rewrites.forms.replace_each import replace_each

_MOST_REPEATED = 64
"""Operands of an inner Concat that is read more than once: else n that double have 2**n operands."""


def merge_concats(model: ir.Model) -> int:
    """Replace each Concat that reads Concats along the same axis by one of all their operands, in place.

    An inner one that others read too is a value of its own, as in a dense block, and stays.

    Requires: inferred shapes, for an axis that one of them counts from the end.

    Returns:
        The number of nodes removed.
    """
    return replace_each(model, "merged", _merged)  # in order, so that an inner one is merged already


def applies(node: ir.Node) -> bool:
    """Whether a node is a Concat of Concats along its axis."""
    if not is_op(node, "Concat"):
        return False
    return sum(len(_operands(node, value)) for value in node.inputs) != len(node.inputs)


def _merged(node: ir.Node) -> ir.Node | None:
    if not applies(node):
        return None
    operands = [operand for value in node.inputs for operand in _operands(node, value)]
    axis = ir.AttrInt64("axis", node.attributes.get_int("axis", 0))
    return ir.Node("", "Concat", operands, [axis], name=name_of(node))


def _operands(node: ir.Node, value: ir.Value | None) -> list[ir.Value | None]:
    """What an operand of a Concat is made of along the same axis."""
    inner = value.producer() if value is not None else None
    if value is None or inner is None or not is_op(inner, "Concat"):
        return [value]
    shared = value.is_graph_output() or {user for user, _ in value.uses()} != {node}
    repeated = len(value.uses()) > 1 and len(inner.inputs) > _MOST_REPEATED
    return (
        [value]
        if shared or repeated or _axis(inner) is None or _axis(inner) != _axis(node)
        else list(inner.inputs)
    )


def _axis(node: ir.Node) -> int | None:
    """The axis from the front; None if the rank is unknown."""
    axis = node.attributes.get_int("axis", 0)
    shapes = [v.shape for v in (*node.outputs, *node.inputs) if v is not None and v.shape is not None]
    if axis < 0:
        return axis + len(shapes[0]) if shapes else None
    return axis
