"""Shape conflicts: operators whose input shapes violate an equality or a lower bound of sizes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from intrain_onnx.network.values import constant_array, static_shape
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, kind

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """A size in a shape constraint: a dimension of a value, or a constant.

    Attributes:
        value: whose dimension it is; None for a constant.
        axis: of that value.
        size: current size.
    """

    value: ir.Value | None
    axis: int
    size: int


@dataclass(frozen=True, slots=True)
class Conflict:
    """A node whose input shapes violate one of its constraints.

    Attributes:
        place: index of the node in graph order, and of the constraint within the node.
        node: the node.
        given: the size that violates it.
        wanted: the required size.
        at_least: ``wanted`` is a lower bound.
    """

    place: tuple[int, int]
    node: ir.Node
    given: Size
    wanted: Size
    at_least: bool = False


def first_conflict(graph: ir.Graph) -> Conflict | None:
    """The first conflict in the main graph, in node order; unknown shapes are skipped."""
    for index, node in enumerate(graph):
        for order, (given, wanted, at_least) in enumerate(_demands(node)):
            if given.size < wanted.size or (not at_least and given.size != wanted.size):
                return Conflict((index, order), node, given, wanted, at_least)
    return None


_Demand = tuple[Size, Size, bool]


def _demands(node: ir.Node) -> Iterator[_Demand]:
    found = _BY_OPERATOR.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    if found is not None:
        yield from found(node)
    elif kind(node) is Kind.ELEMENTWISE or is_op(node, "Where"):
        yield from _broadcast(node)
    elif kind(node) is Kind.POOL:
        yield from _windows(node)


def _dimension(value: ir.Value | None, axis: int) -> Size | None:
    shape = static_shape(value) if value is not None else None
    if shape is None or not -len(shape) <= axis < len(shape):
        return None
    return Size(value, axis % len(shape), shape[axis])


def _equal(a: Size | None, b: Size | None) -> Iterator[_Demand]:
    if a is not None and b is not None:
        yield a, b, False


def _matmul(node: ir.Node) -> Iterator[_Demand]:
    left, right = node.inputs[:2]
    shapes = [static_shape(v) if v is not None else None for v in (left, right)]
    if any(not s for s in shapes):
        return
    rank = len(shapes[1] or ())
    yield from _equal(_dimension(left, -1), _dimension(right, -2 if rank > 1 else 0))


def _gemm(node: ir.Node) -> Iterator[_Demand]:
    left = 0 if node.attributes.get_int("transA", 0) else 1
    right = 1 if node.attributes.get_int("transB", 0) else 0
    yield from _equal(_dimension(node.inputs[0], left), _dimension(node.inputs[1], right))


def _convolution(node: ir.Node) -> Iterator[_Demand]:
    weight = _dimension(node.inputs[1], 1)
    channels = _dimension(node.inputs[0], 1)
    if weight is not None and channels is not None:
        yield channels, Size(None, 0, weight.size * node.attributes.get_int("group", 1)), False
    shape = static_shape(node.inputs[1]) if node.inputs[1] is not None else None
    if shape is not None:
        yield from _windows(node, shape[2:])


def _windows(node: ir.Node, kernel: Shape = ()) -> Iterator[_Demand]:
    """Constraint: the dilated kernel is no larger than the padded input."""
    told = node.attributes.get_ints("kernel_shape", ())
    kernel = tuple(told) or kernel
    padding = node.attributes.get_ints("pads", ()) or (0,) * (2 * len(kernel))
    dilations = node.attributes.get_ints("dilations", ()) or (1,) * len(kernel)
    automatic = node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")
    if automatic or len(padding) != 2 * len(kernel) or len(dilations) != len(kernel):
        return
    for i, (size, dilation) in enumerate(zip(kernel, dilations, strict=True)):
        given = _dimension(node.inputs[0], i + 2)
        if given is not None:
            least = (size - 1) * dilation + 1 - padding[i] - padding[i + len(kernel)]
            yield given, Size(None, 0, max(least, 1)), True


def _broadcast(node: ir.Node) -> Iterator[_Demand]:
    values = [v for v in node.inputs if v is not None]
    shapes = [static_shape(v) for v in values]
    if any(s is None for s in shapes):
        return
    for back in range(1, max((len(s or ()) for s in shapes), default=0) + 1):
        sizes = [d for v in values if (d := _dimension(v, -back)) is not None and d.size != 1]
        for other in sizes[1:]:
            yield sizes[0], other, False


def _concat(node: ir.Node) -> Iterator[_Demand]:
    shapes = [static_shape(v) if v is not None else None for v in node.inputs]
    first = shapes[0]
    if first is None:
        return
    along = node.attributes.get_int("axis", 0) % max(len(first), 1)
    for value in node.inputs[1:]:
        for axis in range(len(first)):
            if axis != along:
                yield from _equal(_dimension(node.inputs[0], axis), _dimension(value, axis))


def _reshape(node: ir.Node) -> Iterator[_Demand]:
    """Constraint: a target without -1 has as many elements as the input; axes that it drops are adjusted.

    Axes of equal size, as of a square image, are adjusted together. One constraint per axis.
    """
    shape = static_shape(node.inputs[0]) if node.inputs[0] is not None else None
    target = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if not shape or target is None or node.attributes.get_int("allowzero", 0) == 1:
        return
    wanted = [shape[i] if d == 0 and i < len(shape) else int(d) for i, d in enumerate(target.reshape(-1))]
    if any(d < 0 for d in wanted) or 0 in shape:
        return
    open_axes = [i for i, d in enumerate(shape) if d not in wanted]
    for axis, size in enumerate(shape):
        together = [i for i in open_axes if shape[i] == size] if axis in open_axes else []
        rest = math.prod(shape) // size ** max(len(together), 1)
        each = round((math.prod(wanted) / max(rest, 1)) ** (1 / max(len(together), 1)))
        fits = bool(together) and each > 0 and rest * each ** len(together) == math.prod(wanted)
        yield Size(node.inputs[0], axis, size), Size(None, 0, each if fits else size), False


def _channels(axis: int, parameter: int) -> Callable[[ir.Node], Iterator[_Demand]]:
    def demands(node: ir.Node) -> Iterator[_Demand]:
        if len(node.inputs) > parameter:
            yield from _equal(_dimension(node.inputs[0], axis), _dimension(node.inputs[parameter], -1))

    return demands


def _layer_norm(node: ir.Node) -> Iterator[_Demand]:
    if node.attributes.get_int("axis", -1) == -1 and len(node.inputs) > 1:
        yield from _equal(_dimension(node.inputs[0], -1), _dimension(node.inputs[1], -1))


def _recurrence(node: ir.Node) -> Iterator[_Demand]:
    yield from _equal(_dimension(node.inputs[0], 2), _dimension(node.inputs[1], 2))


_BY_OPERATOR: Mapping[str, Callable[[ir.Node], Iterator[_Demand]]] = {
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Conv": _convolution,
    "Concat": _concat,
    "Reshape": _reshape,
    "BatchNormalization": _channels(1, 1),
    "InstanceNormalization": _channels(1, 1),
    "LayerNormalization": _layer_norm,
    "LSTM": _recurrence,
    "GRU": _recurrence,
    "RNN": _recurrence,
}
