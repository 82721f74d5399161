"""ONNX to torch: one ``call_function`` node of a ``torch.fx.GraphModule`` for each ONNX node.

Initializers become parameters (trainable ones) or buffers, one for each ONNX name, so ties survive.
The ``meta`` of every fx node names its origin: ``onnx_op``, ``onnx_name``, ``onnx_outputs``; and the
``dtype`` and ``rank`` of its value, None where shape inference does not know them.
"""

from __future__ import annotations

import keyword
import operator
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from types import MappingProxyType
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, fx, nn

from intrain_onnx import memory, ops
from intrain_onnx.errors import MissingOpsError, UnsupportedError
from intrain_onnx.network.values import name_of
from intrain_onnx.ops import narrow
from intrain_onnx.opset.support import unsupported
from intrain_onnx.runtime.arrays import from_numpy
from intrain_onnx.runtime.lazy_module import LazyModule

_DTYPES = {
    ir.DataType.FLOAT: torch.float32,
    ir.DataType.UINT8: torch.uint8,
    ir.DataType.INT8: torch.int8,
    ir.DataType.UINT16: torch.uint16,
    ir.DataType.INT16: torch.int16,
    ir.DataType.INT32: torch.int32,
    ir.DataType.INT64: torch.int64,
    ir.DataType.BOOL: torch.bool,
    ir.DataType.FLOAT16: torch.float16,
    ir.DataType.DOUBLE: torch.float64,
    ir.DataType.UINT32: torch.uint32,
    ir.DataType.UINT64: torch.uint64,
    ir.DataType.COMPLEX64: torch.complex64,
    ir.DataType.COMPLEX128: torch.complex128,
    ir.DataType.BFLOAT16: torch.bfloat16,
    ir.DataType.FLOAT8E4M3FN: torch.float8_e4m3fn,
    ir.DataType.FLOAT8E4M3FNUZ: torch.float8_e4m3fnuz,
    ir.DataType.FLOAT8E5M2: torch.float8_e5m2,
    ir.DataType.FLOAT8E5M2FNUZ: torch.float8_e5m2fnuz,
    ir.DataType.FLOAT8E8M0: narrow.FLOAT8_E8M0,
    ir.DataType.FLOAT4E2M1: narrow.FLOAT4,
    ir.DataType.INT4: narrow.INT4,
    ir.DataType.UINT4: narrow.UINT4,
    ir.DataType.INT2: narrow.INT2,
    ir.DataType.UINT2: narrow.UINT2,
}
_HALF = {torch.float16, torch.bfloat16}


def torch_dtype(element_type: int, *, half_as_float: bool = True) -> torch.dtype:
    """The torch dtype of an ONNX element type; float32 for float16 and bfloat16 if ``half_as_float``.

    Raises:
        UnsupportedError: torch has no such type.
    """
    known = set(ir.DataType)
    dtype = _DTYPES.get(ir.DataType(element_type)) if element_type in known else None
    if dtype is None:
        name = ir.DataType(element_type).name if element_type in known else element_type
        raise UnsupportedError(f"element type {name} has no torch dtype")
    return torch.float32 if half_as_float and dtype in _HALF else dtype


def to_tensor(tensor: ir.TensorProtocol, *, half_as_float: bool = True) -> Tensor:
    """A torch copy of an ONNX tensor."""
    torch_dtype(tensor.dtype)  # refuses what torch cannot hold
    value = from_numpy(tensor.numpy())
    return value.float() if half_as_float and value.dtype in _HALF else value


def _has_handler(domain: str, op_type: str, opset: int) -> bool:
    return ops.resolve(domain, op_type, opset) is not None


