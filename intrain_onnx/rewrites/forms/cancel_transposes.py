"""Removes pairs of inverse transposes around an element-wise operator.

    Transpose(f(Transpose(x, p)), q)  =  f(x),   q the inverse of p

Optimisers move transposes apart, which hides patterns of several operators from matching.
"""

from __future__ import annotations

import onnx_ir as ir

from intrain_onnx.network.values import name_of
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, kind
from intrain_onnx.rewrites.forms.replace_each import replace_each

_ELEMENTWISE = (Kind.ACTIVATION, Kind.ELEMENTWISE)


def cancel_transposes(model: ir.Model) -> int:
    """Remove pairs of inverse transposes around unary element-wise operators, in place.

    Returns:
        The number of nodes removed.
    """
    return replace_each(model, "straight", _straight)


def applies(last: ir.Node) -> bool:
    """Whether a node is the second of such a pair."""
    return _between(last) is not None


def _straight(last: ir.Node) -> ir.Node | None:
    found = _between(last)
    if found is None:
        return None
    inner, value = found
    attributes = list(inner.attributes.values())
    return ir.Node(inner.domain, inner.op_type, [value], attributes, name=f"{name_of(inner)}.straight")


def _between(last: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    """The operator between two inverse transposes, given the second, and the input of the first."""
    inner = _maker(last) if is_op(last, "Transpose") else None
    if inner is None or kind(inner) not in _ELEMENTWISE or len(inner.inputs) != 1 or len(inner.outputs) != 1:
        return None
    first = _maker(inner)
    if first is None or not is_op(first, "Transpose") or first.inputs[0] is None:
        return None
    p, q = (node.attributes.get_ints("perm", ()) for node in (first, last))
    if not p or len(p) != len(q) or [p[axis] for axis in q] != list(range(len(p))):
        return None
    return inner, first.inputs[0]


def _maker(node: ir.Node) -> ir.Node | None:
    value = node.inputs[0] if node.inputs else None
    return value.producer() if value is not None else None
