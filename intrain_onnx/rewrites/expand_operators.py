"""Decomposition of fused and of unsupported operators into ONNX's standard operators.

Fused operators have bodies in ``contrib_bodies``, so that a layer in one counts as it does unfused. Others
without a handler are expanded by the function body of their ONNX schema: most new operators of an onnx
release are functions of old ones, and so are supported at once, if slower.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
import onnx.defs
import onnx_ir as ir

from intrain_onnx.loading import allowance
from intrain_onnx.loading.function_checks import all_nodes, plain_domain
from intrain_onnx.loading.protobuf_scan import too_many
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.opset import support
from intrain_onnx.rewrites import contrib_bodies
from intrain_onnx.rewrites.infer_shapes import infer
from intrain_onnx.rewrites.inline_functions import InlineFunctions

_DOMAIN = "intrain_onnx.expanded"
_MAX_DEPTH = 16
"""Most nesting of ONNX's function bodies. They are not recursive, but some call others."""

_MAX_ROUNDS = 100
"""Shape inference stops at contrib operators, so each round may find one more rank."""


def expand_fused(model: ir.Model) -> int:
    """Replace each node of an operator in ``contrib_bodies.BODIES`` by its body, in place.

    A fixed-point iteration with shape inference, as bodies depend on ranks and types. A node in a form that
    its body does not cover stays.

    Requires: no model-local functions.

    Returns:
        The number of nodes expanded.

    Raises:
        ModelFileError, UnsupportedError: a node that violates its operator's definition.
        LimitError: the graph becomes too large.
    """
    contrib_bodies.unblock(model)
    contrib_bodies.join_biases(model)
    waiting = [n for n in every_node(model.graph) if (n.domain, n.op_type) in contrib_bodies.BODIES]
    if not waiting:
        return 0
    work, left = _Expansion(model), waiting
    for _ in range(_MAX_ROUNDS):
        left = work.expand(waiting)
        if not left or (work.guess and len(left) == len(waiting)):
            break
        work.guess = len(left) == len(waiting) and work.inferred
        waiting = left
        infer(model)
        work.inferred = True
    work.guess = True
    work.expand(left)
    return work.expanded


