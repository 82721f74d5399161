"""The lowest opset of each domain, and the lowest IR version, with which a file still says what it says.

An opset import may be lowered as long as every node keeps its schema: to the newest of the versions that the
nodes resolve to. The IR version may be lowered as long as the format has what the file uses. Properties of
nodes and values (``metadata_props``) do not count: who does not know them skips them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from intrain_onnx.opset.schemas import schema_of

_FIRST_IR = 3
"""The first with opset imports, without which no node has a meaning."""

_ELEMENT_TYPES: Mapping[str, int] = {
    "BFLOAT16": 4,
    "FLOAT8E4M3FN": 9,
    "FLOAT8E4M3FNUZ": 9,
    "FLOAT8E5M2": 9,
    "FLOAT8E5M2FNUZ": 9,
    "UINT4": 10,
    "INT4": 10,
    "FLOAT4E2M1": 11,
    "FLOAT8E8M0": 12,
    "UINT2": 13,
    "INT2": 13,
    "FLOAT6E2M3": 14,
    "FLOAT6E3M2": 14,
}
"""The IR version that brought an element type; all others are as old as opset imports (onnx.proto)."""

_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")
"""Attributes that hold an element type as a number."""

_QUANTISED = "quant_parameter_tensor_names"
"""The key under which onnx_ir keeps a value's annotation."""

Named = Callable[[ir.Node], str]
"""What a node is called in messages."""


@dataclass(frozen=True, slots=True)
class Use:
    """The nodes that have one version of an operator.

    Attributes:
        domain: "" for ONNX's own.
        op: the operator.
        version: of its schema; None if no schema of it is known.
        imported: opset of the domain that the file, or the function around, imports.
        node: name of the first of them.
        nodes: how many there are.
    """

    domain: str
    op: str
    version: int | None
    imported: int
    node: str
    nodes: int


@dataclass(frozen=True, slots=True)
class Feature:
    """Something in a file that an IR version brought.

    Attributes:
        version: that version.
        what: in words.
        place: the first node, value or function that has it.
    """

    version: int
    what: str
    place: str


def uses(model: ir.Model, named: Named) -> list[Use]:
    """The operator versions of a file, in the order of their first nodes; calls of its functions aside."""
    local = {(function.domain, function.name) for function in model.functions.values()}
    found: dict[tuple[str, str, int | None, int], Use] = {}
    for node, imports in _nodes(model):
        domain = "" if node.domain == "ai.onnx" else node.domain
        if (node.domain, node.op_type) in local:
            continue
        imported = imports.get(domain, 1)
        schema = schema_of(domain, node.op_type, imported)
        key = (domain, node.op_type, schema.version if schema is not None else None, imported)
        before = found.get(key) or Use(*key, named(node), 0)
        found[key] = replace(before, nodes=before.nodes + 1)
    return list(found.values())


def needing_most(of: Iterable[Use]) -> dict[str, Use | None]:
    """By domain, the use that needs the newest opset; None where some operator has no known schema."""
    most: dict[str, Use | None] = {}
    for use in of:
        before = most.setdefault(use.domain, use)
        if use.version is None or before is None or before.version is None:
            most[use.domain] = None
        elif use.version > before.version:
            most[use.domain] = use
    return most


def features(model: ir.Model, named: Named) -> list[Feature]:
    """What a file uses of the format, newest first, one entry for each kind; the last is opset imports."""
    found = [Feature(_FIRST_IR, "opset imports", "")]
    for graph in _graphs(model):
        found += _of_graph(graph)
    for function in model.functions.values():
        found += _of_function(function)
    for node, _ in _nodes(model):
        found += _of_node(node, named(node))
    kinds: dict[str, Feature] = {}
    for feature in found:
        kinds.setdefault(feature.what, feature)
    return sorted(kinds.values(), key=lambda f: -f.version)


def _nodes(model: ir.Model) -> Iterator[tuple[ir.Node, Mapping[str, int]]]:
    """Every node, those of functions and subgraphs included, with the opset imports that hold for it."""
    for node in model.graph.all_nodes():
        yield node, model.opset_imports
    for function in model.functions.values():
        imports = {**model.opset_imports, **function.opset_imports}
        for node in function.all_nodes():
            yield node, imports


def _graphs(model: ir.Model) -> Iterator[ir.Graph]:
    yield model.graph
    yield from model.graph.subgraphs()
    for function in model.functions.values():
        yield from function.subgraphs()


def _of_graph(graph: ir.Graph) -> Iterator[Feature]:
    given = set(graph.inputs)
    for value in graph.initializers.values():
        if value not in given:
            yield Feature(4, "initializers that are no inputs", value.name or "")
            break
    for value in (*graph.inputs, *graph.initializers.values()):
        yield from _of_value(value)


def _of_function(function: ir.Function) -> Iterator[Feature]:
    yield Feature(8, "functions of the file's own", function.name)
    if any(attribute.value is not None for attribute in function.attributes.values()):
        yield Feature(9, "default attributes of functions", function.name)
    if function.overload:
        yield Feature(10, "overloads of functions", function.name)


def _of_node(node: ir.Node, name: str) -> Iterator[Feature]:
    for attribute in node.attributes.values():
        if attribute.is_ref():
            continue
        if attribute.type == ir.AttributeType.TENSOR:
            yield from _of_type(attribute.as_tensor().dtype, name)
        elif attribute.type == ir.AttributeType.INT and attribute.name in _TYPE_ATTRIBUTES:
            yield from _of_number(attribute.as_int(), name)
    for value in node.outputs:
        yield from _of_value(value)


def _of_value(value: ir.Value) -> Iterator[Feature]:
    name = value.name or ""
    if isinstance(value.type, ir.OptionalType):
        yield Feature(8, "optional values", name)
    elif isinstance(value.type, ir.SparseTensorType):
        yield Feature(8, "types of sparse tensors", name)
    if _QUANTISED in value.meta:
        yield Feature(5, "quantisation annotations", name)
    if value.dtype is not None:
        yield from _of_type(value.dtype, name)


def _of_number(number: int, place: str) -> Iterator[Feature]:
    if number in ir.DataType._value2member_map_:
        yield from _of_type(ir.DataType(number), place)


def _of_type(dtype: ir.DataType, place: str) -> Iterator[Feature]:
    version = _ELEMENT_TYPES.get(dtype.name)
    if version is not None:
        yield Feature(version, f"the element type {dtype.name.lower()}", place)
