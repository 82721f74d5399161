"""Decomposition of fused contrib operators into ONNX's standard operators.

A body is a function in ONNX's textual syntax. It depends on a node's inputs and attributes, so a small Python
function generates it. It returns None for a form that it does not cover; that node keeps its handler in
``ops``. Tests compare each body with its handler.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

import onnx
import onnx.parser
import onnx_ir as ir

from intrain_onnx.loading.function_checks import plain_domain
from intrain_onnx.network.values import add_initializer, name_of, node_id
from intrain_onnx.rewrites.contrib_bodies import (
    activations,
    attention,
    einsum,
    grouped,
    nchwc,
    norms,
    products,
    quantised,
    rotary,
)
from intrain_onnx.rewrites.contrib_bodies.call import BODIES, Body, Call, Later
from intrain_onnx.rewrites.contrib_bodies.einsum import join_biases
from intrain_onnx.rewrites.contrib_bodies.nchwc import unblock

__all__ = ["BODIES", "Later", "expand", "join_biases", "unblock"]

_WRITTEN = (activations, attention, einsum, grouped, nchwc, norms, products, quantised, rotary)
"""Modules that register bodies on import."""

_OLDEST = 7
"""Oldest opset that bodies support."""

_NAMED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "MatMulIntegerToFloat", "Gather"})
"""The first of these in a body is the layer, and takes the node's name."""


def expand(model: ir.Model, node: ir.Node, taken: set[str], *, guess: bool = False) -> int:
    """Replace a node by its body, in place.

    Args:
        model: new constants become its initializers.
        node: of any graph of the model.
        taken: names of values in use; new ones are added.
        guess: assume float32 for an unknown element type.

    Returns:
        The number of new nodes; 0 if no body covers this form, and nothing was changed.

    Raises:
        Later: a type or rank is not known; nothing was changed.
        ModelFileError: the node violates its operator's definition.
        UnsupportedError: a valid node with an attribute or input that is not supported.
    """
    row = BODIES.get((node.domain, node.op_type))
    opset = model.opset_imports.get("", 1)
    if row is None or opset < _OLDEST or (row.exact and len(node.inputs) != len(row.inputs)):
        return 0
    call = Call(node, row, opset, guess)
    text = row.write(call)
    if text is None:
        return 0
    unread = call.unread()
    if unread:
        call.refuse(f"attribute {unread[0]!r} is not supported")
    wanted = {n for n, v in zip(row.outputs, node.outputs, strict=False) if v.name}
    inner = _needed(_parsed(text, row), wanted)
    _Writer(model, call, taken).write(inner)
    return len(inner)


@lru_cache(maxsize=1024)
def _parsed(text: str, row: Body) -> tuple[onnx.NodeProto, ...]:
    head = (
        f'<domain: "body", opset_import: ["" : 1]> f ({", ".join(row.inputs)}) => ({", ".join(row.outputs)})'
    )
    return _direct(onnx.parser.parse_function(f"{head} {{ {text} }}").node, set(row.outputs))


def _direct(nodes: Iterable[onnx.NodeProto], outputs: set[str]) -> tuple[onnx.NodeProto, ...]:
    """Copy propagation: remove Identity nodes, except from an input, or another output, to an output."""
    names: dict[str, str] = {}
    made: set[str] = set()
    kept: list[onnx.NodeProto] = []
    for node in nodes:
        node.input[:] = [names.get(n, n) for n in node.input]
        source, target = node.input[0], node.output[0]
        if node.op_type == "Identity" and target not in outputs:
            names[target] = source
        elif node.op_type == "Identity" and source in made - outputs:
            for before in kept:
                before.input[:] = [target if n == source else n for n in before.input]
                before.output[:] = [target if n == source else n for n in before.output]
            names = {n: target if v == source else v for n, v in names.items()} | {source: target}
            made.add(target)
        else:
            made.update(node.output)
            kept.append(node)
    return tuple(kept)


def _needed(nodes: tuple[onnx.NodeProto, ...], wanted: set[str]) -> list[onnx.NodeProto]:
    """Dead-code elimination: the nodes that the wanted values depend on, in order."""
    kept = []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]


class _Writer:
    """Replaces a node by the nodes of its body."""

    def __init__(self, model: ir.Model, call: Call, taken: set[str]) -> None:
        self.model = model
        self.call = call
        self.node = call.node
        self.taken = taken
        given = [*self.node.inputs, *[None] * (len(call.body.inputs) - len(self.node.inputs))]
        self.values: dict[str, ir.Value | None] = dict(zip(call.body.inputs, given, strict=True))
        self.old = dict(zip(call.body.outputs, self.node.outputs, strict=False))

    def write(self, inner: list[onnx.NodeProto]) -> None:
        graph = self.node.graph
        assert graph is not None
        named = next((p for p in inner if p.op_type in _NAMED), inner[-1])
        made = [self._node(p, name_of(self.node) if p is named else "") for p in inner]
        graph.insert_before(self.node, made)
        for name, old in self.old.items():
            if old.name:
                new = self.values[name]
                assert new is not None
                old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(self.node, safe=True)

    def _node(self, proto: onnx.NodeProto, name: str) -> ir.Node:
        inputs = [self._input(n) for n in proto.input]
        while inputs and inputs[-1] is None:
            inputs.pop()
        outputs = [self._output(n) for n in proto.output]
        domain = plain_domain(proto.domain)
        self.model.opset_imports.setdefault(domain, 1)
        return ir.Node(
            domain,
            proto.op_type,
            inputs,
            attributes=[a for a in map(self._attribute, proto.attribute) if a is not None],
            outputs=outputs,
            name=name or outputs[0].name,
        )

    def _attribute(self, proto: onnx.AttributeProto) -> ir.Attr | None:
        if not proto.ref_attr_name:
            found = ir.serde.deserialize_attribute(proto)
            assert isinstance(found, ir.Attr)
            return found
        return self.node.attributes.get(proto.ref_attr_name)

    def _input(self, name: str) -> ir.Value | None:
        if not name:
            return None
        if name not in self.values:  # the parser has refused undefined names
            array = self.call.literals[name]
            self.values[name] = add_initializer(self.model, self._free(name), array)
        return self.values[name]

    def _output(self, name: str) -> ir.Value:
        old = self.old.get(name)
        if old is not None and old.name:
            value = ir.Value(name=old.name, shape=old.shape, type=old.type)
            value.meta.update(old.meta)
        else:
            value = ir.Value(name=self._free(name) if name else "")
        self.values[name] = value
        return value

    def _free(self, name: str) -> str:
        """A unique name for a value of the body."""
        base = free = f"{node_id(self.node)}.{name}"
        number = 1
        while free in self.taken:
            number += 1
            free = f"{base}_{number}"
        self.taken.add(free)
        return free
