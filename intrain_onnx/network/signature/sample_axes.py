"""Proves that a graph computes each sample by itself, so that it can be given any number of them at once.

A forward data-flow analysis of the axis that holds the samples. It decides only what follows from the graph:
of an operator without a rule, or of a constant that may be as long as the batch, nothing is known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from intrain_onnx.network.layers import needed
from intrain_onnx.network.subgraphs import bodies
from intrain_onnx.network.values import constant_array, is_batch_first, listed, permutation, static_shape
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import kind

Axes = dict[ir.Value | None, int]
"""The axis of the samples, of each value that has one."""

Rule = Callable[[ir.Node, Axes], int | None]
"""Axis of the samples in the outputs of a node; None if it mixes them, or nothing is known."""


def each_by_itself(graph: ir.Graph, axes: Mapping[str | None, int | None]) -> bool:
    """Whether every output of a graph holds, for each sample, what that sample alone gives.

    Requires: shapes inferred, for one sample or several. BatchNormalization counts with stored statistics.

    Args:
        graph: of one sample, or of any number.
        axes: axis of the samples by name of the input.

    Returns:
        False also where that cannot be told without a run.
    """
    found: Axes = {}
    for value in graph.inputs:
        axis = axes.get(value.name)
        if axis is None and value.uses():
            return False
        if axis is not None:
            found[value] = axis
    live = needed(graph)
    for node in filter(live.__contains__, graph):
        if not any(v in found for v in node.inputs) and not bodies(node) and kind(node) is not Kind.RANDOM:
            continue  # a constant
        axis = _after(node, found)
        if axis is None:
            return False
        found.update(dict.fromkeys((v for v in node.outputs if v.name), axis))
    return all(v in found and static_shape(v) is not None for v in graph.outputs)


def _after(node: ir.Node, axes: Axes) -> int | None:
    """Axis of the samples in the outputs of a node; None if it mixes them, or has no rule."""
    shapes = [static_shape(v) for v in node.inputs if v is not None]
    if node.domain or bodies(node) or any(s is None for s in shapes) or _shape(node.outputs[0]) is None:
        return None
    rule = _RULES.get(node.op_type) or _BY_KIND.get(kind(node))
    has_first = bool(node.inputs) and node.inputs[0] is not None
    return rule(node, axes) if rule is not None and has_first else None


def _shape(value: ir.Value) -> tuple[int, ...] | None:
    """The static shape of a value; of an output that is left out, none is needed."""
    return static_shape(value) if value.name else ()


def _rank(value: ir.Value | None) -> int:
    return len(static_shape(value) or ())


def _broadcast(node: ir.Node, axes: Axes) -> int | None:
    """Elementwise: the samples' axes must meet, and constants must not reach along them."""
    rank = _rank(node.outputs[0])
    found = {axes[v] + rank - _rank(v) for v in node.inputs if v in axes}
    if len(found) != 1:
        return None
    (axis,) = found
    constants = [v for v in node.inputs if v is not None and v not in axes]
    return axis if all(_is_one_along(v, axis - rank) for v in constants) else None


def _is_one_along(value: ir.Value, from_end: int) -> bool:
    shape = static_shape(value)
    return shape is not None and (len(shape) < -from_end or shape[from_end] == 1)


def _leading(node: ir.Node, axes: Axes) -> int | None:
    """Convolutions, poolings, normalisations by channel: samples on axis 0 of input 0, the rest constant."""
    if any(v in axes for v in node.inputs[1:]) or any(v.uses() for v in node.outputs[1:]):
        return None
    leads = axes.get(node.inputs[0]) == 0 and _rank(node.inputs[0]) >= 2
    return 0 if leads and not node.attributes.get_int("training_mode", 0) else None


def _along(default: int) -> Rule:
    """Operators that work along an axis, or from it on: the samples must lie elsewhere, or before."""

    def rule(node: ir.Node, axes: Axes) -> int | None:
        axis = axes.get(node.inputs[0])
        rank = _rank(node.inputs[0])
        if axis is None or not rank or any(v in axes for v in node.inputs[1:]):
            return None
        return axis if axis < node.attributes.get_int("axis", default) % rank else None

    return rule


def _concat(node: ir.Node, axes: Axes) -> int | None:
    found = {axes.get(v) for v in node.inputs}
    if len(found) != 1 or found == {None}:
        return None
    (axis,) = found
    return axis if node.attributes.get_int("axis", 0) % _rank(node.inputs[0]) != axis else None


def _gemm(node: ir.Node, axes: Axes) -> int | None:
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    if axes.get(node.inputs[0]) != 0 or node.attributes.get_int("transA", 0) == 1 or node.inputs[1] in axes:
        return None
    return 0 if bias is None or (bias not in axes and _is_one_along(bias, -2)) else None


def _matmul(node: ir.Node, axes: Axes) -> int | None:
    left, right = node.inputs[:2]
    ranks = _rank(left), _rank(right)
    if left is None or right is None or min(ranks) < 2:
        return None
    rank = max(ranks)
    rows = axes[left] - ranks[0] if left in axes else None
    columns = axes[right] - ranks[1] if right in axes else None
    if rows is not None and columns is not None:
        return rows + rank if rows == columns and rows < -2 else None
    if rows is not None:
        return rows + rank if rows == -2 or (rows < -2 and _is_one_along(right, rows)) else None
    return columns + rank if columns is not None and columns < -2 and _is_one_along(left, columns) else None


def _transpose(node: ir.Node, axes: Axes) -> int | None:
    order = permutation(node, _rank(node.inputs[0]))
    return order.index(axes[node.inputs[0]]) if order is not None and node.inputs[0] in axes else None


