"""Counts the activation functions of a network, whoever wrote them and in however many operators.

    x -> Relu                          1
    x -> Sigmoid -> Mul(x, .)          1, a SiLU
    x -> Div -> Erf -> Add -> Mul(x, .)    1, a GELU
    x -> Relu -> Min(., 6)             1, a ReLU6

Element-wise operators that read one value, and numbers besides, are one function of it. Each value behind a
layer of which a function has an activation in it counts once, so the same function of the same value, written
twice, does too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import onnx_ir as ir

from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.subgraphs import bodies
from intrain_onnx.network.values import node_id, shape_of, source
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, kind


def count(model: ir.Model, layers: LayerMap) -> int:
    """The number of values that an activation function is applied to.

    Args:
        model: after the rewrites of a protocol.
        layers: its static analysis. What no layer feeds, such as a mask, counts as none, and so do the
            activations inside a recurrent operator.
    """
    found = _Pass(layers)
    found.visit(model.graph)
    return len(found.activated)


class _Pass:
    """Working state: values behind a layer, the value that each is a function of, and those activated."""

    def __init__(self, layers: LayerMap) -> None:
        self.live = layers.live
        self.layers = {layer.node_output for layer in layers.layers}
        self.behind: set[ir.Value] = set()
        self.argument: dict[ir.Value, ir.Value] = {}
        self.statistics: set[ir.Value] = set()
        self.activated: set[ir.Value] = set()

    def visit(self, graph: ir.Graph) -> None:
        for node in graph:
            if node_id(node) not in self.live:
                continue
            inside = [body for _, body in bodies(node)]
            for body in inside:
                self.behind.update(body.inputs)
                self.visit(body)
            if inside or node_id(node) in self.layers or any(v in self.behind for v in node.inputs):
                self.behind.update(node.outputs)
                self._read(node)

    def _read(self, node: ir.Node) -> None:
        arguments = list(dict.fromkeys(self._arguments(node)))
        if kind(node) is Kind.REDUCTION or (kind(node) in _FUNCTIONS and self._of_statistics(arguments)):
            self.statistics.update(node.outputs)
        if is_op(node, "SwiGLU"):
            self.activated.add(arguments[0])
        elif len(arguments) == 1 and kind(node) in _FUNCTIONS and arguments[0] in self.behind:
            self.argument[node.outputs[0]] = arguments[0]
            if self._is_activation(node):
                self.activated.add(arguments[0])

    def _arguments(self, node: ir.Node) -> Iterator[ir.Value]:
        """The values that a node is a function of; numbers, slopes and shapes are none."""
        first_alone = kind(node) in (Kind.ACTIVATION, Kind.VIEW)
        for value in node.inputs[:1] if first_alone else node.inputs:
            if value is not None and not _is_number(value):
                yield self.argument.get(value, value)

    def _is_activation(self, node: ir.Node) -> bool:
        """Also a bound or a choice by the value itself, as in a ReLU or an ELU that is written out.

        A bound of a statistic is none: it keeps a variance, or a length to divide by, from zero.
        """
        if is_op(node, "Where"):
            return node.inputs[0] in self.behind
        if is_op(node, "Clip", "Max", "Min"):
            return len(node.inputs) > 1 and node.outputs[0] not in self.statistics
        return kind(node) is Kind.ACTIVATION

    def _of_statistics(self, arguments: Sequence[ir.Value]) -> bool:
        """Whether a function reads sums or means, and nothing else of the data."""
        data = [v for v in arguments if v in self.behind]
        return bool(data) and self.statistics.issuperset(data)


_FUNCTIONS = (Kind.ACTIVATION, Kind.ELEMENTWISE, Kind.VIEW)


def _is_number(value: ir.Value) -> bool:
    found = source(value, spread=True)
    return found is not None and math.prod(shape_of(found[0])) == 1
