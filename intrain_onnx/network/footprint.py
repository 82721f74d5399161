"""Estimates memory and work of a run from inferred shapes, without running: a sum over the graph.

Memory is that of a forward pass whose activations autograd keeps: those that the backward pass of a later
operator reads, or that of the operator itself.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

import onnx_ir as ir

from intrain_onnx.network.layers import data_dependent
from intrain_onnx.network.subgraphs import bodies, scan_length
from intrain_onnx.network.values import constant_array, has_macs, macs, shape_of, static_shape
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, kind

FLOAT = 4
"""Bytes of a float in a run: halves are computed as floats."""

_LINEAR = ("Add", "Sub", "Sum", "Neg", "Mean", "Cast", "Identity", "CumSum", "Where")
"""Element-wise operators whose gradient reads no activation."""

_BY_OUTPUT = ("Exp", "LogSoftmax", "Relu", "Sigmoid", "Softmax", "Sqrt", "Tanh")
"""Operators whose gradient reads their output and not their input."""

_GATES = 6
"""Values that a recurrence keeps for each element of its output: gates, cell and state."""


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory and work of a graph for one sample.

    Attributes:
        constant: bytes of initializers that are held, and of values that depend on no input.
        kept: bytes of activations that autograd keeps, per sample.
        largest: bytes of the largest activation, per sample.
        place: the value that has it; None if no shape is known.
        macs: multiply-accumulate operations, per sample; those of unknown shapes are left out.
        made: bytes of the largest initializer that is not held.
        copied: bytes of copies of weights (see ``recomputed``).
    """

    constant: int
    kept: int
    largest: int
    place: ir.Value | None
    macs: int
    made: int = 0
    copied: int = 0

    def peak(self, samples: int) -> int:
        """Bytes of a forward and backward pass: parameters, activations, and temporaries."""
        held = int(_COPIES * self.constant) + self.copied + _MADE * self.made
        return held + samples * (self.kept + _TEMPORARIES * self.largest)


_COPIES = 1.25
"""Of weights: a parameter, and for a while its gradient, which is freed once it is read."""

_MADE = 3
"""Of a weight that is not held: itself, its gradient, and a copy in another layout or element type."""

_TEMPORARIES = 3
"""Of the largest activation: its gradient, and what measuring copies."""


def footprint(model: ir.Model, samples: int = 1, not_held: Collection[str] = ()) -> Footprint:
    """Estimate a graph.

    Args:
        model: a normalised model, with shapes inferred.
        samples: that its shapes are for.
        not_held: names of initializers that are made when they are read.
    """
    data = data_dependent(model.graph)
    constant = held_bytes(model, not_held)
    made = max((size_of(model.graph.initializers[name]) for name in not_held), default=0)
    kept = largest = work = 0
    place: ir.Value | None = None
    for value in model.graph.inputs:
        if size_of(value) > largest:
            largest, place = size_of(value), value
    for node, times in _executions(model.graph, 1):
        work += times * ((macs(node) or 0) if has_macs(node) else 0)
        for value in node.outputs:
            size = size_of(value)
            if value not in data:
                constant += size
                continue
            if size > largest:
                largest, place = size, value
            kept += times * size * _keeps(node, value)
    return Footprint(constant, kept // samples, largest // samples, place, work // samples, made)


def kept_of(node: ir.Node, data: Collection[ir.Value]) -> int:
    """Bytes that autograd keeps of what a node makes out of ``data``, in its bodies too."""
    return sum(
        times * size_of(value) * _keeps(inner, value)
        for inner, times in _executions([node], 1)
        for value in inner.outputs
        if value in data
    )


def held_bytes(model: ir.Model, not_held: Collection[str] = ()) -> int:
    """Bytes of the initializers in a run, without some."""
    apart = frozenset(not_held)
    return sum(size_of(v) for name, v in model.graph.initializers.items() if name not in apart)


def _executions(graph: Iterable[ir.Node], times: int) -> Iterator[tuple[ir.Node, int]]:
    """Every node, subgraphs included, with the number of its executions as far as it is known."""
    for node in graph:
        yield node, times
        for _, body in bodies(node):
            yield from _executions(body, times * _rounds(node, body))


def _rounds(node: ir.Node, body: ir.Graph) -> int:
    if is_op(node, "Loop"):
        count = constant_array(node.inputs[0])
        return max(int(count.reshape(-1)[0]), 1) if count is not None else 1
    if is_op(node, "Scan"):
        return scan_length(node, body) or 1
    return 1


def _keeps(node: ir.Node, value: ir.Value) -> int:
    """How often a value's size is kept for the backward pass."""
    if kind(node) is Kind.RECURRENT:
        return _GATES if value is node.outputs[0] else 0
    if kind(node) is Kind.VIEW or not _is_float(value):
        return 0
    if is_op(node, *_BY_OUTPUT):
        return 1
    return int(any(_reads(user) for user, _ in value.uses()))


def _reads(node: ir.Node) -> bool:
    """Whether the gradient of a node reads its input."""
    if is_op(node, *_BY_OUTPUT):
        return False
    if kind(node) is Kind.VIEW:
        return any(_reads(user) for user, _ in node.outputs[0].uses())
    if is_op(node, "Mul", "Div") and any(v is not None and _is_number(v) for v in node.inputs):
        return False
    if kind(node) is Kind.ELEMENTWISE:
        return not is_op(node, *_LINEAR) and not has(node, Property.NO_GRADIENT)
    return kind(node) not in (Kind.SHAPE, Kind.REDUCTION, Kind.SELECTION) and not is_op(node, "Concat")


def _is_number(value: ir.Value) -> bool:
    return value.const_value is not None and value.const_value.size == 1


def _is_float(value: ir.Value) -> bool:
    return value.dtype is None or value.dtype.is_floating_point()


def size_of(value: ir.Value, *, stored: bool = False) -> int:
    """Bytes of a value in a run; 0 for an unknown shape. With ``stored``, in the element type of the file."""
    shape = shape_of(value) if value.const_value is not None else static_shape(value)
    if shape is None:
        return 0
    own = value.dtype.itemsize if value.dtype else FLOAT
    size = own if stored or own > FLOAT or not _is_float(value) else FLOAT
    return int(math.prod(shape) * size)
