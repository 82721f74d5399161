"""Pattern matching of decomposed Softmax, LogSoftmax and Sigmoid, replaced by the one operator.

Probability heads, which are removed before the loss, and attention are recognised by these operators.

    Softmax     Div(e, ReduceSum(e)),  e = Exp(d),  d = x or Sub(x, ReduceMax(x))
    LogSoftmax  Sub(d, Log(ReduceSum(Exp(d))))
    Sigmoid     Reciprocal(Add(1, Exp(Neg(x)))), or 1 divided by that
"""

from __future__ import annotations

import onnx_ir as ir

from intrain_onnx.network.values import constant_array, listed, name_of
from intrain_onnx.opset.traits import is_op
from intrain_onnx.rewrites.forms.replace_each import replace_each


def restore(model: ir.Model) -> int:
    """Replace each decomposed Softmax, LogSoftmax (last axis) or Sigmoid by one node, in place.

    Nodes that become unused are removed.

    Requires: initializers in the main graph; inferred shapes, for a last axis given as a positive number.

    Returns:
        The number of nodes removed.
    """
    return replace_each(model, "restored", _restored)


def applies(node: ir.Node) -> bool:
    """Whether a node is the last of one of the patterns."""
    return _found(node) is not None


def _restored(node: ir.Node) -> ir.Node | None:
    found = _found(node)
    if found is None:
        return None
    op_type, value = found
    attributes = [] if op_type == "Sigmoid" else [ir.AttrInt64("axis", -1)]
    return ir.Node("", op_type, [value], attributes, name=name_of(node))


def _found(node: ir.Node) -> tuple[str, ir.Value] | None:
    if is_op(node, "Div", "Reciprocal"):
        logit = _sigmoid(node)
        if logit is not None:
            return "Sigmoid", logit
    if is_op(node, "Div"):
        exponential = _maker(node.inputs[0], "Exp")
        if exponential is not None and _is_sum_of(node.inputs[1], exponential.outputs[0]):
            return _shifted("Softmax", exponential.inputs[0])
    if is_op(node, "Sub"):
        log = _maker(node.inputs[1], "Log")
        total = _maker(log.inputs[0], "ReduceSum") if log is not None else None
        exponential = _maker(total.inputs[0], "Exp") if total is not None else None
        same = exponential is not None and exponential.inputs[0] is node.inputs[0]
        if log is not None and exponential is not None and same:
            summed = _is_sum_of(log.inputs[0], exponential.outputs[0])
            return _shifted("LogSoftmax", node.inputs[0]) if summed else None
    return None


def _sigmoid(node: ir.Node) -> ir.Value | None:
    if is_op(node, "Div") and not _is_one(node.inputs[0]):
        return None
    total = _maker(node.inputs[-1], "Add")
    if total is None:
        return None
    for one, other in (total.inputs, total.inputs[::-1]):
        exponential = _maker(other, "Exp")
        negative = _maker(exponential.inputs[0], "Neg") if exponential is not None else None
        if _is_one(one) and negative is not None:
            return negative.inputs[0]
    return None


def _shifted(op_type: str, value: ir.Value | None) -> tuple[str, ir.Value] | None:
    """The operator with the logits before max(x) is subtracted: softmax is invariant to that shift."""
    shift = _maker(value, "Sub")
    if shift is not None and shift.inputs[0] is not None:
        largest = shift.inputs[1]
        while (view := _maker(largest, "Identity")) is not None:  # a stopped gradient
            largest = view.inputs[0]
        node = _maker(largest, "ReduceMax")
        if node is not None and node.inputs[0] is shift.inputs[0] and _over_last_axis(node):
            value = shift.inputs[0]
    return None if value is None else (op_type, value)


def _is_sum_of(value: ir.Value | None, part: ir.Value) -> bool:
    node = _maker(value, "ReduceSum")
    return node is not None and node.inputs[0] is part and _over_last_axis(node)


def _over_last_axis(node: ir.Node) -> bool:
    if node.attributes.get_int("keepdims", 1) != 1:
        return False
    axes = listed(node, "axes")
    shape = node.inputs[0].shape if node.inputs[0] is not None else None
    last = [-1] if shape is None else [-1, len(shape.dims) - 1]
    return len(axes) == 1 and axes[0] in last


def _is_one(value: ir.Value | None) -> bool:
    array = constant_array(value)
    return array is not None and array.size == 1 and float(array.reshape(())) == 1.0


def _maker(value: ir.Value | None, op_type: str) -> ir.Node | None:
    node = value.producer() if value is not None else None
    return node if node is not None and is_op(node, op_type) else None