def _reshape(node: ir.Node, axes: Axes) -> int | None:
    """Samples on axis 0 stay there if the target says so for any number of them."""
    before, after = static_shape(node.inputs[0]), static_shape(node.outputs[0])
    target = listed(node, "shape")
    if axes.get(node.inputs[0]) != 0 or not before or not after or not target:
        return None
    keeps = target[0] == -1 or (target[0] == 0 and not node.attributes.get_int("allowzero", 0))
    return 0 if keeps and before[0] == after[0] else None


def _flatten(node: ir.Node, axes: Axes) -> int | None:
    return 0 if axes.get(node.inputs[0]) == 0 and node.attributes.get_int("axis", 1) == 1 else None


def _without_axes(node: ir.Node, axes: Axes) -> int | None:
    """Reductions and Squeeze over constant axes other than that of the samples."""
    axis, rank = axes.get(node.inputs[0]), _rank(node.inputs[0])
    gone = _named_axes(node, rank)
    if axis is None or not gone or axis in gone:
        return None
    keeps = kind(node) is Kind.REDUCTION and node.attributes.get_int("keepdims", 1) == 1
    return axis if keeps else axis - sum(a < axis for a in gone)


def _unsqueeze(node: ir.Node, axes: Axes) -> int | None:
    axis, rank = axes.get(node.inputs[0]), _rank(node.outputs[0])
    added = _named_axes(node, rank)
    if axis is None or not added:
        return None
    return [a for a in range(rank) if a not in added][axis]


def _named_axes(node: ir.Node, rank: int) -> set[int]:
    return {a % rank for a in listed(node, "axes")} if rank else set()


def _lookup(node: ir.Node, axes: Axes) -> int | None:
    """Gather: constant indices along another axis, or samples of indices into a constant table."""
    table, indices = node.inputs[:2]
    along = node.attributes.get_int("axis", 0) % max(_rank(table), 1)
    if table in axes and indices not in axes and constant_array(indices) is not None:
        axis = axes[table]
        return None if axis == along else axis + (_rank(indices) - 1 if along < axis else 0)
    return axes[indices] + along if table not in axes and indices in axes else None


def _recurrent(node: ir.Node, axes: Axes) -> int | None:
    """Samples on axis 1 in, without states of a fixed number of them; all steps out, on axis 2."""
    given = [v for v in node.inputs[4:] if v is not None and kind(node) is Kind.RECURRENT]
    states = [v for v in given if _rank(v) != 2]  # the peepholes of an LSTM have rank 2
    if is_batch_first(node) or axes.get(node.inputs[0]) != 1 or any(v in axes for v in given) or states:
        return None
    only_steps = not any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
    return 2 if only_steps and node.outputs[0].name else None


def _pad(node: ir.Node, axes: Axes) -> int | None:
    axis, pads = axes.get(node.inputs[0]), _operand(node, "pads", 1)
    if axis is None or not pads or len(node.inputs) > 3:
        return None
    return axis if not pads[axis] and not pads[axis + len(pads) // 2] else None


def _slice(node: ir.Node, axes: Axes) -> int | None:
    axis, along = axes.get(node.inputs[0]), _operand(node, "axes", 3)
    return axis if along and axis not in {a % _rank(node.inputs[0]) for a in along} else None


def _split(node: ir.Node, axes: Axes) -> int | None:
    axis, rank = axes.get(node.inputs[0]), _rank(node.inputs[0])
    return axis if rank and axis != node.attributes.get_int("axis", 0) % rank else None


def _operand(node: ir.Node, name: str, index: int) -> list[int]:
    """Integers that a node has as an attribute or, in newer opsets, as an input; empty if unknown."""
    given = constant_array(node.inputs[index]) if len(node.inputs) > index else None
    return [int(n) for n in (node.attributes.get_ints(name, ()) if given is None else given.reshape(-1))]


_ELEMENTWISE = ("Abs", "Add", "Cast", "Cos", "Div", "Dropout", "Equal", "Exp", "Greater", "Identity", "Less")
_MORE_ELEMENTWISE = (
    "Log",
    "Max",
    "Min",
    "Mul",
    "Neg",
    "Pow",
    "Reciprocal",
    "Sin",
    "Sqrt",
    "Sub",
    "Sum",
    "Where",
)
_BY_CHANNEL = (
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "GroupNormalization",
    "InstanceNormalization",
    "LRN",
)
_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool", "MaxPool")

_RULES: Mapping[str, Rule] = {
    **dict.fromkeys((*_ELEMENTWISE, *_MORE_ELEMENTWISE), _broadcast),
    **dict.fromkeys((*_BY_CHANNEL, *_POOLS, "DepthToSpace", "SpaceToDepth"), _leading),
    "Concat": _concat,
    "Flatten": _flatten,
    "Gather": _lookup,
    "Gemm": _gemm,
    "LayerNormalization": _along(-1),
    "LogSoftmax": _along(1),
    "MatMul": _matmul,
    "Pad": _pad,
    "Reshape": _reshape,
    "Slice": _slice,
    "Softmax": _along(1),  # before opset 13 the default is 1, and all axes from it on are one
    "Split": _split,
    "Squeeze": _without_axes,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""Of plain operators; an operator without a rule is not decided."""

_BY_KIND: Mapping[Kind, Rule] = {
    Kind.ACTIVATION: _broadcast,
    Kind.REDUCTION: _without_axes,
    Kind.RECURRENT: _recurrent,
}