@memory.collector_paused()
def convert(
    model: ir.Model,
    trainable: Collection[str] = (),
    *,
    half_as_float: bool = True,
    to_be_drawn: bool = False,
    stand_ins: Mapping[str, nn.Module] = MappingProxyType({}),
) -> fx.GraphModule:
    """Convert a normalised model (see ``normalise``) to torch.

    Args:
        model: the model; it is not changed and shares no memory with the result.
        trainable: names of the initializers that become parameters; the others become buffers.
        half_as_float: hold and compute float16 and bfloat16 in float32.
        to_be_drawn: leave the values of parameters undefined, without reading them.
        stand_ins: by name of an initializer that is not held, a module that gives its value when it is read.

    Returns:
        A module whose inputs and outputs are the graph's, in order (one output is not wrapped in a tuple).
        ``module.meta["parameters"]`` maps each trainable initializer to the path of its parameter, and
        ``module.meta["stand_ins"]`` is ``stand_ins``.

    Raises:
        MissingOpsError: names every operator that has no handler.
        UnsupportedError: an attribute or an element type that a handler does not support.
    """
    missing = unsupported(model, _has_handler)
    if missing:
        raise MissingOpsError(missing)
    builder = _Builder(model, frozenset(trainable), half_as_float, to_be_drawn, stand_ins)
    module = builder.build(model.graph, captured=(), unwrap=True)
    module.meta["stand_ins"] = dict(stand_ins)  # a mapping proxy cannot be copied
    return module


def bind(graph: Callable[..., Any], *captured: Any) -> Callable[..., tuple[Any, ...]]:
    """The closure of a subgraph: a function of its formal inputs, with the captured outer values bound."""

    def call(*formal: Any) -> tuple[Any, ...]:
        return tuple(graph(*formal, *captured))

    return call


def captured_values(graph: ir.Graph) -> list[ir.Value]:
    """Free variables of a subgraph, nested ones included, in order of first use."""
    own: set[ir.Value] = {*graph.inputs, *graph.initializers.values()}
    found: dict[ir.Value, None] = {}
    for node in graph:
        inner = [v for g in _subgraphs(node) for v in captured_values(g)]
        found.update((v, None) for v in (*node.inputs, *inner) if v is not None and v not in own)
        own.update(node.outputs)
    found.update((v, None) for v in graph.outputs if v not in own)
    return list(found)


def _subgraphs(node: ir.Node) -> list[ir.Graph]:
    return [a.as_graph() for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]


def _identifier(name: str) -> str:
    plain = re.sub(r"\W", "_", name) or "_"
    return f"{plain}_" if plain == "self" else plain


def _quantised_from(value: ir.Value | None, scope: _Scope) -> fx.Node | None:
    """The float input of the QuantizeLinear that a value is the output of, in the same graph; else None."""
    producer = value.producer() if value is not None else None
    if (
        producer is None
        or producer.domain
        or producer.op_type not in ("QuantizeLinear", "DynamicQuantizeLinear")
    ):
        return None
    source = producer.inputs[0]
    return scope.values.get(source) if source is not None else None


_MOST_PARTS = 32
"""Levels of modules that a name with dots makes; torch walks them recursively."""


@cache
def _attributes() -> frozenset[str]:
    """What a module has of its own, in any case, and what its code calls itself."""
    return frozenset({*dir(LazyModule(nn.Module(), fx.Graph())), "self"})


@dataclass
class _Names:
    """Unique attribute paths on a module, without characters that could break generated code.

    The cost of all names is linear: whatever they are, a number that was tried for one is not tried again.
    """

    leaves: set[str] = field(default_factory=set)
    modules: dict[str, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)

    def claim(self, name: str) -> str:
        *parents, leaf = map(self._part, name.split(".", _MOST_PARTS - 1))
        owner = ""
        for part in parents:  # of "a" and "a.b", "a" is a tensor and no module
            wanted = f"{owner}{part}"
            if wanted not in self.modules:
                self.modules[wanted] = self._unused(wanted, self.leaves)
                self.modules.setdefault(self.modules[wanted], self.modules[wanted])
            owner = f"{self.modules[wanted]}."
        path = self._unused(f"{owner}{leaf}", self.leaves, self.modules)
        self.leaves.add(path)
        return path

    def _part(self, text: str) -> str:
        part = re.sub(r"[^A-Za-z0-9_/:\-]", "_", text) or "_"
        return part + "_" if keyword.iskeyword(part) or part in _attributes() else part

    def _unused(self, wanted: str, *taken: Collection[str]) -> str:
        """The path, or with the next number that makes it another one than all those taken."""
        path = wanted
        while any(path in those for those in taken):
            self.numbers[wanted] = self.numbers.get(wanted, 0) + 1
            path = f"{wanted}_{self.numbers[wanted]}"
        return path


