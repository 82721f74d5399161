"""Check every node against its operator's schema once, so that no pass needs to.

The schema (`opset.schemas`) says the types of attributes, which are required, and how many inputs and outputs
there are of which element types; `opset.rules` says ranges and ranks. Nodes of operators without a schema are
checked for themselves: an attribute holds what its type says, and nothing else.

Cost: 8 microseconds a node.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import onnx
import onnx_ir as ir

from intrain_onnx.errors import ModelFileError, printable
from intrain_onnx.loading.function_checks import FunctionId, called, place, plain_domain
from intrain_onnx.opset.rules import Body, Given, Known, violated
from intrain_onnx.opset.schemas import Operand, Schema, schema_of

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
_HINT = "The file is damaged, or was edited: export it again"
_CONSTANT_TYPES = {"value_float": 1, "value_floats": 1, "value_int": 7, "value_ints": 7, "value_string": 8, "value_strings": 8}

Find = Callable[[str], Known | None]
"""What the file says of a value, by its name."""


class Operators:
    """Checks nodes of one model."""

    def __init__(self, opsets: Mapping[str, int], functions: frozenset[FunctionId]) -> None:
        self._opsets = opsets
        self._functions = functions

    def check(self, node: onnx.NodeProto, find: Find, *, in_function: bool) -> None:
        """Check one node.

        In a function, rules on values wait until it is expanded where an attribute refers to a parameter.

        Raises:
            ModelFileError: it is not as its schema or the specification says.
        """
        for attribute in node.attribute:
            if (text := _inconsistent(attribute)) is not None:
                raise _refused(text, node)
        if not node.output:
            raise _refused("a node without outputs", node)
        if called(node) in self._functions:
            return
        domain = plain_domain(node.domain)
        schema = schema_of(domain, node.op_type, self._opsets.get(domain, 1))
        if schema is None:
            return
        text = _unlike(schema, node, find)
        if text is None and not (in_function and any(a.ref_attr_name for a in node.attribute)):
            text = violated(_given(domain, schema, node, find))
        if text is not None:
            raise _refused(text, node)

    def known(self, node: onnx.NodeProto) -> Known | None:
        """What a Constant makes; None of any other node."""
        if node.op_type != "Constant" or plain_domain(node.domain) or len(node.attribute) != 1:
            return None
        attribute = node.attribute[0]
        if attribute.name == "value" and attribute.HasField("t"):
            return of_tensor(attribute.t)
        count = len(getattr(attribute, _MANY[attribute.type])) if attribute.type in _MANY else None
        element = _CONSTANT_TYPES.get(attribute.name, 0)
        return Known(element, () if count is None else (count,), constant=True) if element else None


def of_tensor(tensor: onnx.TensorProto) -> Known:
    """What an initializer says."""
    return Known(tensor.data_type, tuple(tensor.dims), constant=True)


def of_declared(kind: onnx.TypeProto) -> Known | None:
    """What a declared type says; None of a sequence or an optional."""
    if kind.WhichOneof("value") != "tensor_type":
        return None
    tensor = kind.tensor_type
    if not tensor.HasField("shape"):
        return Known(tensor.elem_type, None)
    return Known(
        tensor.elem_type, tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
    )


def _refused(text: str, node: onnx.NodeProto) -> ModelFileError:
    return ModelFileError(text, hint=_HINT, **place(node))


def _inconsistent(attribute: _A) -> str | None:
    """What an attribute holds besides what its type says; subgraphs and tensors are checked elsewhere."""
    own = _FIELDS.get(attribute.type)
    if own is None:
        return f"the attribute '{printable(attribute.name)}' has the unknown type {attribute.type}"
    for field in _ONE.values():
        if field != own and attribute.HasField(field):
            return _also(attribute, field)
    for field in _MANY.values():
        if field != own and len(getattr(attribute, field)):
            return _also(attribute, field)
    return None


def _also(attribute: _A, field: str) -> str:
    kind = _type_name(attribute.type)
    return f"the attribute '{printable(attribute.name)}' of type {kind} holds a value of another type ({field})"


def _type_name(number: int) -> str:
    return ir.AttributeType(number).name


def _unlike(schema: Schema, node: onnx.NodeProto, find: Find) -> str | None:
    """What of a node is not as its schema says."""
    return _attributes(schema, node) or _arity(schema, node) or _element_types(schema, node, find)


def _attributes(schema: Schema, node: onnx.NodeProto) -> str | None:
    names = set()
    for attribute in node.attribute:
        name = attribute.name
        names.add(name)
        wanted = schema.attributes.get(name)
        if wanted is None:
            if schema.closed and not name.startswith("__"):
                return f"the operator has no attribute '{printable(name)}' in version {schema.version}"
        elif wanted != attribute.type:
            return (
                f"the attribute '{printable(name)}' has the type {_type_name(attribute.type)}, "
                f"and the operator takes {wanted.name}"
            )
    missing = next((name for name in schema.required if name not in names), None)
    return None if missing is None else f"the attribute '{missing}' is missing"


def _arity(schema: Schema, node: onnx.NodeProto) -> str | None:
    for what, names, at, least, most in (
        ("input", node.input, schema.input, schema.least_inputs, schema.most_inputs),
        ("output", node.output, schema.output, schema.least_outputs, schema.most_outputs),
    ):
        count = len(names)
        while count > least and not names[count - 1]:
            count -= 1
        if not least <= count <= most:
            bound = f"at least {least}" if count < least else f"at most {most}"
            return f"{count} {what}s, and the operator has {bound}"
        for index in range(count):
            if not names[index] and (formal := at(index)) is not None and formal.needed:
                return f"{what} {index} ({formal.name}) is left out, and the operator needs it"
    return None


def _element_types(schema: Schema, node: onnx.NodeProto, find: Find) -> str | None:
    bound: dict[str, int] = {}
    for index, name in enumerate(node.input):
        formal = schema.input(index)
        known = find(name) if name else None
        if formal is None or known is None or not known.element:
            continue
        if formal.types and known.element not in formal.types:
            return (
                f"input {index} ({formal.name}) has the element type {_element(known.element)}, "
                f"which the operator does not take in version {schema.version}"
            )
        if formal.type_name and bound.setdefault(formal.type_name, known.element) != known.element:
            return (
                f"input {index} ({formal.name}) has the element type {_element(known.element)}, "
                f"and another one {_element(bound[formal.type_name])}: they must be equal"
            )
    return None


def _element(number: int) -> str:
    return ir.DataType(number).name


def _given(domain: str, schema: Schema, node: onnx.NodeProto, find: Find) -> Given:
    return Given(
        domain=domain,
        op_type=node.op_type,
        version=schema.version,
        attributes={a.name: _value(a) for a in node.attribute},
        inputs=[find(name) if name else None for name in node.input],
        outputs=len(node.output),
    )


def _value(attribute: _A) -> Any:
    field = _FIELDS[attribute.type]
    held = getattr(attribute, field)
    if field == "s":
        return held.decode("utf-8", "replace")
    if field in ("ints", "floats"):
        return list(held)
    if field == "g":
        return _body(held)
    return of_tensor(held) if field == "t" else held


def _body(graph: onnx.GraphProto) -> Body:
    constants = {t.name for t in graph.initializer} if graph.initializer else set()
    return Body(sum(1 for v in graph.input if v.name not in constants), len(graph.output))
