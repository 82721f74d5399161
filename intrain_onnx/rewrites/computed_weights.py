"""Constant folding of reparametrised weights: what computes a weight from constants becomes an initializer.

Weight normalisation (g v / ||v||), spectral normalisation, weight standardisation, an equalised learning
rate, integers times a scale, permuted gates: every float operand of a product that depends on constants
alone is a weight, recognised by data flow and shape. Its value is computed lazily, by a function that the
caller passes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.known_values import Constants
from intrain_onnx.network.layers import data_dependent
from intrain_onnx.network.marks import MADE_FROM
from intrain_onnx.network.subgraphs import bodies, every_node
from intrain_onnx.network.values import (
    ComputedTensor,
    ancestors,
    constant_sources,
    may_have_role,
    of_file,
    remove_unused,
    source,
    static_shape,
)
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, is_view, kind, trainable_inputs
from intrain_onnx.rewrites.infer_shapes import infer

_EXACT = ("weight", "bias")
"""Roles for which a broadcast copy of a smaller constant does not count as a view of it."""

_COUNTS = (ir.DataType.INT64, ir.DataType.INT32)
_MOST_ANCESTORS = 4096

Array = np.ndarray[Any, Any]
Evaluate = Callable[[ir.Model], Sequence[Array]]
"""Runs a model without inputs, and returns its outputs in order."""


def separate(
    model: ir.Model, evaluate: Evaluate | None = None, resize: Callable[[int], object] | None = None
) -> int:
    """Replace each parameter that is computed from constants by an initializer, in place.

    A parameter is an input with a role in ``opset.table``, of a node that depends on data. Its shape must be
    known. Common subexpressions become one initializer, so ties survive. A factor with several axes longer
    than 1 (rotary positions, a mask) is no scale, and stays.

    Requires: initializers in the main graph, shapes inferred. Ensures the same.

    Args:
        model: a normalised model.
        evaluate: computes the values when they are first read; without it they stay unknown.
        resize: infers the shapes for a batch size. With it, sizes that are the same for batches of 1 and 2
            are constants: a width that slices a weight, a length that slices a table of positions.

    Returns:
        The number of nodes removed.
    """
    before = sum(1 for _ in every_node(model.graph))
    found = dict(_computed(model))
    cut = [value for value in found if constant_sources(value) is None]
    maker = _Maker(model, evaluate, _settled(model, cut, resize) if cut and resize is not None else {})
    wanted = {value: role for value, role in found.items() if maker.copy(value)}
    maker.infer_shapes()
    for value, role in wanted.items():
        new = maker.initializer(value, role)
        if new is not None:
            old = value.producer()
            assert old is not None
            value.replace_all_uses_with(new)
            remove_unused(old)
    return before - sum(1 for _ in every_node(model.graph))


def are_wanted(model: ir.Model) -> bool:
    """Whether a parameter is computed from constants, so that :func:`separate` would look at it."""
    return any(True for _ in _computed(model))


def are_in(model: ir.Model) -> bool:
    """Whether an initializer of a model is computed."""
    return any(isinstance(v.const_value, ComputedTensor) for v in model.graph.initializers.values())


def forget_values(model: ir.Model, parameters: Iterable[str]) -> list[str]:
    """Set computed parameters to zero, in place, so that they are never computed; returns their names."""
    forgotten = []
    for name in parameters:
        value = model.graph.initializers[name]
        if isinstance(value.const_value, ComputedTensor):
            tensor = value.const_value
            value.const_value = ir.Tensor(np.zeros(tensor.shape.numpy(), tensor.dtype.numpy()), name=name)
            forgotten.append(name)
    return forgotten


def _computed(model: ir.Model) -> Iterator[tuple[ir.Value, str]]:
    """Computed parameters with their roles, looking through views, without data and views of initializers."""
    data = data_dependent(model.graph)
    for node in every_node(model.graph):
        if not any(v in data for v in node.outputs):
            continue
        for index, role in trainable_inputs(node):
            value = node.inputs[index]
            if value is None or value in data or source(value, spread=role not in _EXACT) is not None:
                continue
            shape = static_shape(value)
            if shape is not None and not may_have_role(shape, role):
                continue
            root = _below_views(value, spread=role not in _EXACT)
            if not root.is_graph_output() and not _is_neutral(root, role):
                yield root, role


def _is_neutral(value: ir.Value, role: str) -> bool:
    """Whether a value is filled with what an offset or a scale does not change anything with."""
    node = value.producer()
    if node is None or not is_op(node, "ConstantOfShape"):
        return False
    filled = node.attributes["value"].as_tensor().numpy().item() if "value" in node.attributes else 0.0
    return bool(filled == (1.0 if role == "scale" else 0.0)) and role in ("offset", "scale")


def _below_views(value: ir.Value, *, spread: bool) -> ir.Value:
    """What a parameter is a view of; a table may be spread over the batch, as a class token is."""
    while (node := value.producer()) is not None and (
        (is_view(node) and not is_op(node, "Cast")) or (spread and is_op(node, "Expand"))
    ):
        below = node.inputs[0]
        if below is None or below.const_value is not None:
            break
        value = below
    return value


def _settled(
    model: ir.Model, values: Iterable[ir.Value], resize: Callable[[int], object]
) -> dict[ir.Value, Array]:
    """Integer ancestors of values that follow from shapes, and are equal for batches of one and two."""
    behind = (v for value in values for v in ancestors(value, _MOST_ANCESTORS))
    numbers = {v for v in behind if v.dtype in _COUNTS and v.const_value is None}
    if not numbers:
        return {}
    found = []
    for samples in (2, 1):
        resize(samples)
        known = Constants(model, shapes=True)
        found.append({v: k.array for v in numbers if (k := known.of(v)) is not None})
    return {v: a for v, a in found[1].items() if v in found[0] and np.array_equal(a, found[0][v])}


@dataclass
class _Recipe:
    """A model whose outputs are all computed weights, run at most once, when one of them is read."""

    model: ir.Model
    evaluate: Evaluate | None
    arrays: Sequence[Array] | None = None

    def array(self, index: int) -> Array:
        assert self.evaluate is not None
        if self.arrays is None:
            self.arrays = self.evaluate(self.model)
        return self.arrays[index]


@dataclass
class _Maker:
    """Copies the subgraphs that compute weights into one model, with common subexpressions eliminated."""

    model: ir.Model
    evaluate: Evaluate | None
    settled: Mapping[ir.Value, Array]
    copies: dict[ir.Value, ir.Value] = field(default_factory=dict)
    equal: dict[tuple[Any, ...], list[ir.Value]] = field(default_factory=dict)
    made: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        graph = ir.Graph([], [], nodes=[], opset_imports=dict(self.model.opset_imports), name="weights")
        self.recipe = _Recipe(ir.Model(graph, ir_version=self.model.ir_version or 10), self.evaluate)

    def copy(self, value: ir.Value) -> bool:
        """Copy the subgraph that computes a value; False if it is random, not constant, or a size."""
        if value in self.settled:
            return False
        behind = constant_sources(value, self.settled)
        if behind is None or any(_is_random(n) for n in behind.nodes):
            return False
        for node in behind.nodes:
            self._copy(node)
        return True

    def infer_shapes(self) -> None:
        """Infer the shapes of all copies: inference on the graph misses those in a branch of an If."""
        if self.copies:
            infer(self.recipe.model, data_prop=True)

    def initializer(self, value: ir.Value, role: str) -> ir.Value | None:
        """The initializer that replaces a value; None unless it is a float parameter of known shape."""
        copy = self.copies[value]
        shape, dtype = static_shape(copy) or static_shape(value), copy.dtype or value.dtype
        if shape is None or dtype is None or not dtype.is_floating_point() or not may_have_role(shape, role):
            return None
        if copy not in self.made:
            self.made[copy] = self._register(value, copy, shape, dtype)
            behind = constant_sources(value, self.settled)
            assert behind is not None
            rows = (row for v in behind.parameters for row in of_file(v))
            self.made[copy].meta[MADE_FROM] = tuple(dict.fromkeys(rows))
        return self.made[copy]

    def _register(
        self, value: ir.Value, copy: ir.Value, shape: tuple[int, ...], dtype: ir.DataType
    ) -> ir.Value:
        graph = self.recipe.model.graph
        index = len(graph.outputs)
        graph.outputs.append(copy)
        name = f"{value.name}.made"

        def compute() -> ir.TensorProtocol:
            array = self.recipe.array(index)
            return ir.Tensor(np.asarray(array).astype(dtype.numpy()).reshape(shape), name=name)

        tensor = ComputedTensor(compute, dtype, ir.Shape(shape), name=name, known=self.evaluate is not None)
        new = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(dtype), const_value=tensor)
        self.model.graph.register_initializer(new)
        return new

    def _copy(self, node: ir.Node) -> None:
        if all(v in self.copies for v in node.outputs):
            return
        inputs = [None if v is None else self._operand(v) for v in node.inputs]
        attributes = [ir.Attr(a.name, a.type, a.value) for a in node.attributes.values()]
        described = sorted((a.name, ir.to_proto(a).SerializeToString()) for a in attributes)
        key = (node.domain, node.op_type, tuple(map(id, inputs)), tuple(described), len(node.outputs))
        if key not in self.equal:
            outputs = [ir.Value(name=v.name, type=v.type, shape=v.shape) for v in node.outputs]
            copy = ir.Node(node.domain, node.op_type, inputs, attributes, outputs=outputs, name=node.name)
            self.recipe.model.graph.append(copy)
            self.equal[key] = outputs
        self.copies.update(zip(node.outputs, self.equal[key], strict=True))

    def _operand(self, value: ir.Value) -> ir.Value:
        if value not in self.copies:
            tensor = value.const_value
            if value in self.settled:
                tensor = ir.Tensor(self.settled[value], name=value.name)
            assert tensor is not None
            shape = tensor.shape.numpy()
            number = (tensor.dtype, shape, tensor.tobytes()) if tensor.dtype in _COUNTS else (value,)
            if number not in self.equal:
                copy = ir.Value(name=value.name, type=value.type, shape=ir.Shape(shape), const_value=tensor)
                self.recipe.model.graph.register_initializer(copy)
                self.equal[number] = [copy]
            self.copies[value] = self.equal[number][0]
        return self.copies[value]


def _is_random(node: ir.Node) -> bool:
    return kind(node) is Kind.RANDOM or bool(bodies(node))
