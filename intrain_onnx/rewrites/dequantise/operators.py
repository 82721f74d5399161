"""Rewrites of quantised operators to float ones, other than MatMulInteger and ConvInteger."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.values import constant_array, name_of, static_shape
from intrain_onnx.rewrites.dequantise.arithmetic import block_weight, dequantise
from intrain_onnx.rewrites.dequantise.float_values import Array, Lifting, Scale

_WEIGHT_AXES = {"Conv": 0, "MatMul": -1}


@dataclass(frozen=True, slots=True)
class QLinear:
    """The signature of an operator on quantised values, of com.microsoft or ONNX.

    Attributes:
        op: the float operator.
        result: input index of the output's scale; its zero point follows.
        operands: input indices of quantised operands; scale and zero point follow each.
        plain: input indices of operands that are not quantised; they are first in the float operator.
        bias: input index of an int32 bias, whose scale is the product of the operands'.
        dropped: attributes that the float operator does not have.
    """

    op: str
    result: int
    operands: tuple[int, ...]
    plain: tuple[int, ...] = ()
    bias: int | None = None
    dropped: tuple[str, ...] = ("channels_last", "opset")


QLINEAR: Mapping[tuple[str, str], QLinear] = {
    ("", "QLinearConv"): QLinear("Conv", 6, (0, 3), bias=8),
    ("", "QLinearMatMul"): QLinear("MatMul", 6, (0, 3)),
    ("com.microsoft", "QGemm"): QLinear("Gemm", 7, (0, 3), bias=6),
    ("com.microsoft", "QLinearAdd"): QLinear("Add", 6, (0, 3)),
    ("com.microsoft", "QLinearMul"): QLinear("Mul", 6, (0, 3)),
    ("com.microsoft", "QLinearSigmoid"): QLinear("Sigmoid", 3, (0,)),
    ("com.microsoft", "QLinearLeakyRelu"): QLinear("LeakyRelu", 3, (0,)),
    ("com.microsoft", "QLinearSoftmax"): QLinear("Softmax", 3, (0,)),
    ("com.microsoft", "QLinearAveragePool"): QLinear("AveragePool", 3, (0,)),
    ("com.microsoft", "QLinearGlobalAveragePool"): QLinear("GlobalAveragePool", 3, (0,)),
    ("com.microsoft", "QLinearWhere"): QLinear("Where", 7, (1, 4), plain=(0,)),
    ("com.microsoft", "QLinearConcat"): QLinear("Concat", 0, ()),
}


def argument(node: ir.Node, index: int) -> ir.Value | None:
    """An input; None if it is omitted."""
    return node.inputs[index] if index < len(node.inputs) else None


def integer(node: ir.Node, name: str, default: int) -> int:
    """An integer attribute."""
    return node.attributes[name].as_int() if name in node.attributes else default


def scale_at(node: ir.Node, index: int, axis: int = 1) -> Scale | None:
    """Quantisation parameters: the scale at an input index, and the zero point at the next."""
    scale = argument(node, index)
    return None if scale is None else Scale(scale, argument(node, index + 1), axis)


def float_of(
    lifting: Lifting, value: ir.Value | None, scale: Scale | None, place: ir.Node
) -> ir.Value | None:
    """The float that an operand represents, or a new DequantizeLinear of it."""
    if value is None or scale is None:
        return None
    found = lifting.lift(value, scale)
    if found is not None or value in lifting.twins or constant_array(scale.scale) is None:
        return found
    inputs = [value, scale.scale, *([scale.zero] if scale.zero is not None else [])]
    axis = {} if _single(scale.scale) else {"axis": ir.AttrInt64("axis", scale.axis)}
    return lifting.node(place, "DequantizeLinear", inputs, axis, dtype=scale.dtype)


def _single(value: ir.Value) -> bool:
    array = constant_array(value)
    return array is not None and array.size == 1


def qlinear(lifting: Lifting, node: ir.Node) -> ir.Value | None:
    """Replace an operator of ``QLINEAR`` by its float one, which its quantised output then represents."""
    form = QLINEAR[node.domain, node.op_type]
    if form.op == "Softmax" and not _same_softmax(lifting, node):
        return None
    operands = form.operands or tuple(range(2, len(node.inputs), 3))
    result = scale_at(node, form.result)
    values = []
    for position, index in enumerate(operands):
        axis = _operand_axis(form, node, position)
        values.append(float_of(lifting, argument(node, index), scale_at(node, index + 1, axis), node))
    bias = argument(node, form.bias) if form.bias is not None else None
    if bias is not None:
        values.append(_bias(lifting, node, bias))
    if any(v is None for v in values):
        return None
    inputs = [*(argument(node, i) for i in form.plain), *values]
    attributes = {n: a for n, a in node.attributes.items() if n not in form.dropped}
    dtype = result.dtype if result is not None else ir.DataType.FLOAT
    if integer(node, "channels_last", 0):
        new = _channels_last(lifting, node, form.op, inputs, attributes, dtype)
    else:
        new = lifting.node(node, form.op, inputs, attributes, dtype=dtype)
    if new is None:
        return None
    if form.op in ("Conv", "MatMul", "Gemm") and constant_array(argument(node, operands[1])) is not None:
        lifting.layers["QLinear operators"] += 1
    if result is None:  # QGemm with float output
        lifting.replace(node.outputs[0], new)
        return new
    new.shape = node.outputs[0].shape
    lifting.stand_for(node.outputs[0], new, result, node)
    return lifting.twins[node.outputs[0]].value


def _operand_axis(form: QLinear, node: ir.Node, position: int) -> int:
    """The axis of per-axis scales: output channels of a weight, rows of the left matrix."""
    if form.op == "Gemm":
        return 0 if integer(node, "transB", 0) else 1
    if form.op == "MatMul" and position == 0:
        return -2
    return _WEIGHT_AXES.get(form.op, 1)


def _bias(lifting: Lifting, node: ir.Node, bias: ir.Value) -> ir.Value | None:
    numbers, x, w = (constant_array(v) for v in (bias, argument(node, 1), argument(node, 4)))
    if numbers is None or x is None or w is None or x.size != 1:
        return None
    alpha = node.attributes["alpha"].as_float() if "alpha" in node.attributes else 1.0
    scale = (alpha * x.astype(np.float32).reshape(()) * w.astype(np.float32)).astype(np.float32)
    floats = dequantise(numbers, scale, None, -1)
    dtype = node.inputs[1].dtype if node.inputs[1] is not None else None
    return (
        None if floats is None else lifting.constant(bias.name or "bias", floats, dtype or ir.DataType.FLOAT)
    )


def _same_softmax(lifting: Lifting, node: ir.Node) -> bool:
    """Whether Softmax has the same axes in the operator's ``opset`` and the model's (changed in opset 13)."""
    before = integer(node, "opset", 13) < 13
    return before == (lifting.model.opset_imports.get("", 1) < 13) or "axis" not in node.attributes


def _channels_last(
    lifting: Lifting,
    node: ir.Node,
    op: str,
    inputs: list[ir.Value | None],
    attributes: Mapping[str, ir.Attr],
    dtype: ir.DataType,
) -> ir.Value | None:
    shape = static_shape(argument(node, 0))
    kernel = node.attributes.get("kernel_shape")
    if kernel is None and shape is None:
        return None
    rank = len(kernel.as_ints()) + 2 if kernel is not None else len(shape or ())
    first = ir.AttrInt64s("perm", [0, rank - 1, *range(1, rank - 1)])
    last = ir.AttrInt64s("perm", [0, *range(2, rank), 1])
    name = name_of(node)
    moved = lifting.node(node, "Transpose", inputs, {"perm": first}, dtype=dtype, name=f"{name}.first")
    made = lifting.node(node, op, [moved], attributes, dtype=dtype)
    return lifting.node(node, "Transpose", [made], {"perm": last}, dtype=dtype, name=f"{name}.last")


def _product(
    lifting: Lifting, node: ir.Node, x: ir.Value, weight: ir.Value, bias: ir.Value | None
) -> ir.Value:
    dtype = x.dtype or ir.DataType.FLOAT
    new = lifting.node(node, "MatMul", [x, weight], dtype=dtype)
    new.shape = node.outputs[0].shape
    if bias is not None:
        new = lifting.node(node, "Add", [new, bias], dtype=dtype)
    lifting.replace(node.outputs[0], new)
    return new


def dynamic_quantize_matmul(lifting: Lifting, node: ir.Node) -> ir.Value | None:
    """DynamicQuantizeMatMul(A, B, B's scale, B's zero point, bias)."""
    x, weight = argument(node, 0), float_of(lifting, argument(node, 1), scale_at(node, 2, -1), node)
    if x is None or weight is None:
        return None
    lifting.layers["dynamic"] += 1
    return _product(lifting, node, x, weight, argument(node, 4))


def matmul_integer_to_float(lifting: Lifting, node: ir.Node) -> ir.Value | None:
    """MatMulIntegerToFloat(A, B, A's scale, B's scale, A's zero point, B's zero point, bias)."""
    scales = [argument(node, 2), argument(node, 3)]
    zeros = [argument(node, 4), argument(node, 5)]
    if scales[0] is None or scales[1] is None:
        return None
    x = float_of(lifting, argument(node, 0), Scale(scales[0], zeros[0], -2), node)
    weight = float_of(lifting, argument(node, 1), Scale(scales[1], zeros[1], -1), node)
    if x is None or weight is None:
        return None
    lifting.layers["dynamic"] += constant_array(argument(node, 1)) is not None
    return _product(lifting, node, x, weight, argument(node, 6))


def matmul_nbits(lifting: Lifting, node: ir.Node) -> ir.Value | None:
    """MatMulNBits(A, B, scales, zero points, group index, bias): B packs N rows of K 2- to 8-bit numbers."""
    x, packed, scales = (
        argument(node, 0),
        constant_array(argument(node, 1)),
        constant_array(argument(node, 2)),
    )
    zeros = constant_array(argument(node, 3))
    unknown = argument(node, 3) is not None and zeros is None
    if x is None or packed is None or scales is None or unknown or argument(node, 4) is not None:
        return None
    rows, columns, block = (integer(node, n, 0) for n in ("N", "K", "block_size"))
    bits = integer(node, "bits", 4)
    floats = block_weight(packed, scales, zeros, rows=rows, columns=columns, block=block, bits=bits)
    if floats is None:
        return None
    assert node.inputs[1] is not None
    assert node.inputs[2] is not None
    dtype = node.inputs[2].dtype or ir.DataType.FLOAT
    lifting.layers["weight-only"] += 1
    weight = lifting.constant(node.inputs[1].name or "weight", floats, dtype)
    return _product(lifting, node, x, weight, argument(node, 5))


def dynamic_quantize_lstm(lifting: Lifting, node: ir.Node) -> ir.Value | None:
    """DynamicQuantizeLSTM: LSTM with 8-bit weights of shape (directions, inputs, gates)."""
    weights = []
    for index, scale, zero in ((1, 8, 9), (2, 10, 11)):
        arrays = [constant_array(argument(node, i)) for i in (index, scale, zero)]
        weights.append(_gates(arrays[0], arrays[1], arrays[2]))
    if weights[0] is None or weights[1] is None:
        return None
    names = [f"{(v.name if v is not None else None) or 'weight'}" for v in node.inputs[1:3]]
    values = [lifting.constant(n, w) for n, w in zip(names, weights, strict=True) if w is not None]
    inputs = [node.inputs[0], *values, *node.inputs[3:8]]
    while inputs[-1] is None:
        inputs.pop()
    first = lifting.node(node, "LSTM", inputs, node.attributes, outputs=len(node.outputs))
    made = first.producer()
    assert made is not None
    for old, new in zip(node.outputs, made.outputs, strict=True):
        if old.name:
            lifting.replace(old, new)
        else:
            new.name = ""
    lifting.layers["dynamic"] += 1
    return first


def _gates(numbers: Array | None, scale: Array | None, zero: Array | None) -> Array | None:
    """Dequantised weights as (directions, gates, inputs); scales per direction, or also per gate row."""
    if numbers is None or scale is None or numbers.ndim != 3:
        return None
    directions, _, gates = numbers.shape
    parts = []
    for d in range(directions):
        if scale.size not in (directions, directions * gates) or (
            zero is not None and zero.size != scale.size
        ):
            return None
        own = scale.reshape(directions, -1)[d]
        floats = dequantise(numbers[d], own, None if zero is None else zero.reshape(directions, -1)[d], -1)
        if floats is None:
            return None
        parts.append(floats.T)
    return np.ascontiguousarray(np.stack(parts))


def quantize_linear(lifting: Lifting, node: ir.Node) -> None:
    """QuantizeLinear: record that its output represents its input."""
    scale = scale_at(node, 1)
    if node.inputs[0] is not None and scale is not None:
        lifting.stand_for(node.outputs[0], node.inputs[0], _along(node, scale), node)


def dynamic_quantize_linear(lifting: Lifting, node: ir.Node) -> None:
    """DynamicQuantizeLinear: record that its output represents its input, with computed parameters."""
    if node.inputs[0] is not None and len(node.outputs) == 3:
        y, scale, zero = node.outputs
        lifting.stand_for(y, node.inputs[0], Scale(scale, zero), node)


def dequantize_linear(lifting: Lifting, node: ir.Node) -> None:
    """DequantizeLinear: replace its output by the float that its input represents."""
    scale = scale_at(node, 1)
    if scale is None:
        return
    found = lifting.lift(node.inputs[0], _along(node, scale))
    if found is not None:
        lifting.replace(node.outputs[0], found)


def _along(node: ir.Node, scale: Scale) -> Scale:
    return Scale(scale.scale, scale.zero, integer(node, "axis", 1), integer(node, "block_size", 0))
