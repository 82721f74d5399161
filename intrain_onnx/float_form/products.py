"""Products of integers and the nodes that scale them to floats.

Quantisers write ``Mul(Cast(MatMulInteger(q, w, ...)), Mul(scale of q, scale of w))``, and for a convolution
``Add(that, Reshape(bias))`` behind it. Scales may be multiplied in any order, in one Mul or in two.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from intrain_onnx.float_form.lifting import Array, Lifting, Scale
from intrain_onnx.float_form.operators import argument
from intrain_onnx.values import constant_array, source

_FLOAT_OP = {"MatMulInteger": "MatMul", "ConvInteger": "Conv"}
_VIEWS = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze"})


def integer_product(lifting: Lifting, node: ir.Node) -> ir.Value | None:
    """The float form of MatMulInteger or ConvInteger with what scales its result."""
    convolution = node.op_type == "ConvInteger"
    operands = [_Operand.of(lifting, node, i) for i in (0, 1)]
    wanted = [o.scale for o in operands if o.scale is not None]
    chain = _Chain(node.outputs[0], wanted)
    if not chain.follow() or chain.missing:
        return None
    factor = chain.constant if chain.constant is not None else np.array(1, np.float32)
    values: list[ir.Value | None] = []
    for operand in operands:
        if operand.scale is not None:
            values.append(operand.value)
        elif operand.numbers is not None and (factor.size == 1 or operand.index == 1):
            axis = 0 if convolution and operand.index == 1 else -1
            scale = lifting.constant(f"{operand.name}.scale", factor)
            values.append(lifting.lift(argument(node, operand.index), Scale(scale, argument(node, operand.index + 2), axis)))
            factor = np.array(1, np.float32)
        else:
            return None
    if any(v is None for v in values) or factor.size != 1 or factor.reshape(()) != 1:
        return None
    result = chain.value
    bias = _bias_behind(result) if convolution else None
    if bias is not None:
        values.append(bias[0])
        result = bias[1]
    place = result.producer()
    assert place is not None
    new = lifting.node(place, _FLOAT_OP[node.op_type], values, node.attributes, name=node.name or None)
    lifting.replace(result, new)
    lifting.layers["dynamic"] += operands[1].numbers is not None
    return new


@dataclass(frozen=True, slots=True)
class _Operand:
    """One side of a product: made from a float by a scale in the graph, or constant numbers."""

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


@dataclass
class _Chain:
    """Cast and multiplications behind a product, up to the last that belongs to its scales."""

    value: ir.Value
    missing: list[ir.Value]
    constant: Array | None = None
    seen: list[ir.Value] = field(default_factory=list)

    def follow(self) -> bool:
        """Go on while the only reader scales; False where the result is not even cast to float."""
        cast = _only_reader(self.value, "Cast")
        if cast is None or not ir.DataType(cast.attributes["to"].as_int()).is_floating_point():
            return False
        self.value = cast.outputs[0]
        while (node := _only_reader(self.value, "Mul")) is not None:
            other = node.inputs[1] if node.inputs[0] is self.value else node.inputs[0]
            factors = _factors(other)
            if factors is None:
                break
            graph_scales = [f for f in factors if isinstance(f, ir.Value)]
            if any(not any(s is m for m in self.missing) for s in graph_scales):
                break
            if not self.missing and self.constant is not None:
                break  # both scales are there: this one belongs to the network
            for found in graph_scales:
                self.missing.remove(found)
            for array in factors:
                if not isinstance(array, ir.Value):
                    flat = array.astype(np.float32).reshape(-1)
                    self.constant = flat if self.constant is None else self.constant * flat
            self.value = node.outputs[0]
        return True


def _only_reader(value: ir.Value, op_type: str) -> ir.Node | None:
    users = list(value.uses())
    if len(users) != 1 or value.is_graph_output():
        return None
    node = users[0].node
    return node if node.op_type == op_type and not node.domain else None


def _factors(value: ir.Value | None, depth: int = 0) -> list[ir.Value | Array] | None:
    """The constants and the dynamic scales whose product a value is."""
    if value is None or depth > 8:
        return None
    array = constant_array(value)
    if array is not None:
        return [array] if array.dtype.kind == "f" else None
    node = value.producer()
    if node is None or node.domain:
        return None
    if node.op_type == "DynamicQuantizeLinear":
        return [value]
    if node.op_type in _VIEWS:
        return _factors(node.inputs[0], depth + 1)
    if node.op_type != "Mul":
        return None
    parts = [_factors(v, depth + 1) for v in node.inputs]
    return None if parts[0] is None or parts[1] is None else [*parts[0], *parts[1]]


def _bias_behind(value: ir.Value) -> tuple[ir.Value, ir.Value] | None:
    """The constant vector that is added to a convolution's channels right behind it, and the sum."""
    node = _only_reader(value, "Add")
    if node is None:
        return None
    other = node.inputs[1] if node.inputs[0] is value else node.inputs[0]
    found = source(other)
    if found is None or found[0].const_value is None:
        return None
    shape = [int(d) for d in found[0].const_value.shape.numpy()]
    if len(shape) != 1 or len(found[1]) != 1 or found[1][0].op_type != "Reshape":
        return None
    target = constant_array(found[1][0].inputs[1])
    along = target is not None and target.size >= 3 and list(target[2:]) == [1] * (target.size - 2) and target[0] == 1
    return (found[0], node.outputs[0]) if along else None
