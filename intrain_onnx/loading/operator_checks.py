"""Check every node of a file against its operator's schema once, so that no pass needs to.

The schema (`opset.schemas`) says the types of attributes, which are required, and how many inputs and outputs
there are of which element types; `opset.rules` says ranges and ranks. Of an operator without a schema it is
checked that each attribute holds what its type says, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any

import onnx
import onnx_ir as ir

from intrain_onnx.errors import ModelFileError, printable
from intrain_onnx.loading.function_checks import FunctionId, called, place, plain_domain
from intrain_onnx.opset.node_checks import fault, outputs_of
from intrain_onnx.opset.rules import NO_TENSOR, Body, Given, Known
from intrain_onnx.opset.schemas import Schema, schema_of, versions_of

_A = onnx.AttributeProto
_ONE = {_A.FLOAT: "f", _A.INT: "i", _A.STRING: "s", _A.TENSOR: "t", _A.GRAPH: "g", _A.TYPE_PROTO: "tp"}
_MANY = {
    _A.FLOATS: "floats",
    _A.INTS: "ints",
    _A.STRINGS: "strings",
    _A.TENSORS: "tensors",
    _A.GRAPHS: "graphs",
    _A.TYPE_PROTOS: "type_protos",
}
_FIELDS = {**_ONE, **_MANY}
_KINDS = {int(kind): kind for kind in ir.AttributeType}
HINT = "The file is damaged, or was edited: export it again"

_ELEMENTS = {
    "value_float": ir.DataType.FLOAT,
    "value_int": ir.DataType.INT64,
    "value_string": ir.DataType.STRING,
}

Find = Callable[[str], Known | None]
"""What the file says of a value, by its name."""


class Operators:
    """Checks nodes of one model.

    Args:
        opsets: versions by domain.
        functions: the model's own; a node that calls one has no schema.
    """

    def __init__(self, opsets: Mapping[str, int], functions: frozenset[FunctionId]) -> None:
        self._opsets = opsets
        self._functions = functions

    def check(self, node: onnx.NodeProto, find: Find) -> list[Known]:
        """Check one node; returns what is known of its outputs, an empty list if nothing is.

        Raises:
            ModelFileError: it is not as its schema or the specification says.
        """
        text = next((t for a in node.attribute if (t := _inconsistent(a)) is not None), None)
        if text is None and not node.output:
            text = "a node without outputs"
        if text is not None:
            raise ModelFileError(text, hint=HINT, **place(node))
        if called(node) in self._functions:
            return []
        domain = plain_domain(node.domain)
        schema = self._schema(domain, node)
        if schema is None:
            return []
        given = _given(domain, schema, node, find)
        text = fault(given, schema)
        if text is not None:
            raise ModelFileError(text, hint=HINT, **place(node))
        constant = _of_constant(node)
        return [constant] if constant is not None else [_made(e) for e in outputs_of(given, schema)]

    def _schema(self, domain: str, node: onnx.NodeProto) -> Schema | None:
        opset = self._opsets.get(domain, 1)
        found = schema_of(domain, node.op_type, opset)
        if found is None and (versions := versions_of(domain, node.op_type)):
            raise ModelFileError(
                f"the operator is not in opset {opset}, which the file imports, but from {versions[0]} on",
                hint="Export it again, with a newer opset",
                **place(node),
            )
        return found


@lru_cache(maxsize=64)
def _made(element: int) -> Known:
    """What is known of a value that a node makes."""
    return Known(element, None)


def _of_constant(node: onnx.NodeProto) -> Known | None:
    """What a Constant makes; None of any other node, and of sparse ones."""
    if node.op_type != "Constant" or plain_domain(node.domain) or len(node.attribute) != 1:
        return None
    attribute = node.attribute[0]
    if attribute.name == "value":
        return of_tensor(attribute.t)
    element = _ELEMENTS.get(attribute.name.rstrip("s"))
    if element is None:
        return None
    count = len(getattr(attribute, _MANY[attribute.type])) if attribute.type in _MANY else None
    return Known(int(element), () if count is None else (count,), constant=True)


def of_tensor(tensor: onnx.TensorProto) -> Known:
    """What an initializer says."""
    return Known(tensor.data_type, tuple(tensor.dims), constant=True)


def of_declared(kind: onnx.TypeProto) -> Known | None:
    """What a declared type says; None if it says nothing."""
    which = kind.WhichOneof("value")
    if which != "tensor_type":
        return None if which is None else Known(NO_TENSOR, None)
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return Known(tensor.elem_type, None)
    sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    return Known(tensor.elem_type, sizes)


def _inconsistent(attribute: _A) -> str | None:
    """What an attribute holds that its type does not say."""
    own = _FIELDS.get(attribute.type)
    if own is None:
        kind = _KINDS[attribute.type].name
        return f"the attribute '{printable(attribute.name)}' has the type {kind}, and holds none"
    other = next((f for f in _ONE.values() if f != own and attribute.HasField(f)), None)
    other = other or next((f for f in _MANY.values() if f != own and len(getattr(attribute, f))), None)
    if other is None:
        return None
    kind = _KINDS[attribute.type].name
    return (
        f"the attribute '{printable(attribute.name)}' of type {kind} holds a value of another type ({other})"
    )


def _given(domain: str, schema: Schema, node: onnx.NodeProto, find: Find) -> Given:
    return Given(
        domain=domain,
        op_type=node.op_type,
        version=schema.version,
        kinds={a.name: _KINDS[a.type] for a in node.attribute},
        attributes={a.name: _value(a) for a in node.attribute if not a.ref_attr_name},
        present=[bool(name) for name in node.input],
        inputs=[find(name) if name else None for name in node.input],
        made=[bool(name) for name in node.output],
    )


def _value(attribute: _A) -> Any:
    field = _FIELDS[attribute.type]
    held = getattr(attribute, field)
    if field == "s":
        return _text(held)
    if field in ("ints", "floats"):
        return list(held)
    if field == "g":
        return _body(held)
    return of_tensor(held) if field == "t" else held


def _text(held: bytes) -> str | bytes:
    """Bytes as text, if they are."""
    try:
        return held.decode("utf-8")
    except UnicodeDecodeError:
        return held


def _body(graph: onnx.GraphProto) -> Body:
    constants = {t.name for t in graph.initializer} if graph.initializer else ()
    return Body(sum(1 for v in graph.input if v.name not in constants), len(graph.output))
