"""Expansion of operators into ONNX's own, before anything else looks at the graph.

Fused operators have bodies of the project's own (``contrib_bodies``): a layer in them counts as it does when
it is written out. Others that have no handler are expanded by the function that ONNX defines them with, so a
new release of onnx, whose new operators are mostly functions of old ones, costs speed and not support.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import onnx
import onnx.defs
import onnx_ir as ir

from intrain_onnx.loading.function_checks import all_nodes, plain_domain
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.protobuf_scan import too_many
from intrain_onnx.opset import support
from intrain_onnx.rewrites import contrib_bodies
from intrain_onnx.rewrites.infer_shapes import infer
from intrain_onnx.rewrites.inline_functions import InlineFunctions

_DOMAIN = "intrain_onnx.expanded"
_MAX_DEPTH = 16
"""Functions of ONNX's are not recursive; some call others."""

_MAX_ROUNDS = 100
"""Shape inference stops at operators that onnx does not know, so each round may find one more rank."""


def expand_fused(model: ir.Model) -> int:
    """Replace each node that has a body of the project's own by it, in place.

    A node in a form that its body does not cover stays as it is.

    Requires: no model-local functions.

    Returns:
        The number of nodes expanded.

    Raises:
        ModelFileError, UnsupportedError: a node that is not what its operator says.
        LimitError: the graph becomes too large.
    """
    contrib_bodies.unblock(model)
    contrib_bodies.join_biases(model)
    waiting = [n for n in model.graph.all_nodes() if (n.domain, n.op_type) in contrib_bodies.BODIES]
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
    """What one expansion of fused operators keeps in mind."""

    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.size = sum(1 for _ in model.graph.all_nodes())
        self.taken = _value_names(model)
        self.expanded = 0
        self.guess = self.inferred = False

    def expand(self, nodes: list[ir.Node]) -> list[ir.Node]:
        """Expand nodes; returns those that wait for a type or a rank."""
        left = []
        for node in nodes:
            try:
                made = contrib_bodies.expand(self.model, node, self.taken, guess=self.guess)
            except contrib_bodies.Later:
                left.append(node)
                continue
            self.expanded += made > 0
            self.size += made
            limit = Limits().expanded_nodes
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
    """Expand each node that has no handler but a function body, in place, until none is left.

    A body that was written for another opset is taken only where its operators mean the same in the model's.
    A node whose body cannot be had stays as it is.

    Requires: no model-local functions. Ensures the same.

    Returns:
        The number of nodes expanded.

    Raises:
        LimitError: the graph becomes too large.
    """
    expanded = 0
    for _ in range(_MAX_DEPTH):
        nodes = [node for node in model.graph.all_nodes() if _schema(model, node) is not None]
        if not nodes:
            break
        if any(v is not None and v.type is None for node in nodes for v in node.inputs):
            infer(model)
        found = [_call_body(model, node, expanded + i) for i, node in enumerate(nodes)]
        count = sum(found)
        if not count:
            break
        limit = Limits().expanded_nodes
        size = sum(1 for graph in (model.graph, *_bodies(model)) for _ in graph.all_nodes())
        if size > limit:
            raise too_many("expanded_nodes", size, limit)
        InlineFunctions()(model)
        expanded += count
    return expanded


def _bodies(model: ir.Model) -> Iterator[ir.Graph]:
    return (function.graph for function in model.functions.values())


def _schema(model: ir.Model, node: ir.Node) -> Any:
    """The schema of a node that has to be expanded, or None."""
    opset = model.opset_imports.get(node.domain, 1)
    if support.is_supported(node.domain, node.op_type, opset):
        return None
    try:
        schema = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None
    return schema if support.has_body(schema) else None


def _call_body(model: ir.Model, node: ir.Node, number: int) -> bool:
    """Make a node a call of a model-local function that is its body; False where there is no such body."""
    schema = _schema(model, node)
    body = _body(model, node, schema)
    if body is None:
        return False
    for name, attribute in schema.attributes.items():
        if name not in node.attributes and attribute.default_value.name:
            node.attributes[name] = ir.serde.deserialize_attribute(attribute.default_value)
    referred = {a.ref_attr_name for inner in all_nodes(body.node) for a in inner.attribute}
    for name in set(node.attributes) - referred:
        del node.attributes[name]  # the body has been built for its value
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
    if len(function.output) < len(node.outputs):  # onnx gives an empty body where it cannot build one
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
    """Whether every operator of a body, read by the model's opset, does what it does in the body's."""
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
    """Whether one version of an operator has the other's inputs, attributes and defaults: a guess."""
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
