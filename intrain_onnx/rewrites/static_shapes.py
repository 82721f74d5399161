"""Shape inference node by node where every shape is known, by onnx's own rules, each applied once.

onnx infers the shapes of a whole model in one call, for which it must be written out and read back: 0.3 ms
for each node. Where all shapes are concrete, a node's outputs follow from the node and its inputs alone, and
networks repeat few such pairs; onnx is asked once for each, and the answer is kept for the whole process.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import onnx
import onnx.shape_inference
import onnx_ir as ir

from intrain_onnx import memory
from intrain_onnx.network.values import shape_of

_MOST_BYTES = 1000
"""Largest initializer whose data shapes may follow from; onnx_ir shows no larger one to onnx either."""

_KEPT = 20_000
_PLAIN = frozenset({ir.AttributeType.INT, ir.AttributeType.FLOAT, ir.AttributeType.STRING})
_LISTS = frozenset({ir.AttributeType.INTS, ir.AttributeType.FLOATS, ir.AttributeType.STRINGS})

Typed = tuple[int, tuple[int, ...]]
"""Element type and shape of a tensor."""

Operand = tuple[Typed, bytes | None] | None
"""An input: its type, and the data of a small constant; None if it is left out."""

Attributes = tuple[tuple[str, int, Any], ...]
"""Name, type and value of each attribute."""


def infer_static(model: ir.Model) -> bool:
    """Set shape and type of every value of a model, in place, from those of its inputs.

    Returns:
        False, with the model unchanged, unless the shapes of all values are concrete and follow without
        running any part of the graph: no subgraph, no operator without a rule, no computed shape.
    """
    graph = model.graph
    constants = {value: _constant(value) for value in graph.initializers.values()}
    known: dict[ir.Value, Typed] = {v: typed for v, typed in constants.items() if typed is not None}
    known |= {v: typed for v in graph.inputs if v not in constants and (typed := _declared(v)) is not None}
    if len(known) < len({*graph.inputs, *constants}) or not len(graph):
        return False
    for node in graph:
        found = _outputs(node, known, model.opset_imports)
        if found is None:
            return False
        known.update(zip(node.outputs, found, strict=True))
    for value, (dtype, shape) in known.items():
        if value.shape is None:
            value.shape = ir.Shape(shape)
        if value.dtype is None:
            value.dtype = ir.DataType(dtype)
    return True


def _constant(value: ir.Value) -> Typed | None:
    tensor = value.const_value
    return None if tensor is None else (int(tensor.dtype), shape_of(value))


def _declared(value: ir.Value) -> Typed | None:
    if not isinstance(value.type, ir.TensorType) or value.dtype is None or value.shape is None:
        return None
    dims = value.shape.dims
    return (int(value.dtype), _concrete(value.shape)) if all(isinstance(d, int) for d in dims) else None


def _concrete(shape: Any) -> tuple[int, ...]:
    return tuple(shape.numpy())


def _outputs(
    node: ir.Node, known: Mapping[ir.Value, Typed], opsets: Mapping[str, int]
) -> Sequence[Typed] | None:
    """Types of a node's outputs; None if they do not follow, or contradict those that it has."""
    attributes = _attributes(node)
    opset = opsets.get(node.domain)
    if attributes is None or opset is None or not all(v is None or v in known for v in node.inputs):
        return None
    named = tuple(bool(v.name) for v in node.outputs)
    call = (node.domain, node.op_type, opset, attributes, named)
    found = _inferred(*call, _operands(node, known, with_floats=False))
    if found is None:  # the scales of a Resize are floats
        found = _inferred(*call, _operands(node, known, with_floats=True))
    if found is None or any(
        v.dtype is not None and v.dtype != dtype for v, (dtype, _) in zip(node.outputs, found, strict=True)
    ):
        return None
    return found


def _attributes(node: ir.Node) -> Attributes | None:
    if not node.attributes:
        return ()
    found = []
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            return None
        if attribute.type in _PLAIN:
            found.append((name, int(attribute.type), attribute.value))
        elif attribute.type in _LISTS:
            found.append((name, int(attribute.type), tuple(attribute.value)))
        else:
            return None
    return tuple(found)


def _operands(node: ir.Node, known: Mapping[ir.Value, Typed], *, with_floats: bool) -> tuple[Operand, ...]:
    return tuple(None if v is None else (known[v], _data(v, with_floats)) for v in node.inputs)


def _data(value: ir.Value, with_floats: bool) -> bytes | None:
    """The data of a constant from which a shape may follow."""
    tensor = value.const_value
    if tensor is None or not value.is_initializer():
        return None
    if tensor.dtype.is_floating_point() and not with_floats:
        return None
    return tensor.tobytes() if tensor.nbytes <= _MOST_BYTES else None


@lru_cache(maxsize=_KEPT)
def _inferred(
    domain: str,
    op_type: str,
    opset: int,
    attributes: Attributes,
    named: tuple[bool, ...],
    operands: tuple[Operand, ...],
) -> tuple[Typed, ...] | None:
    """Types of the outputs of one node by onnx's rule for its operator; None if one has no concrete shape."""
    names = [f"i{i}" if operand is not None else "" for i, operand in enumerate(operands)]
    outputs = [f"o{i}" if has_name else "" for i, has_name in enumerate(named)]
    proto = onnx.NodeProto(domain=domain, op_type=op_type, input=names, output=outputs)
    proto.attribute.extend(
        ir.serde.serialize_attribute(ir.Attr(name, ir.AttributeType(kind), value))
        for name, kind, value in attributes
    )
    given = [(name, *operand) for name, operand in zip(names, operands, strict=True) if operand is not None]
    types = {name: onnx.helper.make_tensor_type_proto(*typed) for name, typed, _ in given}
    data = {
        name: onnx.TensorProto(data_type=dtype, dims=shape, raw_data=held)
        for name, (dtype, shape), held in given
        if held is not None
    }
    try:
        schema = onnx.defs.get_schema(op_type, opset, domain)
        imports = [onnx.helper.make_opsetid(domain, opset)]
        found = onnx.shape_inference.infer_node_outputs(schema, proto, types, data, opset_imports=imports)
    except Exception as error:  # of onnx's C++ code: no rule, or a node that it refuses
        if memory.ran_out(error):
            raise
        return None
    made = [_typed(found.get(name)) for name in outputs if name]
    return tuple(t for t in made if t is not None) if all(named) and None not in made else None


def _typed(proto: onnx.TypeProto | None) -> Typed | None:
    if proto is None or not proto.HasField("tensor_type") or not proto.tensor_type.HasField("shape"):
        return None
    dims: Iterable[Any] = proto.tensor_type.shape.dim
    if not all(d.HasField("dim_value") for d in dims):
        return None
    return proto.tensor_type.elem_type, tuple(d.dim_value for d in proto.tensor_type.shape.dim)
