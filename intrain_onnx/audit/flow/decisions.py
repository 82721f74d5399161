"""Layers whose values only decide: sizes, indices, branches or masks of other values, never numbers.

Found by forward data-flow analysis from the layer. Such a layer has no gradient by its nature (the router of
a mixture, the durations of a synthesiser, the encoder before a codebook), unlike one that a Round or a cast
to integers cuts off while its numbers go on to an output.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from functools import cached_property

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.gradient_reach import Reach, Stop, blocks_gradient, carries_gradient, is_integer
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.subgraphs import bodies, entering
from intrain_onnx.network.values import constant_array
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.operands import PLACES, SIZES
from intrain_onnx.opset.traits import has, is_op, kind

_ROUNDS = ("Binarizer", "Ceil", "Floor", "QuantizeLinear", "Round", "Sign", "Unique")
"""Operators without a gradient whose output still consists of numbers: all others of them choose."""

_LARGE = 1e3
"""A choice times a constant from here on is a mask that is added to logits."""

_WEIGHED = (Kind.PRODUCT, Kind.CONVOLUTION, Kind.RECURRENT)


def deciding(graph: ir.Graph, layers: LayerMap, reach: Reach) -> dict[str, Stop]:
    """Layers that only decide, by name, each with the node that stops its gradient.

    Args:
        graph: normalised.
        layers: of that graph.
        reach: of that graph.
    """
    found: dict[str, Stop] = {}
    flow = _Flow(graph, layers)
    for layer in layers.layers:
        stops = [reach.stops.get(weight.name) for weight in layer.weights]
        if stops and stops[0] is not None and None not in stops and flow.only_decides(layer.output):
            found[layer.name] = stops[0]
    return found


_Read = tuple[ir.Value, bool]
"""A value, and whether it is a choice (a truth value, an index) instead of a number."""


class _Flow:
    """Data flow of one graph."""

    def __init__(self, graph: ir.Graph, layers: LayerMap) -> None:
        self.graph = graph
        self.layers = layers

    @cached_property
    def values(self) -> Mapping[str, ir.Value]:
        """By name."""
        return {v.name: v for node in self.graph.all_nodes() for v in node.outputs if v.name}

    @cached_property
    def holders(self) -> Mapping[ir.Value, ir.Node]:
        """The control-flow node behind each output of a subgraph."""
        return {v: node for node in self.graph.all_nodes() for _, body in bodies(node) for v in body.outputs}

    @cached_property
    def smooth(self) -> set[ir.Value]:
        """Values that a float input or a layer reaches through operators with a gradient."""
        found = {v for v in self.graph.inputs if not is_integer(v) and not v.is_initializer()}
        found |= {self.values[layer.output] for layer in self.layers.layers if layer.output in self.values}
        for node in self.graph.all_nodes():
            if kind(node) is Kind.CONTROL or any(v in found for v in node.inputs if v is not None):
                found.update(v for v in node.outputs if carries_gradient(node, v))
        return found

    def only_decides(self, name: str) -> bool:
        """Whether a value reaches a decision, and no output as a number."""
        if name not in self.values:
            return False
        begin = (self.values[name], False)
        seen, waiting, decided = {begin}, deque([begin]), False
        while waiting:
            value, choice = waiting.popleft()
            if value in self.graph.outputs:
                if not choice and not is_integer(value):
                    return False
                decided = True
            for node, index in _uses(value):
                after = self._behind(node, index, value, choice)
                decided = decided or after is None
                new = [read for read in after or () if read not in seen]
                seen.update(new)
                waiting.extend(new)
            if value in self.holders:
                new = [read for read in self._outside(value, choice) if read not in seen]
                seen.update(new)
                waiting.extend(new)
        return decided

    def _behind(self, node: ir.Node, index: int, value: ir.Value, choice: bool) -> list[_Read] | None:
        """What a node makes of one operand; None if the operand decides."""
        if not node.domain and any(index in table.get(node.op_type, ()) for table in (SIZES, PLACES)):
            return None
        if has(node, Property.SHAPE_ONLY):
            return []
        if kind(node) is Kind.CONTROL:
            formal = [f for _, body in bodies(node) for f, outer in entering(node, body) if outer is value]
            return [(f, choice) for f in formal]
        if choice and self._masks(node, value):
            return None
        choice = choice and kind(node) not in _WEIGHED
        return [(v, choice or (blocks_gradient(node, v) and not is_op(node, *_ROUNDS))) for v in node.outputs]

    def _masks(self, node: ir.Node, value: ir.Value) -> bool:
        """Whether a choice switches numbers on and off in a node."""
        if not is_op(node, "Mul") and kind(node) is not Kind.PRODUCT:
            return False
        others = [v for v in node.inputs if v is not None and v is not value]
        scales = [constant_array(v) for v in others] if is_op(node, "Mul") else []
        return any(v in self.smooth for v in others) or any(
            s is not None and s.size > 0 and float(np.abs(s).min()) >= _LARGE for s in scales
        )

    def _outside(self, value: ir.Value, choice: bool) -> list[_Read]:
        """Where an output of a subgraph goes: any output of its node, and the next round of a loop."""
        holder = self.holders[value]
        inner = [v for _, body in bodies(holder) if value in body.outputs for v in body.inputs]
        return [(v, choice) for v in (*holder.outputs, *inner)]


def _uses(value: ir.Value) -> Iterator[tuple[ir.Node, int]]:
    return ((use.node, use.idx) for use in value.uses())
