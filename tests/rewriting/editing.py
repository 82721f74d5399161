"""What every rewrite is, and the means to edit a graph."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.random import Generator

Function = Callable[[onnx.ModelProto, Generator], onnx.ModelProto | None]
LEAST_OPSET = 13
"""Below it axes are attributes, as the rewrites here do not write them."""


@dataclass(frozen=True)
class Rewrite:
    """A change of a graph that keeps its function.

    Attributes:
        name: of the function.
        function: takes a model and where to choose; returns a new model, or None where it does not apply.
        tool: the package of other authors that does it; it may change the function, which is no fault here.
    """

    name: str
    function: Function
    tool: str | None = None

    @property
    def available(self) -> bool:
        return self.tool is None or importlib.util.find_spec(self.tool) is not None


REWRITES: dict[str, Rewrite] = {}


def rewrite(function: Function, name: str | None = None, tool: str | None = None) -> Function:
    """Enter a function of models in `REWRITES`."""
    name = name or function.__name__
    assert name not in REWRITES
    REWRITES[name] = Rewrite(name, function, tool)
    return function


def edits(function: Callable[[Edit], bool]) -> Callable[[Edit], bool]:
    """Enter a function that edits a graph in place, and says whether it did."""

    def apply(proto: onnx.ModelProto, rng: Generator) -> onnx.ModelProto | None:
        edit = Edit(proto, rng)
        if edit.opset < LEAST_OPSET or not function(edit):
            return None
        edit.drop_unused()
        return ir.to_proto(edit.model)

    rewrite(apply, function.__name__)
    return function


class Edit:
    """A model that is being edited: new nodes, constants, names; what is known of shapes and constants."""

    def __init__(self, proto: onnx.ModelProto, rng: Generator) -> None:
        self.rng = rng
        self.model = ir.from_proto(proto)
        self.graph = self.model.graph
        self.opset = self.graph.opset_imports.get("", 0)
        self._shapes = _inferred(proto)
        self._names = set(_names(self.model))
        self.constants = _constants(self.graph)

    def nodes(self, *ops: str) -> list[ir.Node]:
        """Nodes of the main graph, those of ONNX's operators that are named, in random order."""
        found = [n for n in self.graph if not ops or (n.domain in {"", "ai.onnx"} and n.op_type in ops)]
        return [found[i] for i in self.rng.permutation(len(found))]

    def chance(self, share: float = 0.5) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, choices: Sequence[Any]) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def shape(self, value: ir.Value | None) -> tuple[int | None, ...] | None:
        """Inferred shape, with None for what is free; None where the rank is unknown."""
        if value is None:
            return None
        if value.const_value is not None:
            return tuple(value.const_value.shape.numpy())
        return self._shapes.get(value.name or "", (None, None))[1]

    def rank(self, value: ir.Value | None) -> int | None:
        shape = self.shape(value)
        return None if shape is None else len(shape)

    def is_float(self, value: ir.Value | None) -> bool:
        if value is None:
            return False
        if value.const_value is not None:
            return value.const_value.dtype == ir.DataType.FLOAT
        return self._shapes.get(value.name or "", (None, None))[0] == onnx.TensorProto.FLOAT

    def is_constant(self, value: ir.Value | None) -> bool:
        """Whether a value depends on no input."""
        return value is not None and (value.const_value is not None or value in self.constants)

    def array(self, value: ir.Value | None) -> np.ndarray | None:
        """The elements of an initializer or a Constant node."""
        if value is None:
            return None
        if value.is_initializer() and value.const_value is not None:
            return value.const_value.numpy()
        node = value.producer()
        if node is not None and node.op_type == "Constant" and "value" in node.attributes:
            return node.attributes["value"].as_tensor().numpy()
        return None

    def arrays(self, values: Iterable[ir.Value | None]) -> list[np.ndarray] | None:
        """The elements of each; None where one is no constant that is held."""
        found = [self.array(v) for v in values]
        held = [a for a in found if a is not None]
        return held if len(held) == len(found) else None

    def weights(self, least: int = 2) -> list[ir.Value]:
        """Float initializers of that rank at least that a node reads, in random order."""
        found = [
            v
            for v in self.graph.initializers.values()
            if v.const_value is not None
            and v.const_value.dtype == ir.DataType.FLOAT
            and len(v.const_value.shape) >= least
            and v.uses()
        ]
        return [found[i] for i in self.rng.permutation(len(found))]

    def name(self, hint: str) -> str:
        while True:
            found = f"{hint}_{int(self.rng.integers(1_000_000))}"
            if found not in self._names:
                self._names.add(found)
                return found

    def constant(self, array: Any, dtype: Any = np.float32, hint: str = "const") -> ir.Value:
        """A new initializer, or the output of a Constant node."""
        values = np.array(array, dtype, order="C")
        name = self.name(hint)
        tensor = ir.tensor(values, name=name)
        value = ir.Value(name=name, const_value=tensor)
        value.shape, value.type = ir.Shape(values.shape), ir.TensorType(tensor.dtype)
        self.graph.register_initializer(value)
        self.constants.add(value)
        return value

    def ints(self, *numbers: int) -> ir.Value:
        return self.constant(list(numbers), np.int64, "ints")

    def op(
        self,
        at: ir.Node | None,
        op_type: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        outputs: int = 1,
    ) -> ir.Value:
        """Insert a node before another one, or at the end; return its first output."""
        node = ir.node(op_type, inputs, attributes, num_outputs=outputs, name=self.name(op_type.lower()))
        for value in node.outputs:
            value.name = self.name(f"{op_type.lower()}_out")
        if at is None:
            self.graph.append(node)
        else:
            self.graph.insert_before(at, node)
        if all(v is None or self.is_constant(v) for v in node.inputs):
            self.constants.update(node.outputs)
        return node.outputs[0]

    def split(self, at: ir.Node | None, x: ir.Value, sizes: Sequence[int], axis: int) -> list[ir.Value]:
        """Insert a Split; return all its outputs."""
        inputs = [x, self.ints(*sizes)]
        node = self.op(at, "Split", inputs, {"axis": axis}, outputs=len(sizes)).producer()
        assert node is not None
        return list(node.outputs)

    def put(self, old: ir.Value, new: ir.Value) -> None:
        """Let every reader of a value, and the graph's outputs, read another one."""
        output = old.is_graph_output()
        if output and (new.is_graph_output() or new.is_graph_input() or new.is_initializer()):
            node = old.producer()
            assert node is not None
            new = self.op(node, "Identity", [new])
        new.type, new.shape = old.type, old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        if output:
            old.name, new.name = self.name("was_output"), old.name

    def reduce(self, at: ir.Node | None, op_type: str, x: ir.Value | None, axes: Sequence[int]) -> ir.Value:
        """A reduction that keeps its axes, as the opset wants it."""
        if self.opset >= 18 or op_type == "ReduceSum":
            return self.op(at, op_type, [x, self.ints(*axes)], {"keepdims": 1})
        return self.op(at, op_type, [x], {"axes": list(axes), "keepdims": 1})

    def transposed(self, at: ir.Node | None, value: ir.Value, perm: Sequence[int]) -> ir.Value:
        """A constant with its axes permuted: another initializer, or a Transpose node."""
        array = self.array(value)
        if array is not None and self.chance(0.7):
            return self.constant(array.transpose(tuple(perm)), array.dtype, "turned")
        return self.op(at, "Transpose", [value], {"perm": list(perm)})

    def reshaped(self, at: ir.Node | None, value: ir.Value | None, shape: Sequence[int]) -> ir.Value:
        """A constant in another shape: another initializer, or a Reshape node."""
        array = self.array(value)
        if array is not None and self.chance(0.7):
            return self.constant(array.reshape(tuple(shape)), array.dtype, "shaped")
        return self.op(at, "Reshape", [value, self.ints(*shape)])

    def drop_unused(self) -> None:
        """Remove nodes and initializers that nobody reads any more."""
        for node in reversed(list(self.graph)):
            if not any(v.uses() or v.is_graph_output() for v in node.outputs):
                self.graph.remove(node, safe=True)
        inputs = {v.name for v in self.graph.inputs}
        for name, value in list(self.graph.initializers.items()):
            if not value.uses() and not value.is_graph_output() and name not in inputs:
                del self.graph.initializers[name]