class _Expansion:
    """Working state of one expansion of fused operators."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.size = sum(1 for _ in every_node(model.graph))
        self.taken = _value_names(model)
        self.expanded = 0
        self.guess = self.inferred = False

    def expand(self, nodes: list[ir.Node]) -> list[ir.Node]:
        """Expand nodes; returns those whose body needs a type or a rank that is not inferred yet."""
        left = []
        for node in nodes:
            try:
                made = contrib_bodies.expand(self.model, node, self.taken, guess=self.guess)
            except contrib_bodies.Later:
                left.append(node)
                continue
            self.expanded += made > 0
            self.size += made
            limit = allowance.current().limits.expanded_nodes
            if self.size > limit:
                raise too_many("expanded_nodes", self.size, limit)
        return left


def _value_names(model: ir.Model) -> set[str]:
    names: set[str] = set()
    for graph in model.graphs():
        values = (*graph.inputs, *graph.initializers.values(), *(v for n in graph for v in n.outputs))
        names.update(v.name for v in values if v.name)
    return names


def expand_missing(model: ir.Model) -> int:
    """Expand each node without a handler but with a function body, in place, until none is left.

    A body of another opset is used only if its operators have the same semantics in the model's. A node
    whose body cannot be built stays.

    Requires: no model-local functions. Ensures the same.

    Returns:
        The number of nodes expanded.

    Raises:
        LimitError: the graph becomes too large.
    """
    expanded = 0
    for _ in range(_MAX_DEPTH):
        found_in = {(n.domain, n.op_type): n for n in every_node(model.graph)}
        kinds = {key for key, node in found_in.items() if _schema(model, node) is not None}
        nodes = [n for n in every_node(model.graph) if (n.domain, n.op_type) in kinds] if kinds else []
        if not nodes:
            break
        if any(v is not None and v.type is None for node in nodes for v in node.inputs):
            infer(model)
        found = [_call_body(model, node, expanded + i) for i, node in enumerate(nodes)]
        count = sum(found)
        if not count:
            break
        limit = allowance.current().limits.expanded_nodes
        size = sum(1 for graph in (model.graph, *_bodies(model)) for _ in every_node(graph))
        if size > limit:
            raise too_many("expanded_nodes", size, limit)
        InlineFunctions()(model)
        expanded += count
    return expanded


def _bodies(model: ir.Model) -> Iterator[ir.Graph]:
    return (function.graph for function in model.functions.values())


def _schema(model: ir.Model, node: ir.Node) -> Any:
    """The schema of a node that must be expanded; None for others."""
    opset = model.opset_imports.get(node.domain, 1)
    if support.is_supported(node.domain, node.op_type, opset):
        return None
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None
    return schema if support.has_body(schema) else None


def _call_body(model: ir.Model, node: ir.Node, number: int) -> bool:
    """Turn a node into a call of a model-local function with its body; False if there is no usable body."""
    schema = _schema(model, node)
    body = _body(model, node, schema)
    if body is None:
        return False
    for name, attribute in schema.attributes.items():
        if name not in node.attributes and attribute.default_value.name:
            node.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)
    referred = {a.ref_attr_name for inner in all_nodes(body.node) for a in inner.attribute}
    for name in set(node.attributes) - referred:
        del node.attributes[name]  # the body was built for this value
    body.attribute[:] = [name for name in body.attribute if name in referred]
    for opset in body.opset_import:
        opset.version = model.opset_imports.setdefault(plain_domain(opset.domain), opset.version)
    body.domain, body.name, body.overload = _DOMAIN, f"{node.op_type}_{number}", ""
    model.opset_imports.setdefault(_DOMAIN, 1)
    function = ir.serde.deserialize_function(body)
    model.functions[function.identifier()] = function
    node.domain, node.op_type, node.overload = function.identifier()
    return True


def _body(model: ir.Model, node: ir.Node, schema: Any) -> onnx.FunctionProto | None:
    opset = model.opset_imports.get(node.domain, 1)
    function = onnx.FunctionProto()
    plain = [v for v in schema.function_opset_versions if v <= opset]
    built = [v for v in schema.context_dependent_function_opset_versions if v <= opset]
    try:
        if plain:
            function.ParseFromString(schema.get_function_with_opset_version(max(plain)))
        elif built:
            types = [_type(value).SerializeToString() for value in node.inputs]
            proto = ir.to_proto(node).SerializeToString()
            function.ParseFromString(
                schema.get_context_dependent_function_with_opset_version(max(built), proto, types)
            )
    except RuntimeError:  # onnx cannot build it for these inputs
        return None
    if len(function.output) < len(node.outputs):  # onnx returns an empty body if it cannot build one
        return None
    del function.output[len(node.outputs) :]
    made = {*function.input, *(name for inner in function.node for name in inner.output)}
    for name, value in zip(function.output, node.outputs, strict=True):
        if name not in made and not value.name:  # the call skips it, so onnx did not build it
            function.node.add(op_type="Identity", input=function.input[:1], output=[name])
            made.add(name)
    usable = made.issuperset(function.output) and _means_the_same(model, function)
    return function if usable else None


def _type(value: ir.Value | None) -> onnx.TypeProto:
    if value is None or value.type is None:
        return onnx.TypeProto()
    return ir.serde.serialize_value(value).type


def _means_the_same(model: ir.Model, function: onnx.FunctionProto) -> bool:
    """Whether every operator of a body has the same semantics in the model's opset as in the body's."""
    versions = {plain_domain(o.domain): o.version for o in function.opset_import}
    for node in all_nodes(function.node):
        domain = plain_domain(node.domain)
        here = model.opset_imports.get(domain, versions.get(domain, 1))
        own = versions.get(domain, here)
        try:
            old, new = (onnx.defs.get_schema(node.op_type, v, domain) for v in (own, here))
        except onnx.defs.SchemaError:
            return False
        if not _takes_the_same(old, new):
            return False
    return True


def _takes_the_same(old: onnx.defs.OpSchema, new: onnx.defs.OpSchema) -> bool:
    """Heuristic for equal semantics: the newer version has the older's inputs, attributes and defaults."""
    if old.since_version == new.since_version:
        return True
    inputs = [i.name for i in old.inputs]
    same_inputs = [i.name for i in new.inputs][: len(inputs)] == inputs
    return (
        same_inputs
        and not new.deprecated
        and all(
            name in new.attributes and new.attributes[name].default_value == attribute.default_value
            for name, attribute in old.attributes.items()
        )
    )
