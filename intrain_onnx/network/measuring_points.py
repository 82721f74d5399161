"""Measuring points: values whose representations are measured besides the outputs of layers.

Four kinds: the input of a layer (after normalisation and activation), a join of branches, a cut, which is a
dominator of the loss: a value on every path from the layers to the loss, and the states of a recurrence. They
do not depend on the exporter.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir

from intrain_onnx.network.layers import LayerMap, data_dependent, needed
from intrain_onnx.network.marks import JOINED
from intrain_onnx.network.subgraphs import bodies, carried_states, every_node
from intrain_onnx.network.values import constant_array, is_batch_first, permutation, static_shape
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, kind

Origin = tuple[ir.Node, ...]
"""Identity of a branch: the layer or join that a value was computed from, and the poolings since."""


@dataclass(frozen=True, slots=True)
class Point:
    """A value to be measured.

    Attributes:
        value: its name.
        layer: the layer whose output it is; None if it is none.
        read: a layer reads it, and it depends on an earlier layer.
        join: branches are joined in it.
        cut: an output of a layer, or a join, on every path from a layer to the loss.
        depth: canonical layers on the longest path to it.
        channel_axes: axes that hold the channels; all others are rows.
        step_axis: of the states of a recurrence, the axis of its steps; None for other values.
    """

    value: str
    layer: str | None
    read: bool
    join: bool
    cut: bool
    depth: int
    channel_axes: tuple[int, ...]
    step_axis: int | None = None


def find(model: ir.Model, layers: LayerMap) -> tuple[Point, ...]:
    """Points of the main graph, in the order of the graph.

    Args:
        model: a normalised and rewritten graph with inferred shapes, whose outputs the loss reads.
        layers: its static analysis.
    """
    return _Search(model.graph, layers).run()


class _Search:
    def __init__(self, graph: ir.Graph, layers: LayerMap) -> None:
        self.data = data_dependent(graph)
        alive = needed(graph, ends=_is_zero)
        self.nodes = [n for n in graph if n in alive and any(v in self.data for v in n.outputs)]
        self.outputs = set(graph.outputs)
        self.measured = layers.by_output()
        self.by_node = {layer.node_output: layer for layer in layers.layers}
        self.axes: dict[ir.Value, tuple[int, ...]] = {}
        self.depth: Counter[ir.Value] = Counter()
        self.read: set[ir.Value] = set()
        self.joins: set[ir.Value] = set()
        self.origins: dict[ir.Value, frozenset[Origin]] = {}
        self.steps: dict[ir.Value, int] = {}
        self.inside = {layer.node_output for layer in layers.layers}

    def run(self) -> tuple[Point, ...]:
        for node in self.nodes:
            self.visit(node)
        cuts = self.cuts()
        merged = {v for v in self.joins if self.continued(v)}
        points = []
        for node in self.nodes:
            for value in node.outputs:
                layer = self.measured.get(value.name or "")
                join = value in self.joins and value not in merged
                if value in self.axes and (layer or join or value in self.read or value in self.steps):
                    cut = value in cuts and (join or layer is not None)
                    points.append(self.point(value, layer.name if layer else None, join, cut))
        return tuple(points)

    def point(self, value: ir.Value, layer: str | None, join: bool, cut: bool) -> Point:
        return Point(
            value=value.name or "",
            layer=layer,
            read=value in self.read,
            join=join,
            cut=cut,
            depth=self.depth[value],
            channel_axes=self.axes[value],
            step_axis=self.steps.get(value),
        )

    def visit(self, node: ir.Node) -> None:
        operands = [v for v in node.inputs if v is not None and v in self.data]
        layer = self.by_node.get(node.outputs[0].name or "")
        depth = max((self.depth[v] for v in operands), default=0)
        if layer is not None:
            for value in operands[:1]:
                if self.depth[value]:
                    self.read.add(value)
                axes = _read_axes(node, value)
                if axes is not None:
                    self.axes.setdefault(value, axes)
        if has(node, Property.JOINS) and self.unites(node, operands):
            self.joins.add(node.outputs[0])
        origins = self.originating(node, operands, layer is not None)
        for value in node.outputs:
            self.depth[value] = layer.depth if layer else depth
            self.origins[value] = origins
            axes = self.carried(node, value, operands)
            measured = self.measured.get(value.name or "")
            if measured is not None:
                axes = measured.channel_axes
            if axes is not None:
                self.axes[value] = axes
        self.find_states(node)

    def find_states(self, node: ir.Node) -> None:
        """Note the sequence of states that a recurrent operator gives, or a loop over layers."""
        if kind(node) is Kind.RECURRENT and node.outputs[0].name:
            self.steps[node.outputs[0]] = 1 if is_batch_first(node) else 0
        if is_op(node, "Scan", "Loop") and self.holds_layers(node):
            sequences = node.outputs[carried_states(node) :]
            axes = node.attributes.get_ints("scan_output_axes", (0,) * len(sequences))
            for value, axis in zip(sequences, axes, strict=False):
                shape = static_shape(value)
                if shape is not None and len(shape) >= _STATES and any(value.uses()):
                    self.steps[value] = axis % len(shape)
                    self.axes.setdefault(value, (-1,))

    def holds_layers(self, node: ir.Node) -> bool:
        inner = (v.name for _, body in bodies(node) for n in every_node(body) for v in n.outputs)
        return not self.inside.isdisjoint(inner)

    def originating(self, node: ir.Node, operands: list[ir.Value], is_layer: bool) -> frozenset[Origin]:
        if is_layer or node.outputs[0] in self.joins:
            return frozenset({(node,)})
        found = frozenset[Origin]().union(*(self.origins.get(v, frozenset()) for v in operands))
        return (
            frozenset((*origin, node) for origin in found)
            if kind(node) is Kind.POOL and has(node, Property.WINDOW)
            else found
        )

    def unites(self, node: ir.Node, operands: list[ir.Value]) -> bool:
        branches = {v for v in operands if self.depth[v]}
        origins = {self.origins[v] for v in branches}  # equal within a decomposed LayerNorm
        if len(origins) < 2 or JOINED in node.outputs[0].meta:
            return False
        if kind(node) is Kind.SELECTION:  # a concatenation
            return True
        sizes = {_elements(v) for v in branches}
        return len(sizes) == 1  # one that is broadcast over the other is an offset, not a branch

    def continued(self, value: ir.Value) -> bool:
        """Whether a join is a part of a larger one: a sum of three values as two Adds."""
        uses = list(value.uses())
        if len(uses) != 1 or value in self.outputs:
            return False
        reader, maker = uses[0].node, value.producer()
        return reader.outputs[0] in self.joins and maker is not None and reader.op_type == maker.op_type

    def carried(self, node: ir.Node, value: ir.Value, operands: list[ir.Value]) -> tuple[int, ...] | None:
        origin = next((v for v in operands if v in self.axes and self.depth[v]), None)
        if origin is None or kind(node) is Kind.PRODUCT:
            return None
        before, after = static_shape(origin), static_shape(value)
        axes = self.axes[origin]
        if before is None or after is None:
            return axes if not has(node, Property.MOVES_AXES) else None
        if any(not -len(before) <= a < len(before) for a in axes):  # shapes that contradict each other
            return None
        axes = tuple(a % len(before) for a in axes)
        if is_op(node, "Transpose"):
            perm = permutation(node, len(before))
            return None if perm is None else tuple(perm.index(a) for a in axes)
        if len(before) == len(after) and not is_op(node, "Reshape", "Flatten"):
            return axes
        return _same_place(before, axes, after)

    def begins(self, node: ir.Node) -> bool:
        layer = self.by_node.get(node.outputs[0].name or "")
        return layer is not None and layer.depth == 1

    def cuts(self) -> set[ir.Value]:
        """Dominators of the loss, by liveness: values that are the only live one when they are computed.

        A value is live from its node to its last reader, in topological order. Only values of depth 1 or more
        count, and only once every branch has begun, that is, after the last layer of depth 1.
        """
        begun = max((i for i, n in enumerate(self.nodes) if self.begins(n)), default=0)
        last = {}
        for index, node in enumerate(self.nodes):
            for value in node.inputs:
                if value is not None:
                    last[value] = index
        for value in self.outputs:
            last[value] = len(self.nodes)
        found: set[ir.Value] = set()
        waiting: set[ir.Value] = set()
        for index, node in enumerate(self.nodes):
            waiting |= {v for v in node.outputs if self.depth[v] and last.get(v, -1) > index}
            waiting = {v for v in waiting if last[v] > index}
            if len(waiting) == 1 and index >= begun:
                found |= waiting & set(node.outputs)
        return found


_STATES = 3
"""Axes of a sequence of states: steps, samples, channels."""


def _is_zero(node: ir.Node) -> bool:
    """Whether a node multiplies by a constant zero, so that its branch does not count."""
    if not is_op(node, "Mul"):
        return False
    factors = (constant_array(value) for value in node.inputs)
    return any(factor is not None and not factor.any() for factor in factors)


def _elements(value: ir.Value) -> int:
    shape = static_shape(value)
    return math.prod(shape) if shape is not None else -1


def _read_axes(node: ir.Node, value: ir.Value) -> tuple[int, ...] | None:
    if kind(node) is Kind.CONVOLUTION:
        return (1,)
    if kind(node) is Kind.RECURRENT:
        return (2,)
    if is_op(node, "Gemm"):
        transposed = "transA" in node.attributes and node.attributes["transA"].as_int() == 1
        return (0,) if transposed != (node.inputs[0] is not value) else (1,)
    if kind(node) is Kind.PRODUCT:
        return (-1,) if node.inputs[0] is value else (-2,)
    return None


def _same_place(
    before: tuple[int, ...], axes: tuple[int, ...], after: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Axes of a reshaped value that hold the same elements as the consecutive ``axes`` before the reshape.

    If there are none, see `_pooled_place`.
    """
    if axes != tuple(range(axes[0], axes[-1] + 1)):
        return None
    inner = math.prod(before[axes[-1] + 1 :])
    channels = math.prod(before[a] for a in axes)
    for count in range(1, len(after) + 1):  # the fewest: one sample has a batch axis of size one
        for first in range(len(after) - count + 1):
            end = first + count
            if math.prod(after[end:]) == inner and math.prod(after[first:end]) == channels:
                return tuple(range(first, end))
    return _pooled_place(channels, after)


def _pooled_place(channels: int, after: tuple[int, ...]) -> tuple[int, ...] | None:
    """The channel axis after positions were reduced or selected: the only axis of that size, or None."""
    places = [a for a in range(1, len(after)) if after[a] == channels]
    return (places[0],) if len(places) == 1 else None