class _Builder:
    def __init__(
        self,
        model: ir.Model,
        trainable: frozenset[str],
        half_as_float: bool,
        to_be_drawn: bool,
        stand_ins: Mapping[str, nn.Module],
    ) -> None:
        self.opsets = model.opset_imports
        self.trainable = trainable
        self.half_as_float = half_as_float
        self.to_be_drawn = to_be_drawn
        self.stand_ins = stand_ins
        self.streams = 0

    def build(self, graph: ir.Graph, captured: Iterable[ir.Value], *, unwrap: bool = False) -> fx.GraphModule:
        module, target = LazyModule(nn.Module(), fx.Graph(), class_name="OnnxGraph"), fx.Graph()
        scope = _Scope(module, target, _Names())
        for value in (*graph.inputs, *captured):
            if value.name in graph.initializers:  # before IR version 4 initializers had to be inputs too
                continue
            placeholder = target.placeholder(_identifier(value.name or "input"))
            placeholder.target = placeholder.name  # fx makes it a unique Python identifier
            placeholder.meta |= {"onnx_op": "Input", "onnx_name": value.name, "onnx_outputs": [value.name]}
            placeholder.meta |= self._type(value)
            scope.values[value] = placeholder
        for node in graph:
            try:
                self._emit(node, scope)
            except UnsupportedError as error:
                error.at(node=node.name, op=node.op_type)
                raise
        outputs = tuple(self._value(v, scope) for v in graph.outputs)
        target.output(outputs[0] if unwrap and len(outputs) == 1 else outputs)
        module.graph = target
        module.meta["parameters"] = scope.parameters
        return module

    def _value(self, value: ir.Value | None, scope: _Scope) -> fx.Node | None:
        if value is None:
            return None
        stand_in = self.stand_ins.get(value.name or "")
        if value not in scope.values and stand_in is not None:
            scope.values[value] = scope.ask(value.name or "", stand_in)
        elif value not in scope.values:
            assert value.const_value is not None, f"{value.name} is used before it is made"
            known = value.const_value
            dtype = torch_dtype(known.dtype, half_as_float=self.half_as_float)
            trainable = value.name in self.trainable and dtype.is_floating_point
            if trainable and self.to_be_drawn:
                tensor = torch.empty(tuple(known.shape.numpy()), dtype=dtype)
            else:
                tensor = to_tensor(known, half_as_float=self.half_as_float)
            scope.values[value] = scope.hold(value.name or "constant", tensor, trainable=trainable)
        return scope.values[value]

    def _emit(self, node: ir.Node, scope: _Scope) -> None:
        handler = ops.resolve(node.domain, node.op_type, self.opsets.get(node.domain, 1))
        assert handler is not None, "missing operators are gathered before"
        args = tuple(self._value(v, scope) for v in node.inputs)
        while args and args[-1] is None:
            args = args[:-1]
        kwargs = {name: self._attribute(handler, a, scope) for name, a in node.attributes.items()}
        outputs = list(node.outputs)
        if handler.returns_tuple:
            kwargs["n_outputs"] = len(outputs)
        if handler.takes_stream:
            kwargs["stream"] = self.streams
            self.streams += 1
        if handler.takes_carrier:
            kwargs["carrier"] = _quantised_from(node.inputs[0], scope)
        call = scope.graph.call_function(handler.function, args, kwargs)
        call.meta |= {
            "onnx_op": node.op_type,
            "onnx_domain": node.domain,
            "onnx_name": name_of(node),
            "onnx_outputs": [v.name for v in outputs],
        }
        if not handler.returns_tuple:
            call.meta |= self._type(outputs[0])
            scope.values[outputs[0]] = call
            return
        for index, value in enumerate(outputs):
            if value.name:
                item = scope.graph.call_function(operator.getitem, (call, index))
                item.meta |= {"onnx_op": "Output", "onnx_name": name_of(node), "onnx_outputs": [value.name]}
                item.meta |= self._type(value)
                scope.values[value] = item

    def _type(self, value: ir.Value) -> dict[str, Any]:
        """The torch type and the number of axes of a value, where shape inference knows them."""
        dtype = _DTYPES.get(value.dtype) if value.dtype is not None else None
        narrowed = torch.float32 if self.half_as_float and dtype in _HALF else dtype
        return {"dtype": narrowed, "rank": len(value.shape) if value.shape is not None else None}

    def _attribute(self, handler: ops.Handler, attribute: ir.Attr, scope: _Scope) -> Any:
        if attribute.name not in handler.attributes:
            raise UnsupportedError(f"attribute {attribute.name!r} is not supported")
        if attribute.type == ir.AttributeType.GRAPH:
            return self._subgraph(attribute, scope)
        if attribute.type == ir.AttributeType.TENSOR:
            tensor = to_tensor(attribute.as_tensor(), half_as_float=self.half_as_float)
            return scope.hold(attribute.name, tensor, trainable=False)
        if attribute.type == ir.AttributeType.TYPE_PROTO:  # of an empty Optional, which holds no tensor
            return None
        if attribute.name in handler.dtype_attributes:
            return torch_dtype(attribute.as_int(), half_as_float=self.half_as_float)
        value = attribute.value
        return list(value) if isinstance(value, (list, tuple)) else value

    def _subgraph(self, attribute: ir.Attr, scope: _Scope) -> fx.Node:
        graph = attribute.as_graph()
        captured = captured_values(graph)
        name = scope.names.claim(f"{attribute.name}_{len(scope.values)}")
        scope.root.add_module(name, self.build(graph, captured))
        module = scope.graph.get_attr(name)
        bound = scope.graph.call_function(bind, (module, *(self._value(v, scope) for v in captured)))
        for item in (module, bound):
            item.meta |= {"onnx_op": "Subgraph", "onnx_name": graph.name, "onnx_outputs": []}
        return bound


