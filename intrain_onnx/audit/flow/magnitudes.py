"""What makes a value large without a fault: masks that were added, and squares that only a norm reads."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.values import constant_array
from intrain_onnx.opset.kinds import EVERY_INPUT, Kind, Property
from intrain_onnx.opset.traits import has, is_op, is_view, kind, traits

_LARGE = 1e4
"""Least magnitude of a mask."""

_BOUNDED = ("Erf", "Exp", "Sigmoid", "Softmax", "Softsign", "Sqrt", "Tanh")
"""Operators that undo a power: bounded ones, the root, and Exp, finite for negative powers alone."""

_ROOTS = (0.5, -0.5)


def masks(graph: ir.Graph, slots: Container[str], measured: Mapping[str, float]) -> Mapping[ir.Value, float]:
    """Magnitude of the masks in values: of constants, or computed from the inputs without any parameter.

    Args:
        graph: with the values.
        slots: names of the parameters.
        measured: largest magnitude in a run, by name.
    """
    found = _Masks()
    trained: set[ir.Value] = set()
    for node in graph.all_nodes():
        reads = [v for v in node.inputs if v is not None]
        if not has(node, Property.SHAPE_ONLY) and any(v in trained or v.name in slots for v in reads):
            trained.update(node.outputs)
        for value in node.outputs:
            known = found.passed(node) if value in trained else measured.get(value.name or "", 0.0)
            if _LARGE <= known < math.inf:
                found.of[value] = known
    return found.of


@dataclass
class _Masks:
    of: dict[ir.Value, float] = field(default_factory=dict)

    def passed(self, node: ir.Node) -> float:
        """Magnitude of the masks that a node hands on."""
        each = [self._operand(v) for v in node.inputs]
        if is_op(node, "Add", "Sub", "Sum"):
            return sum(each)
        if is_op(node, "Mul", "Div"):
            return self._scaled(node)
        elements = traits(node).elements_of
        if is_view(node) or is_op(node, "Neg", "Slice", "Gather", "Expand", "Clip", "Split", "Tile"):
            elements = (0,)
        return max((e for i, e in enumerate(each) if i in elements or EVERY_INPUT in elements), default=0.0)

    def _scaled(self, node: ir.Node) -> float:
        mask, scale = (self._operand(node.inputs[0]), constant_array(node.inputs[1]))
        if scale is None and is_op(node, "Mul"):
            mask, scale = (self._operand(node.inputs[1]), constant_array(node.inputs[0]))
        if scale is None or scale.size != 1:
            return 0.0
        factor = abs(float(scale.reshape(-1)[0]))
        return mask * factor if is_op(node, "Mul") else mask / (factor or 1.0)

    def _operand(self, value: ir.Value | None) -> float:
        if value is None:
            return 0.0
        array = constant_array(value)
        return self.of.get(value, 0.0) if array is None else _mask_of(array)


def _mask_of(array: np.ndarray[Any, Any]) -> float:
    """Magnitude of a constant mask, whose other numbers are zero; 0 for any other constant."""
    if array.dtype.kind != "f" or not array.size:
        return 0.0
    large = array[np.abs(array) >= _LARGE]
    rest = array[np.abs(array) < _LARGE]
    if not large.size or rest.any() or float(large.min()) != float(large.max()):
        return 0.0
    return abs(float(large.flat[0]))


def degrees(graph: ir.Graph) -> Mapping[ir.Value, int]:
    """Squares and cubes that only a root or a bounded function reads, and the means and sums of them.

    Such values are as large as the power of what the network computes: in an RMSNorm, a GELU by tanh.
    """
    found: dict[ir.Value, int] = {}
    for node in graph.all_nodes():
        degree = _power(node, found)
        if degree > 1:
            found[node.outputs[0]] = degree
    kept: dict[ir.Value, bool] = {}
    for node in reversed(list(graph.all_nodes())):
        for value in found.keys() & set(node.outputs):
            uses = [use.node for use in value.uses()]
            kept[value] = bool(uses) and all(
                _undoes(n) or any(kept.get(v, False) for v in n.outputs) for n in uses
            )
    return {value: degree for value, degree in found.items() if kept[value]}


def _power(node: ir.Node, found: Mapping[ir.Value, int]) -> int:
    """The degree of a node's output as a power; 1 if it is none."""
    inputs = [v for v in node.inputs if v is not None]
    if is_op(node, "Pow") and len(inputs) == 2:
        exponent = _number(inputs[1])
        return int(exponent) if exponent in (2.0, 3.0) else 1
    if is_op(node, "Mul") and len(inputs) == 2:
        a, b = inputs
        if a is b:
            return 2 * found.get(a, 1)
        if any(v in found and _is_square_of(v, other) for v, other in ((a, b), (b, a))):
            return 3
        variable = [v for v in inputs if constant_array(v) is None]
        return found.get(variable[0], 1) if len(variable) == 1 else 1
    if is_op(node, "Add", "Sub", "Max", "Min", "Sum") or kind(node) is Kind.REDUCTION or is_view(node):
        return max((found.get(v, 1) for v in inputs), default=1)
    if is_op(node, "Div") and constant_array(inputs[1]) is None:
        return 1
    return found.get(inputs[0], 1) if is_op(node, "Clip", "Expand", "Div") else 1


def _is_square_of(square: ir.Value, value: ir.Value) -> bool:
    node = square.producer()
    return node is not None and value in node.inputs


def _undoes(node: ir.Node) -> bool:
    if is_op(node, "Pow"):
        return _number(node.inputs[1]) in _ROOTS
    return is_op(node, *_BOUNDED)


def _number(value: ir.Value | None) -> float | None:
    array = constant_array(value)
    return float(array.reshape(-1)[0]) if array is not None and array.size == 1 else None