def known(sizes: Iterable[int | None] | None) -> tuple[int, ...] | None:
    """The sizes of some axes; None where one of them is free."""
    found = None if sizes is None else tuple(sizes)
    held = None if found is None else tuple(n for n in found if n is not None)
    return held if held == found else None


def only_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value once; None where there is another, or where it is an output."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def _inferred(proto: onnx.ModelProto) -> dict[str, tuple[int, tuple[int | None, ...] | None]]:
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    graph = inferred.graph
    return {v.name: _type(v) for v in (*graph.input, *graph.value_info, *graph.output)}


def _type(value: onnx.ValueInfoProto) -> tuple[int, tuple[int | None, ...] | None]:
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return tensor.elem_type, None
    return tensor.elem_type, tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)


def _names(model: ir.Model) -> Iterator[str]:
    for value in (*model.graph.inputs, *model.graph.initializers.values()):
        yield value.name or ""
    for node in model.graph.all_nodes():
        yield node.name or ""
        yield from (v.name or "" for v in node.outputs)
    for function in model.functions.values():
        for node in function.all_nodes():
            yield from (v.name or "" for v in node.outputs)


def _constants(graph: ir.Graph) -> set[ir.Value]:
    found = {v for v in graph.initializers.values() if not v.is_graph_input()}
    for node in graph:
        holds_graphs = any(
            a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()
        )
        if not holds_graphs and all(v is None or v in found for v in node.inputs):
            found.update(node.outputs)
    return found