@dataclass
class _Scope:
    """The fx graph under construction, with the fx node of each value."""

    root: nn.Module
    graph: fx.Graph
    names: _Names
    values: dict[ir.Value, fx.Node] = field(default_factory=dict)
    parameters: dict[str, str] = field(default_factory=dict)

    def hold(self, name: str, tensor: Tensor, *, trainable: bool) -> fx.Node:
        """Register a tensor as parameter or buffer under its ONNX name; returns its ``get_attr`` node."""
        path = self.names.claim(name)
        owner, leaf = self._owner(path)
        if trainable:
            owner.register_parameter(leaf, nn.Parameter(tensor))
            self.parameters[name] = path
        else:
            owner.register_buffer(leaf, tensor)
        node = self.graph.get_attr(path)
        node.meta |= {"onnx_op": "Initializer", "onnx_name": name, "onnx_outputs": [name]}
        return node

    def ask(self, name: str, stand_in: nn.Module) -> fx.Node:
        """Register a module that stands in for an initializer; returns the node that calls it."""
        path = self.names.claim(name)
        owner, leaf = self._owner(path)
        owner.add_module(leaf, stand_in)
        node = self.graph.call_module(path)
        node.meta |= {"onnx_op": "Initializer", "onnx_name": name, "onnx_outputs": []}
        return node

    def _owner(self, path: str) -> tuple[nn.Module, str]:
        """The module that holds what has a path, made where it is missing, and the last part of the path."""
        *parents, leaf = path.split(".")
        owner = self.root
        for part in parents:
            if part not in owner._modules:
                owner.add_module(part, nn.Module())
            owner = owner.get_submodule(part)
        return owner, leaf
