"""Activations that a quantiser dropped because the quantised range clamps as they did.

Where the zero point is the lowest number of the type, quantising turns what is below zero into zero: a Relu
needs no node of its own, and quantisers remove it (and Clip, such as Relu6, where the range ends at its
bound). A float form that leaves the rounding out has to put it back.

The rule: a Relu goes behind a value that is quantised with one scale and the lowest zero point, if a product,
sum or normalisation makes it (directly, or through views) and its operands do not say that it is never
negative. So none goes behind graph inputs, softmax, or a sum of two activations. It becomes Clip(0, 6) or
Clip(0, 1) where the range ends there, to float32's rounding: no data end exactly there by chance. In the
quantised model the clamp is real, so a Relu too many changes nothing; other bounds (Clip(-1, 1)) leave no
trace that could be told from the range of the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.values import constant_array
from intrain_onnx.opset.kinds import EVERY_INPUT, Kind, Property
from intrain_onnx.opset.traits import has, is_op, is_view, kind, traits

_CLIP_TOPS = (6.0, 1.0)
_COMPUTES = frozenset({Kind.PRODUCT, Kind.CONVOLUTION, Kind.NORMALISATION})
_DEPTH = 64


def dropped_activation(
    x: ir.Value, scale: np.ndarray | None, zero: np.ndarray | None, quantised: ir.DataType | None
) -> tuple[float, float | None] | None:
    """Bounds of the activation that quantising ``x`` stands in for: (0, None) for a Relu; None for none.

    Args:
        x: the float value that is quantised.
        scale: its scale, None where it is not constant.
        zero: its zero point; None for zero, or where it is not constant.
        quantised: the type that it is quantised to.
    """
    if scale is None or scale.size != 1 or quantised is None or not quantised.is_integer():
        return None
    if zero is not None and zero.size != 1:
        return None
    low, high = quantised.min, quantised.max
    offset = int(zero.reshape(-1)[0]) if zero is not None else 0
    step = float(scale.reshape(-1)[0])
    if offset != low or not math.isfinite(step) or step <= 0 or not _may_be_clamped(x):
        return None
    top = step * (int(high) - offset)
    return 0.0, next((t for t in _CLIP_TOPS if math.isclose(top, t, rel_tol=1e-5)), None)


def _may_be_clamped(x: ir.Value) -> bool:
    value: ir.Value | None = x
    while value is not None and (node := value.producer()) is not None:
        if kind(node) in _COMPUTES or has(node, Property.SCALES) or has(node, Property.SHIFTS):
            return not never_negative(x)
        if not is_view(node):
            return False
        value = node.inputs[0]
    return False


def never_negative(value: ir.Value) -> bool:
    """Whether the operators that make a value allow no negative elements; False where they do not tell."""
    return _never_negative(value, 0, {})


def _never_negative(value: ir.Value | None, depth: int, known: dict[ir.Value, bool]) -> bool:
    if value is None or depth > _DEPTH:
        return False
    if value not in known:
        known[value] = _tells(value, depth + 1, known)
    return known[value]


def _tells(value: ir.Value, depth: int, known: dict[ir.Value, bool]) -> bool:
    if value.const_value is not None:
        array = constant_array(value)
        return array is not None and array.dtype.kind in "fiu" and bool((array >= 0).all())
    node = value.producer()
    if node is None:
        return False
    inputs = node.inputs
    if has(node, Property.NEVER_NEGATIVE) or (is_op(node, "Mul") and inputs[0] is inputs[1]):
        return True
    if is_op(node, "Clip"):
        low = constant_array(inputs[1]) if len(inputs) > 1 else None
        attribute = node.attributes.get("min")
        bound = attribute.as_float() if attribute is not None else -1 if low is None else low.min(initial=0)
        return bool(bound >= 0)
    if is_op(node, "Pow"):
        power = constant_array(inputs[1])
        return power is not None and bool((power % 2 == 0).all())
    if is_op(node, "Max"):
        return any(_never_negative(v, depth, known) for v in inputs)
    if not has(node, Property.KEEPS_SIGN):
        return False
    return all(_never_negative(v, depth, known) for v in _operands(node) if v is not None)


def _operands(node: ir.Node) -> Sequence[ir.Value | None]:
    """The inputs that are data: not indices, sizes or conditions."""
    row = traits(node)
    if EVERY_INPUT in row.elements_of or (row.kind in (*_COMPUTES, Kind.ELEMENTWISE) and not row.elements_of):
        return node.inputs
    return [node.inputs[i] for i in row.elements_of or (0,) if i < len(node.inputs)]
