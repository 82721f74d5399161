"""Structural keys of layers: two rounds of Weisfeiler-Lehman colour refinement on the graph of layers.

A key depends on the shapes of a layer and of those before and after it, and on how their outputs are joined.
It does not depend on names, on the order of nodes, or on the operators between the layers: activations,
normalisations, reshapes and transposes add no colour.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import onnx_ir as ir

from intrain_onnx.network.marks import ONLY
from intrain_onnx.network.subgraphs import bodies, entering
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, kind

_ROUNDS = 2
_ATTENTION = {0: ("MatMul 0", "Softmax"), 1: ("MatMul 0", "MatMul 1", "Softmax"), 2: ("MatMul 1",)}
"""Marks of query, key and value at an Attention node, as of softmax(q k) v in single operators."""

Atom = tuple[Any, tuple[str, ...]]
"""A layer (its node) or a graph input (its number), with the marks on the path from it."""


@dataclass
class _Network:
    """The graph of layers, with marked edges in both directions.

    ``bent`` holds the layers whose output passes an activation before it joins another layer's; its value
    says whether the first such activation is never negative.
    """

    bent: dict[ir.Node, tuple[bool, ...]] = field(default_factory=dict)
    before: dict[ir.Node, set[Atom]] = field(default_factory=dict)
    after: defaultdict[ir.Node, set[Atom]] = field(default_factory=lambda: defaultdict(set))

    def connect(self, atoms: Iterable[Atom], target: Any) -> None:
        for source, marks in atoms:
            if isinstance(source, ir.Node):
                self.after[source].add((target, marks))


def digest(*parts: Any) -> str:
    """BLAKE2b hash, 32 hexadecimal digits, of the values' ``repr``."""
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def layer_keys(
    graph: ir.Graph, layers: Mapping[ir.Node, Any], data: set[ir.Value]
) -> tuple[dict[ir.Node, str], dict[ir.Node, str]]:
    """A hexadecimal key for each layer, and its colour, which layers of a symmetric network share.

    Args:
        graph: nodes in topological order.
        layers: initial colour of each layer (kind, canonical weight shapes, strides …), by its node.
        data: the values that depend on the data of an input.

    Returns:
        Unique keys: layers of equal colour, as in a symmetric network, are numbered. Those of which only one
        is followed by an activation (a gate and its operand) are numbered by that, not by the order of the
        file.
    """
    network = _connect(graph, layers, data)
    order = list(network.before)
    keys = _refine(network, {node: digest(layers[node]) for node in order})
    alike = Counter(keys.values())
    if max(alike.values(), default=0) > 1:
        finer = _refine(network, {node: digest(keys[node], network.bent.get(node)) for node in order})
        order.sort(key=lambda node: (network.bent.get(node, ()), finer[node]))
    seen: Counter[str] = Counter()
    unique = {}
    for node in order:
        unique[node] = digest(keys[node], seen[keys[node]])
        seen[keys[node]] += 1
    return unique, keys


def _refine(network: _Network, first: Mapping[ir.Node, str]) -> dict[ir.Node, str]:
    """Weisfeiler-Lehman colour refinement, along the edges and against them."""
    order = list(network.before)
    keys = dict(first)
    for _ in range(_ROUNDS):
        for node in order:
            keys[node] = digest(keys[node], _around(network.before[node], keys))
        for node in reversed(order):
            keys[node] = digest(keys[node], _around(network.after[node], keys))
    return keys


def _around(atoms: Iterable[Atom], keys: Mapping[ir.Node, str]) -> list[tuple[str, tuple[str, ...]]]:
    return sorted(
        (keys[place] if isinstance(place, ir.Node) else str(place), marks) for place, marks in atoms
    )


def _connect(graph: ir.Graph, layers: Mapping[ir.Node, Any], data: set[ir.Value]) -> _Network:
    network = _Network()
    read = [value for value in graph.inputs if value.uses()]
    reaching: dict[ir.Value, set[Atom]] = {value: {(f"input {i}", ())} for i, value in enumerate(read)}
    _flow(graph, layers, data, network, reaching)
    for index, value in enumerate(graph.outputs):
        network.connect(reaching.get(value, ()), f"output {index}")
    return network


_MOST_ATOMS = 100_000
"""Atoms at one node, above which they lose their marks: a Concat of one value a thousand times marks each of
its atoms in a thousand ways, and the next Concat each of those."""


def _flow(
    graph: ir.Graph,
    layers: Mapping[ir.Node, Any],
    data: set[ir.Value],
    network: _Network,
    reaching: dict[ir.Value, set[Atom]],
) -> None:
    """Propagate atoms through a graph, and through the subgraphs of each node before the node."""
    for node in graph:
        operands = [v for v in node.inputs if v in data and v in reaching]
        atoms: set[Atom] = set()
        if sum(len(reaching[v]) for v in operands) > _MOST_ATOMS:
            atoms = {(source, ()) for v in dict.fromkeys(operands) for source, _ in reaching[v]}
            operands = []
        for position, value in enumerate(operands):
            marks = _marks(node, position, len(operands))
            atoms |= {_marked(a, *marks) for a in reaching[value]} if marks else reaching[value]
        ways: dict[str, set[Atom]] = {}
        for name, body in bodies(node):
            reaching |= {formal: reaching[v] for formal, v in entering(node, body) if v in reaching}
            _flow(body, layers, data, network, reaching)
            ways[name] = set().union(*(reaching.get(v, ()) for v in body.outputs))
        atoms |= _joined(ways)
        if _bends(node):
            met = {source for source, _ in atoms if isinstance(source, ir.Node)}
            if len(met) == 1:
                network.bent.setdefault(met.pop(), (has(node, Property.NEVER_NEGATIVE),))
        if node in layers:
            network.before[node] = atoms
            network.connect(atoms, node)
            atoms = {(node, ())}
        for value in node.outputs:
            reaching[value] = atoms
            if ONLY in value.meta:
                reaching[value] = {(value.meta[ONLY], ())}


def _joined(ways: Mapping[str, set[Atom]]) -> set[Atom]:
    """Union of the atoms of subgraphs, marked by subgraph; unmarked if all subgraphs have the same."""
    found = list(ways.values())
    if len(found) > 1 and all(way == found[0] for way in found):
        return found[0]
    return {_marked(atom, name) for name, way in ways.items() for atom in way}


def _bends(node: ir.Node) -> bool:
    """Whether a node is a non-affine elementwise map: an activation, or a part of a decomposed one."""
    if kind(node) not in (Kind.ACTIVATION, Kind.ELEMENTWISE):
        return False
    return not (has(node, Property.SCALES) or has(node, Property.SHIFTS) or is_op(node, "Neg"))


def _marks(node: ir.Node, position: int, operands: int) -> tuple[str, ...]:
    """Marks that a node puts on the atoms of an operand."""
    if has(node, Property.ORDERED) and operands > 1:
        return (f"{'MatMul' if kind(node) is Kind.PRODUCT else node.op_type} {position}",)
    if kind(node) is Kind.ATTENTION and not node.domain:
        return _ATTENTION.get(position, ())
    return ("Softmax",) if is_op(node, "Softmax") else ()


def _marked(atom: Atom, *more: str) -> Atom:
    source, marks = atom
    return source, tuple(sorted({*marks, *more}))
