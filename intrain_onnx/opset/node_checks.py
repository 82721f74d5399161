"""A node against its operator's schema (`schemas`) and the rules that no schema says (`rules`)."""

from __future__ import annotations

import onnx_ir as ir

from intrain_onnx.errors import printable
from intrain_onnx.opset.rules import NO_TENSOR, Given, violated
from intrain_onnx.opset.schemas import Schema

_BINARY = ("ep_cache_context",)
"""Attributes that hold bytes where others hold text."""


def fault(given: Given, schema: Schema) -> str | None:
    """What of a node is not as its operator demands, in words; None if all is.

    Rules on values wait where one of them is not known: an attribute that refers to a function's parameter.
    """
    text = _attributes(given, schema) or _arity(given, schema) or _element_types(given, schema)
    return text if text is not None or len(given.attributes) < len(given.kinds) else violated(given)


def _attributes(given: Given, schema: Schema) -> str | None:
    for name, kind in given.kinds.items():
        wanted = schema.attributes.get(name)
        if wanted is None:
            if schema.closed and not name.startswith("__"):
                return f"the operator has no attribute '{printable(name)}' in version {schema.version}"
        elif wanted != kind:
            return (
                f"the attribute '{printable(name)}' has the type {kind.name}, "
                f"and the operator takes {wanted.name}"
            )
        elif isinstance(given.attributes.get(name), bytes) and name not in _BINARY:
            return f"the attribute '{printable(name)}' is not UTF-8 text"
    missing = next((name for name in schema.required if name not in given.kinds), None)
    return None if missing is None else f"the attribute '{missing}' is missing"


def _arity(given: Given, schema: Schema) -> str | None:
    for what, there, at, least, most in (
        ("input", given.present, schema.input, schema.least_inputs, schema.most_inputs),
        ("output", given.made, schema.output, schema.least_outputs, schema.most_outputs),
    ):
        count = len(there)
        if all(there) and least <= count <= most:
            continue
        while count > least and not there[count - 1]:
            count -= 1
        if not least <= count <= most:
            bound = f"at least {least}" if count < least else f"at most {most}"
            return f"{count} {what}{'s' if count != 1 else ''}, and the operator has {bound}"
        for index in range(count):
            if not there[index] and (formal := at(index)) is not None and formal.needed:
                return f"{what} {index} ({formal.name}) is left out, and the operator needs it"
    return None


def _element_types(given: Given, schema: Schema) -> str | None:
    bound: dict[str, int] = {}
    for index, known in enumerate(given.inputs):
        if known is None or not known.element or (formal := schema.input(index)) is None:
            continue
        if formal.types and known.element not in formal.types:
            return (
                f"input {index} ({formal.name}) is {type_name(known.element)}, "
                f"which the operator does not take in version {schema.version}"
            )
        if formal.type_name and bound.setdefault(formal.type_name, known.element) != known.element:
            return (
                f"input {index} ({formal.name}) is {type_name(known.element)}, "
                f"and another one {type_name(bound[formal.type_name])}: they must be of one type"
            )
    return None


def outputs_of(given: Given, schema: Schema) -> list[int]:
    """The element type of each output, where those of the inputs, or the schema alone, say it; else 0.

    Requires: the node has no `fault`.
    """
    bound: dict[str, int] = {}
    for index, known in enumerate(given.inputs):
        if known is not None and known.element and (formal := schema.input(index)) is not None:
            bound[formal.type_name] = known.element
    bound.pop("", None)
    made = []
    for index in range(given.outputs):
        formal = schema.output(index)
        own = 0 if formal is None else bound.get(formal.type_name, 0)
        alone = next(iter(formal.types)) if formal is not None and len(formal.types) == 1 else 0
        made.append(own or alone)
    if given.op_type == "Cast" and not given.domain:
        made[0] = given.attributes.get("to", 0)
    return made


def type_name(element: int) -> str:
    """An element type as errors name it."""
    return "no tensor" if element == NO_TENSOR else f"a tensor of {ir.DataType(element).name}"
