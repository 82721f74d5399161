"""Layers that calibration leaves as they were drawn, since their scale is part of their function.

Zero mean and unit variance per channel is what BatchNorm gives. Where there is none, it can be another
function than the one that training starts from: a squeeze-and-excite gate is almost the same for all samples
at first, since it reads means over positions, and calibrated it swings from sample to sample.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Final, Literal

import onnx_ir as ir

from intrain_onnx.network.layers import LayerMap, data_dependent
from intrain_onnx.network.marks import ONLY
from intrain_onnx.network.values import static_shape
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, is_view, kind

Reason = Literal["gate", "recurrence", "attention", "pooled"]
"""Why a layer is left alone: squashed, it multiplies; it runs once a step; it reads weighted means over
tokens; it reads pooled positions."""

GATES: Final = frozenset({"gate", "recurrence", "attention"})
"""Reasons to draw a layer as the gates of a recurrence are: with gain 1. Gates saturate with more."""

_CARRYING = (Kind.ELEMENTWISE, Kind.VIEW, Kind.SELECTION, Kind.RANDOM)
_SQUASHING = ("Sigmoid", "HardSigmoid", "Tanh", "Softmax", "Softsign")


def reasons(model: ir.Model, layers: LayerMap) -> dict[str, Reason]:
    """The layers that are left as they were drawn, by name, with the reason.

    - *recurrence*: a layer in the body of a Loop or Scan, as those of a recurrent operator.
    - *gate*: whatever reads it ends in a bounded function that multiplies what other layers made:
      squeeze-and-excite, gated linear units, routers, cells that are written out. Not x * sigmoid(x).
    - *attention*: it reads weighted means over tokens. They vary far less than the tokens that they are added
      to; brought to unit variance, what is left of the samples drowns the tokens.
    - *pooled*: it reads means over positions, or the token that stands for all. Whether it has one row a
      sample is seen when it runs.

    Args:
        model: the graph that is run, with inferred shapes.
        layers: its static analysis.
    """
    return _Search(model.graph, layers).run()


class _Search:
    def __init__(self, graph: ir.Graph, layers: LayerMap) -> None:
        self.graph = graph
        self.nodes = set(graph)
        self.data = data_dependent(graph)
        self.layers = {layer.node_output: layer.name for layer in layers.layers}
        self.bits = {name: 1 << place for place, name in enumerate(self.layers.values())}
        self.origins: defaultdict[ir.Value, int] = defaultdict(int)
        self.pooled: set[ir.Value] = set()
        self.shares: set[ir.Value] = set()
        self.attended: set[ir.Value] = set()

    def run(self) -> dict[str, Reason]:
        found: dict[str, Reason] = {}
        main: set[str | None] = set()
        for node in self.graph:
            main.update(v.name for v in node.outputs)
            self.visit(node, found)
        for node in self.graph:
            for name in self.gate(node):
                found[name] = "gate"
        for output, name in self.layers.items():
            if output not in main:
                found[name] = "recurrence"
        return found

    def visit(self, node: ir.Node, found: dict[str, Reason]) -> None:
        operands = self.operands(node)
        name = self.layer_of(node)
        pooled = bool(operands) and all(v in self.pooled for v in operands)
        if name is None and not is_view(node) and not pooled and operands:
            pooled = _long_axes(operands[0]) > max(map(_long_axes, node.outputs), default=0) > -1
        elif name is not None and pooled:
            found[name] = "pooled"
        if name is not None and operands and operands[0] in self.attended:
            found[name] = "attention"
        origins = self.bits[name] if name is not None else 0
        if name is None:
            for value in operands:
                origins |= self.origins[value]
        for value in node.outputs:
            only = self.only(value)
            self.origins[value] = self.bits[only] if only is not None else origins
            if pooled:
                self.pooled.add(value)
        self.follow_attention(node, operands, name is not None)

    def follow_attention(self, node: ir.Node, operands: list[ir.Value], is_layer: bool) -> None:
        """Mark the outputs that are shares of tokens (a softmax), or means that such shares weigh."""
        if is_layer:
            return
        alone = operands[0] if len(operands) == 1 and kind(node) in _CARRYING else None
        weighs = kind(node) is Kind.PRODUCT and len(operands) > 1 and any(v in self.shares for v in operands)
        if kind(node) is Kind.SOFTMAX or alone in self.shares:
            self.shares.update(node.outputs)
        elif kind(node) is Kind.ATTENTION or weighs or alone in self.attended:
            self.attended.update(node.outputs)

    def layer_of(self, node: ir.Node | None) -> str | None:
        """The layer that a node is; None for other nodes."""
        outputs = node.outputs if node is not None else ()
        return next((self.layers[v.name] for v in outputs if v.name in self.layers), None)

    def only(self, value: ir.Value) -> str | None:
        """The layer that a part of a fused layer's output comes from; None for other values."""
        return self.layer_of(value.meta.get(ONLY))

    def operands(self, node: ir.Node) -> list[ir.Value]:
        return [v for v in node.inputs if v is not None and v in self.data]

    def gate(self, node: ir.Node) -> Iterator[str]:
        """The layers that a node squashes, if its result multiplies what others made."""
        operands = self.operands(node)
        if operands and _is_bounded(node) and self.multiplies(node.outputs[0], self.origins[operands[0]]):
            yield from self.alone(operands[0], node)

    def multiplies(self, value: ir.Value, origins: int) -> bool:
        """Whether a value, views and constant factors aside, multiplies one with other origins."""
        seen = {value}
        waiting = [value]
        while waiting:
            value = waiting.pop()
            for use in value.uses():
                reader = use.node
                others = [v for v in self.operands(reader) if v is not value]
                if is_op(reader, "Mul") and others:
                    if any(self.origins[v] != origins for v in others):
                        return True
                elif self.passes_on(reader, others) and reader.outputs[0] not in seen:
                    seen.add(reader.outputs[0])
                    waiting.append(reader.outputs[0])
        return False

    def passes_on(self, reader: ir.Node, others: list[ir.Value]) -> bool:
        """Whether a node gives the value that it reads: a view, a part, or a function of it alone."""
        moves = kind(reader) in (Kind.VIEW, Kind.SELECTION) or (
            kind(reader) is Kind.ELEMENTWISE and not others
        )
        return moves and bool(self.operands(reader)) and self.layer_of(reader) is None

    def alone(self, value: ir.Value, reader: ir.Node) -> Iterator[str]:
        """Layers before a value whose outputs go nowhere else, through sums, views and normalisations."""
        seen = {value}
        waiting = [(value, reader)]
        while waiting:
            value, reader = waiting.pop()
            node = value.producer()
            if node is None or node not in self.nodes or any(u.node is not reader for u in value.uses()):
                continue
            name = self.layer_of(node) or self.only(value)
            if name is not None:
                yield name
            elif kind(node) in (Kind.ELEMENTWISE, Kind.VIEW, Kind.NORMALISATION, Kind.SELECTION):
                found = [v for v in self.operands(node) if v not in seen]
                seen.update(found)
                waiting += [(operand, node) for operand in found]


def _is_bounded(node: ir.Node) -> bool:
    clips = is_op(node, "Clip") and len(node.inputs) > 2 and all(v is not None for v in node.inputs[1:3])
    return clips or is_op(node, *_SQUASHING)


def _long_axes(value: ir.Value) -> int:
    """The number of axes longer than 1; -1 if the shape is unknown."""
    shape = static_shape(value)
    return -1 if shape is None else sum(length > 1 for length in shape)
