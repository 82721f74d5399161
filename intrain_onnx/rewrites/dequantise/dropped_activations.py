"""Restoration of activations that a quantiser removed, as saturation of the quantised range computes them.

If the zero point is the least number of the type, quantisation saturates negative values to zero: it computes
a Relu, and quantisers remove the node (and a Clip, such as Relu6, whose bound is the end of the range). A
dequantised graph does not saturate, so the activation is inserted again.

Rule: a Relu follows a value that is quantised with one scale and the least zero point, if a product, sum or
normalisation computes it (directly, or through views) and sign analysis does not show that it is never
negative. So none follows a graph input, a softmax, or a sum of two activations. It is Clip(0, 6) or
Clip(0, 1) if the range ends there to float32's precision: no range of data ends exactly there by chance. The
quantised model saturates in any case, so a superfluous Relu changes nothing; other bounds (Clip(-1, 1))
cannot be distinguished from the range of the data.
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
    """Bounds of the activation that quantising ``x`` computes by saturation; (0, None) for a Relu, or None.

    Args:
        x: the float value that is quantised.
        scale: its scale; None if not constant.
        zero: its zero point; None for zero, or if not constant.
        quantised: element type of the quantised value.
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
    """Sign analysis: whether a value has provably no negative element."""
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
    """The inputs that hold data, not indices, sizes or conditions."""
    row = traits(node)
    if EVERY_INPUT in row.elements_of or (row.kind in (*_COMPUTES, Kind.ELEMENTWISE) and not row.elements_of):
        return node.inputs
    return [node.inputs[i] for i in row.elements_of or (0,) if i < len(node.inputs)]
