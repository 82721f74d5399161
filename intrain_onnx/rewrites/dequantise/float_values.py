"""Maps each quantised value to the float value that it represents, and creates the nodes that this requires.

A quantised value represents the input of its QuantizeLinear, or the output of the float operator that
replaces a quantised one; a constant represents its dequantised floats. Operators in between that only move or
select elements are repeated on floats.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.marks import DECLARED, DEQUANTISED, STANDS_FOR, StandsFor
from intrain_onnx.network.values import constant_array, name_of
from intrain_onnx.opset.kinds import EVERY_INPUT, Kind
from intrain_onnx.opset.traits import is_op, kind, traits
from intrain_onnx.rewrites.dequantise.arithmetic import dequantise
from intrain_onnx.rewrites.dequantise.dropped_activations import dropped_activation

Array = np.ndarray[Any, Any]
Scheme = Literal["static QDQ", "QLinear operators", "dynamic", "weight-only"]

_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Scale:
    """Quantisation parameters as values of the graph: per tensor, per index of ``axis``, or per block."""

    scale: ir.Value
    zero: ir.Value | None = None
    axis: int = 1
    block: int = 0

    def key(self) -> tuple[Any, ...]:
        """A hashable key, equal for equivalent parameters."""
        scale, zero = _key(self.scale), None if self.zero is None else _key(self.zero)
        array = constant_array(self.zero)
        if array is not None and not array.astype(np.float32).any():
            zero = None
        single = self.scale.const_value is None or self.scale.const_value.size == 1
        return scale, zero, *((0, 0) if single else (self.axis, self.block))

    @property
    def dtype(self) -> ir.DataType:
        """Element type of the dequantised values."""
        return self.scale.dtype or ir.DataType.FLOAT


def _key(value: ir.Value) -> Any:
    array = constant_array(value)
    if array is None:
        return value
    numbers = array.astype(np.float32)
    return numbers.reshape(-1).tobytes() if numbers.size == 1 else (numbers.shape, numbers.tobytes())


@dataclass(frozen=True, slots=True)
class _Twin:
    """The float value that was quantised, and the parameters."""

    value: ir.Value
    scale: Scale


@dataclass
class Lifting:
    """Working state of one dequantisation.

    Attributes:
        model: changed in place.
        twins: float counterpart of each quantised value.
        lifted: memoised results of :meth:`lift`.
        layers: number of layers with quantised weights so far, by quantisation scheme.
        activations: restored activations, as (preceding node, operator).
        names: number of uses of each name, to make new ones unique.
    """

    model: ir.Model
    twins: dict[ir.Value, _Twin] = field(default_factory=dict)
    lifted: dict[tuple[Any, ...], ir.Value | None] = field(default_factory=dict)
    layers: Counter[Scheme] = field(default_factory=Counter)
    activations: list[tuple[str, str]] = field(default_factory=list)
    names: Counter[str] = field(default_factory=Counter)

    def constant(self, like: str, array: Array, dtype: ir.DataType = ir.DataType.FLOAT) -> ir.Value:
        """A new initializer with a name derived from ``like``."""
        name = self._name(like)
        tensor = ir.Tensor(array.astype(dtype.numpy()), dtype=dtype, name=name)
        value = ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(dtype), const_value=tensor
        )
        value.meta[DEQUANTISED] = True
        self.model.graph.register_initializer(value)
        return value

    def _name(self, like: str) -> str:
        while True:
            self.names[like] += 1
            name = f"{like}.float" if self.names[like] == 1 else f"{like}.float{self.names[like]}"
            if name not in self.model.graph.initializers:
                return name

    def node(
        self,
        place: ir.Node,
        op_type: str,
        inputs: Iterable[ir.Value | None],
        attributes: Mapping[str, ir.Attr] | None = None,
        *,
        dtype: ir.DataType = ir.DataType.FLOAT,
        name: str | None = None,
        outputs: int = 1,
    ) -> ir.Value:
        """The first output of a new node, inserted before ``place``."""
        base = name or name_of(place)
        self.names[f"node {base}"] += 1
        if self.names[f"node {base}"] > 1:
            base = f"{base}.{op_type}{self.names[f'node {base}']}"
        values = [ir.Value(name=self._name(f"{base}.{i}"), type=ir.TensorType(dtype)) for i in range(outputs)]
        copies = [_copy(a) for a in (attributes or {}).values()]
        node = ir.Node("", op_type, list(inputs), copies, outputs=values, name=base)
        graph = place.graph
        assert graph is not None
        graph.insert_before(place, node)
        return values[0]

    def replace(self, old: ir.Value, new: ir.Value) -> None:
        """Replace all uses of ``old``, graph outputs included, by ``new``."""
        if old.dtype is not None and old.dtype.is_floating_point() and old.name:
            new.meta[STANDS_FOR] = StandsFor(old.name)
        if old.is_graph_output():
            new = self._as_output(old, new)
        elif new.shape is None:
            new.shape = old.shape
        old.replace_all_uses_with(new, replace_graph_outputs=True)

    def _as_output(self, old: ir.Value, new: ir.Value) -> ir.Value:
        """``new``, or a copy of it, under the name of the graph output ``old``."""
        producer, node = new.producer(), old.producer()
        assert node is not None
        if producer is None or producer.graph is not node.graph or new.is_graph_output():
            new = self.node(node, "Identity", [new], dtype=new.dtype or ir.DataType.FLOAT)
        name, old.name = old.name, f"{old.name}.quantised"
        new.name, new.shape = name, old.shape
        if DECLARED in old.meta:
            new.meta[DECLARED] = old.meta[DECLARED]
        return new

    def stand_for(self, quantised: ir.Value, value: ir.Value, scale: Scale, place: ir.Node) -> None:
        """Record the float that a quantised value represents, with an activation that saturation computed."""
        zero = constant_array(scale.zero)
        unknown_zero = scale.zero is not None and zero is None
        bounds = None
        if not unknown_zero:
            kind = quantised.dtype if scale.zero is None else scale.zero.dtype
            bounds = dropped_activation(value, constant_array(scale.scale), zero, kind)
        if bounds is not None:
            value = self._activation(value, bounds[1], place)
        self.twins[quantised] = _Twin(value, scale)
        factors = constant_array(scale.scale)
        if factors is not None and not unknown_zero and factors.size == 1 and quantised.name:
            value.meta.setdefault(STANDS_FOR, StandsFor(quantised.name, factors, zero))

    def _activation(self, value: ir.Value, top: float | None, place: ir.Node) -> ir.Value:
        maker = value.producer()
        assert maker is not None
        op = "Relu" if top is None else "Clip"
        self.activations.append((name_of(maker), op))
        dtype = value.dtype or ir.DataType.FLOAT
        name = f"{name_of(maker)}.{op.lower()}"
        if top is None:
            return self.node(place, op, [value], dtype=dtype, name=name)
        if self.model.opset_imports.get("", 1) < 11:
            bounds = {"min": ir.AttrFloat32("min", 0.0), "max": ir.AttrFloat32("max", top)}
            return self.node(place, op, [value], bounds, dtype=dtype, name=name)
        limits = [self.constant(f"{name}.{n}", np.array(v), dtype) for n, v in (("min", 0.0), ("max", top))]
        return self.node(place, op, [value, *limits], dtype=dtype, name=name)

    def lift(self, value: ir.Value | None, scale: Scale, depth: int = 0) -> ir.Value | None:
        """The float that a quantised value represents under a scale; None if it cannot be determined."""
        if value is None or depth > _DEPTH:
            return None
        key = (value, *scale.key())
        if key not in self.lifted:
            self.lifted[key] = None  # ends the recursion
            self.lifted[key] = self._lift(value, scale, depth)
        return self.lifted[key]

    def scale_of(self, value: ir.Value | None, zero: ir.Value | None) -> Scale | None:
        """The parameters that a value was quantised with; None unless its zero point is ``zero``."""
        for _ in range(_DEPTH):
            if value is None or value in self.twins:
                break
            node = value.producer()
            if node is None or is_op(node, "Cast") or traits(node).elements_of in ((), (EVERY_INPUT,)):
                return None
            value = node.inputs[0]
        twin = self.twins.get(value) if value is not None else None
        if twin is None:
            return None
        given = replace(twin.scale, zero=zero)
        return given if given.key() == twin.scale.key() else None

    def _lift(self, value: ir.Value, scale: Scale, depth: int) -> ir.Value | None:
        array = constant_array(value)
        if array is not None:
            return self._constant(value, array, scale)
        twin = self.twins.get(value)
        if twin is not None:
            return twin.value if twin.scale.key() == scale.key() else None
        node = value.producer()
        if node is None:
            return None
        return self._clamped(node, scale, depth) or self._moved(node, value, scale, depth)

    def _constant(self, value: ir.Value, array: Array, scale: Scale) -> ir.Value | None:
        factors, zero = constant_array(scale.scale), constant_array(scale.zero)
        if factors is None or (scale.zero is not None and zero is None):
            return None
        floats = dequantise(array, factors, zero, scale.axis, scale.block)
        return None if floats is None else self.constant(value.name or "weight", floats, scale.dtype)

    def _moved(self, node: ir.Node, value: ir.Value, scale: Scale, depth: int) -> ir.Value | None:
        """The same operator on floats; None unless it only moves or selects elements."""
        wanted = traits(node).elements_of
        if not wanted or is_op(node, "Cast") or (value.index() and not is_op(node, "Split")):
            return None
        single = scale.scale.const_value is not None and scale.scale.const_value.size == 1
        if not single and not (scale.scale.const_value is None and not is_op(node, "Concat")):
            return None
        inputs = list(node.inputs)
        for index in range(len(inputs)) if EVERY_INPUT in wanted else wanted:
            if index >= len(inputs) or inputs[index] is None:
                continue
            inputs[index] = self.lift(inputs[index], scale, depth + 1)
            if inputs[index] is None:
                return None
        if kind(node) is Kind.LOOKUP and constant_array(node.inputs[0]) is not None:
            self.layers["weight-only"] += 1
        if is_op(node, "Pad"):
            inputs = self._padded(node, inputs, scale)
        new = self.node(
            node,
            node.op_type,
            inputs,
            node.attributes,
            dtype=scale.dtype,
            name=node.name,
            outputs=len(node.outputs),
        )
        maker = new.producer()
        assert maker is not None
        for old, made in zip(node.outputs, maker.outputs, strict=True):
            made.shape = old.shape
            self.lifted[(old, *scale.key())] = made
        return maker.outputs[value.index() or 0]

    def _padded(self, node: ir.Node, inputs: list[ir.Value | None], scale: Scale) -> list[ir.Value | None]:
        """Inputs of a float Pad: the default fill of integer 0 represents -zero point * scale."""
        zero = constant_array(scale.zero)
        given = len(inputs) > 2 and inputs[2] is not None
        constant = "mode" not in node.attributes or node.attributes["mode"].as_string() == "constant"
        if given or not constant or zero is None or not zero.astype(np.float32).any():
            return inputs
        factor = constant_array(scale.scale)
        assert factor is not None
        fill = -zero.astype(np.float32).reshape(()) * factor.astype(np.float32).reshape(())
        padding = self.constant(f"{name_of(node)}.value", fill, scale.dtype)
        return [*inputs, *[None] * (2 - len(inputs)), padding, *inputs[3:]]

    def _clamped(self, node: ir.Node, scale: Scale, depth: int) -> ir.Value | None:
        """An integer Clip: a Relu if its lower bound is the zero point, else ignored, as saturation is."""
        if not is_op(node, "Clip"):
            return None
        value = self.lift(node.inputs[0], scale, depth + 1)
        if value is None or len(node.inputs) < 2:
            return value
        low, zero = constant_array(node.inputs[1]), constant_array(scale.zero)
        offset = (
            0 if scale.zero is None else None if zero is None or zero.size != 1 else int(zero.reshape(-1)[0])
        )
        if low is None or offset is None or low.size != 1 or int(low.reshape(-1)[0]) != offset:
            return value
        producer = value.producer()
        if is_op(producer, "Relu", "Clip"):
            return value
        return self._activation(value, None, node) if producer is not None else value


def _copy(attribute: ir.Attr) -> ir.Attr:
    return ir.Attr(attribute.name, attribute.type, attribute.value, doc_string=attribute.doc_string)
