"""Pattern matching of MatMulInteger and ConvInteger with the nodes that rescale their result to float.

Quantisers write ``Mul(Cast(MatMulInteger(q, w, ...)), Mul(scale of q, scale of w))``, for a convolution
followed by ``Add(that, Reshape(bias))``. Scales may be multiplied in any order, in one Mul or in two. Older
ones add the bias as an integer before the Cast: ``Reshape(Cast(Floor(Div(bias, scale of the product))))``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.values import constant_array, source
from intrain_onnx.opset.traits import is_op, is_view, traits
from intrain_onnx.rewrites.dequantise.float_values import Array, Lifting, Scale
from intrain_onnx.rewrites.dequantise.operators import argument


def integer_product(lifting: Lifting, node: ir.Node) -> ir.Value | None:
    """Replace MatMulInteger or ConvInteger and its rescaling by a float product; None without a match."""
    convolution = is_op(node, "ConvInteger")
    operands = [_Operand.of(lifting, node, i) for i in (0, 1)]
    spatial = max(len(operands[1].shape) - 2, 0) if convolution else 0
    chain = _Chain(node.outputs[0], spatial, [o.scale for o in operands if o.is_scaled_by_the_graph])
    if not chain.follow() or chain.missing:
        return None
    factor = chain.constant
    for operand in operands:
        factor = factor / operand.constant_scale
    values = [
        _float_operand(lifting, node, operand, factor, 0 if convolution else -1) for operand in operands
    ]
    unscaled = all(o.value is not None for o in operands) and not np.allclose(factor, 1)
    if unscaled or any(v is None for v in values):
        return None
    result = chain.value
    bias = _bias_behind(result) if convolution and chain.bias is None else None
    if bias is not None:
        result = bias[1]
    vector = bias[0] if bias is not None else chain.bias
    if vector is not None:
        values.append(vector)
    place = result.producer()
    assert place is not None
    op_type = traits(node).float_form
    assert op_type is not None
    new = lifting.node(place, op_type, values, node.attributes, name=node.name or None)
    lifting.replace(result, new)
    lifting.layers["dynamic"] += operands[1].numbers is not None
    return new


def _float_operand(
    lifting: Lifting, node: ir.Node, operand: _Operand, factor: Array, axis: int
) -> ir.Value | None:
    """The float value that was quantised, or the constant integers dequantised by ``factor``."""
    if operand.value is not None:
        return operand.value
    if operand.numbers is None or (operand.index == 0 and factor.size > 1):
        return None
    scale = lifting.constant(f"{operand.name}.scale", factor)
    zero = argument(node, operand.index + 2)
    return lifting.lift(argument(node, operand.index), Scale(scale, zero, axis))


@dataclass(frozen=True, slots=True)
class _Operand:
    """One operand of an integer product: a quantised float value, or constant integers."""

    index: int
    name: str
    value: ir.Value | None
    scale: ir.Value | None
    numbers: Array | None

    @classmethod
    def of(cls, lifting: Lifting, node: ir.Node, index: int) -> _Operand:
        given = argument(node, index)
        name = (given.name if given is not None else None) or "weight"
        scale = lifting.scale_of(given, argument(node, index + 2))
        value = lifting.lift(given, scale) if scale is not None else None
        numbers = constant_array(given)
        return cls(index, name, value, scale.scale if scale is not None else None, numbers)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.numbers.shape if self.numbers is not None else ()

    @property
    def is_scaled_by_the_graph(self) -> bool:
        return self.scale is not None and constant_array(self.scale) is None

    @property
    def constant_scale(self) -> Array:
        array = constant_array(self.scale) if self.value is not None else None
        return np.ones(1, np.float32) if array is None else array.astype(np.float32).reshape(-1)


@dataclass
class _Chain:
    """The Cast and Muls that rescale an integer product.

    Attributes:
        value: the last result matched.
        spatial: number of axes after the output channels.
        missing: scales computed in the graph that are not matched yet.
        constant: product of the constant scales, along the output channels.
        bias: the float vector of a bias added in integers; None without one.
    """

    value: ir.Value
    spatial: int
    missing: list[ir.Value | None]
    constant: Array = field(default_factory=lambda: np.ones(1, np.float32))
    bias: ir.Value | None = None

    def follow(self) -> bool:
        """Match while the only reader is a scaling; False if the result is not cast to float."""
        adder = _only_reader(self.value, "Add") if self.spatial else None
        if adder is not None:
            self.bias = _rounded_bias(adder.inputs[1] if adder.inputs[0] is self.value else adder.inputs[0])
            if self.bias is None:
                return False
            self.value = adder.outputs[0]
        cast = _only_reader(self.value, "Cast")
        if cast is None or not ir.DataType(cast.attributes["to"].as_int()).is_floating_point():
            return False
        self.value = cast.outputs[0]
        constants = 0
        while (node := _only_reader(self.value, "Mul")) is not None and (self.missing or not constants):
            other = node.inputs[1] if node.inputs[0] is self.value else node.inputs[0]
            factors = _factors(other, self.spatial)
            if factors is None or not self._take(factors):
                break
            constants += any(not isinstance(f, ir.Value) for f in factors)
            self.value = node.outputs[0]
        return True

    def _take(self, factors: list[ir.Value | Array]) -> bool:
        scales = [f for f in factors if isinstance(f, ir.Value)]
        arrays = [f for f in factors if not isinstance(f, ir.Value)]
        along = all(a.size == 1 or a.shape[: a.ndim - self.spatial][-1:] == (a.size,) for a in arrays)
        if not along or any(scales.count(s) > self.missing.count(s) for s in scales):
            return False
        for scale in scales:
            self.missing.remove(scale)
        for array in arrays:
            self.constant = self.constant * array.astype(np.float32).reshape(-1)
        return True


def _rounded_bias(value: ir.Value | None) -> ir.Value | None:
    """The constant float vector that was divided by a scale and rounded to this integer bias; else None."""
    node = value.producer() if value is not None else None
    if node is not None and _reshapes(node):
        value = node.inputs[0]
    for op_types in (("Cast",), ("Floor", "Round")):
        node = value.producer() if value is not None else None
        if node is None or not is_op(node, *op_types):
            return None
        value = node.inputs[0]
    division = value.producer() if value is not None else None
    if division is None or not is_op(division, "Div") or _factors(division.inputs[1], 0) is None:
        return None
    vector = division.inputs[0]
    array = constant_array(vector)
    return vector if array is not None and array.dtype.kind == "f" and array.ndim == 1 else None


def _reshapes(node: ir.Node) -> bool:
    """Whether a node changes the shape only: not the order or the type of elements."""
    return is_view(node) and not is_op(node, "Cast", "Transpose")


def _only_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    users = list(value.uses())
    if len(users) != 1 or value.is_graph_output():
        return None
    node = users[0].node
    return node if is_op(node, op_type) else None


def _factors(value: ir.Value | None, spatial: int, depth: int = 0) -> list[ir.Value | Array] | None:
    """The constant and dynamic scales that a value is the product of; None if it is no such product."""
    if value is None or depth > 8:
        return None
    array = constant_array(value)
    if array is not None:
        return [array] if array.dtype.kind == "f" else None
    node = value.producer()
    if node is None or node.domain:
        return None
    if is_op(node, "DynamicQuantizeLinear"):
        return [value]
    if _reshapes(node):
        array = constant_array(node.inputs[0])
        if array is not None:  # reshaped to broadcast along the output channels
            return [array.reshape(array.size, *[1] * spatial)] if array.dtype.kind == "f" else None
        return _factors(node.inputs[0], spatial, depth + 1)
    if not is_op(node, "Mul"):
        return None
    parts = [_factors(v, spatial, depth + 1) for v in node.inputs]
    return None if parts[0] is None or parts[1] is None else [*parts[0], *parts[1]]


def _bias_behind(value: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    """The constant vector that a following Add adds per channel of a convolution, and the sum; else None."""
    node = _only_reader(value, "Add")
    if node is None:
        return None
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    found = source(other)
    if found is None or found[0].const_value is None:
        return None
    shape = [int(d) for d in found[0].const_value.shape.numpy()]
    if len(shape) != 1 or len(found[1]) != 1 or not is_op(found[1][0], "Reshape"):
        return None
    target = constant_array(found[1][0].inputs[1])
    along = (
        target is not None
        and target.size >= 3
        and list(target[2:]) == [1] * (target.size - 2)
        and target[0] == 1
    )
    return (found[0], node.outputs[0]) if along else None
