"""Static analysis of a graph: live nodes, canonical layers with their depth, and trainable initializers.

One pass in topological order over a normalised model (see ``normalise``), which it does not change.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import onnx_ir as ir

from intrain_onnx import memory
from intrain_onnx.network.layer_edges import Feeders
from intrain_onnx.network.layer_keys import digest, layer_keys
from intrain_onnx.network.recognise import Layer, recognise
from intrain_onnx.network.subgraphs import bodies, entering, every_node, scan_length
from intrain_onnx.network.values import (
    Step,
    constant_sources,
    has_macs,
    is_fixed,
    macs,
    may_have_role,
    node_id,
    shape_of,
    source,
    static_shape,
    viewed_as,
)
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import has, is_op, kind, trainable_inputs


@dataclass(frozen=True, slots=True)
class Slot:
    """Role and position of a trainable initializer.

    ``role`` is one of weight, bias, scale, offset, slope, table; ``layer`` the nearest canonical layer before
    or at it; ``key`` its structural key; ``shape`` the one in which its operator reads it, and ``steps`` the
    transposes and reshapes from the file's layout to that.
    """

    role: str
    layer: str | None
    depth: int
    key: str
    shape: tuple[int, ...] = ()
    steps: tuple[Step, ...] = ()


@dataclass(frozen=True)
class LayerMap:
    """Result of the static analysis.

    Attributes:
        layers: in depth order, ties by key.
        slots: trainable initializers by name.
        live: the nodes on a path from a graph input to a graph output, by their first outputs' names.
        nodes: number of nodes in the main graph and its subgraphs.
        fixed: number of those that an output depends on, but that do not depend on an input's data.
        macs: of all products, layers or not, for one sample; None if all are unknown.
        unknown_macs: nodes with products whose shapes are unknown.
    """

    layers: tuple[Layer, ...]
    slots: Mapping[str, Slot]
    live: frozenset[str]
    nodes: int
    fixed: int
    macs: int | None
    unknown_macs: int

    def by_output(self) -> dict[str, Layer]:
        """Layers by the value that is measured."""
        return {layer.output: layer for layer in self.layers}


def data_dependent(graph: ir.Graph) -> set[ir.Value]:
    """Values, subgraphs included, that depend on the data of an input, not only on its shape."""
    found: set[ir.Value] = set(graph.inputs)
    _spread(graph, found)
    return found


def _spread(graph: ir.Graph, found: set[ir.Value]) -> None:
    for node in graph:
        reads = node.inputs
        for _, body in bodies(node):
            if any(v in found for n in (node, *every_node(body)) for v in n.inputs if v is not None):
                found.update(body.inputs)  # what a Loop carries depends on all that its body reads
            _spread(body, found)
            reads = (*reads, *body.outputs)
        if not found.isdisjoint(reads) and not has(node, Property.SHAPE_ONLY):
            found.update(node.outputs)


def needed(graph: ir.Graph, ends: Callable[[ir.Node], bool] = lambda node: False) -> set[ir.Node]:
    """Nodes, subgraphs included, that an output depends on: backward reachability, stopped at ``ends``."""
    stack = [v.producer() for v in graph.outputs]
    found: set[ir.Node] = set()
    while stack:
        node = stack.pop()
        if node is None or node in found or ends(node):
            continue
        found.add(node)
        stack.extend([v.producer() for v in node.inputs if v is not None])
        for _, body in bodies(node):
            stack.extend([v.producer() for v in body.outputs])
    return found


def _inner_nodes(node: ir.Node) -> Iterable[ir.Node]:
    for _, body in bodies(node):
        yield from every_node(body)


class _Pass:
    """Working state of one static analysis."""

    def __init__(self, model: ir.Model) -> None:
        self.graph = model.graph
        self.data = data_dependent(model.graph)
        self.needed = needed(model.graph)
        self.layers: dict[ir.Node, Layer] = {}
        self.names: set[str] = set()
        self.owner: dict[ir.Value, Layer | None] = {}
        self.depth: dict[ir.Value, int] = {}
        self.feeders = Feeders()
        self.claims: defaultdict[str, list[Slot]] = defaultdict(list)
        self.biases: set[str] = set()
        self.macs = self.unknown_macs = 0

    def run(self, keys_wanted: bool) -> LayerMap:
        live: set[str] = set()
        fixed = 0
        for node in self.graph:
            if self.is_live(node):
                live.update(node_id(n) for n in (node, *_inner_nodes(node)))
                self.visit(node)
            elif node in self.needed:
                fixed += 1 + sum(1 for _ in _inner_nodes(node))
                if kind(node) is Kind.LOOKUP:  # positions, looked up by the sequence's length
                    self._claim(node.inputs[0], "table", None, 0)
            count, unknown = self.products(node)
            self.macs += count
            self.unknown_macs += unknown
        layers, slots = self.keyed(keys_wanted)
        return LayerMap(
            layers=layers,
            slots=slots,
            live=frozenset(live),
            nodes=sum(1 for _ in every_node(self.graph)),
            fixed=fixed,
            macs=self.macs if self.macs or not self.unknown_macs else None,
            unknown_macs=self.unknown_macs,
        )

    def products(self, node: ir.Node) -> tuple[int, int]:
        """As `_products`; those of a layer were counted when it was recognised."""
        layer = self.layers.get(node)
        if layer is None or layer.macs is None or not has_macs(node):
            return _products(node)
        return layer.macs, 0

    def keyed(self, keys_wanted: bool) -> tuple[tuple[Layer, ...], dict[str, Slot]]:
        """Layers in canonical order and slots, with their structural keys."""
        if not keys_wanted:
            return tuple(self.layers.values()), self.first_uses({})
        described = {node: _describe(layer, node) for node, layer in self.layers.items()}
        keys, colours = layer_keys(self.graph, described, self.data)
        layers = [replace(x, key=keys[node], colour=colours[node]) for node, x in self.layers.items()]
        by_name = {layer.name: layer.key for layer in layers}
        slots: dict[str, Slot] = {}
        seen: Counter[str] = Counter()
        for name, slot in self.first_uses(by_name).items():
            place = digest(by_name.get(slot.layer or ""), slot.role, [d for d in slot.shape if d > 1])
            key = digest(place, seen[place])
            slots[name] = Slot(slot.role, slot.layer, slot.depth, key, slot.shape, slot.steps)
            seen[place] += 1
        return tuple(sorted(layers, key=lambda layer: (layer.depth, layer.key))), slots

    def first_uses(self, keys: Mapping[str, str]) -> dict[str, Slot]:
        """The first use of each parameter: by depth, then by the layer's key, not in the file's order."""

        def place(slot: Slot) -> tuple[int, str, str]:
            return slot.depth, keys.get(slot.layer or "", ""), slot.role

        chosen = {}
        for name, claims in self.claims.items():
            biases = [slot for slot in claims if slot.role == "bias"] if name in self.biases else []
            chosen[name] = min(biases or claims, key=place)
        return chosen

    def is_live(self, node: ir.Node) -> bool:
        return node in self.needed and not self.data.isdisjoint(node.outputs)

    def visit(self, node: ir.Node) -> None:
        reads = list(node.inputs)
        for _, body in bodies(node):
            for formal, outer in entering(node, body):
                self.depth[formal] = self._depth(outer)
                self.owner[formal] = self.owner.get(outer) if outer is not None else None
                self.feeders.write([formal], self.feeders.read([outer]))
            for inner in filter(self.is_live, body):
                self.visit(inner)
            reads.extend(body.outputs)
        before = max((v for v in reads if v is not None), key=self._depth, default=None)
        depth, owner = (self._depth(before), self.owner.get(before)) if before is not None else (0, None)
        reaching = self.feeders.read(v for v in reads if v in self.data)
        layer = self.recognise(node, depth + 1)
        if layer is not None:
            self.layers[node] = owner = replace(layer, inputs=self.feeders.names(reaching))
            reaching = self.feeders.add(layer.name, reaching)
            depth += 1
        self.feeders.write(node.outputs, reaching)
        for value in node.outputs:
            self.depth[value], self.owner[value] = depth, owner
        for index, role in trainable_inputs(node):
            self._claim(node.inputs[index], role, owner, depth)
        if layer is not None and layer.bias is not None:
            self.claims[layer.bias].append(Slot("bias", layer.name, depth, "", (layer.channels,)))
            self.biases.add(layer.bias)

    def _claim(self, value: ir.Value | None, role: str, owner: Layer | None, depth: int) -> None:
        layer = owner.name if owner is not None else None
        found = source(value, spread=True)  # a class token is broadcast over the batch first
        if found is not None:
            shape, steps = viewed_as(*found)
            if role == "offset":
                shape, steps = _smallest_first(shape, steps)
            if not is_fixed(found[0], shape, role):
                self._note(found[0], Slot(role, layer, depth, "", shape, tuple(steps)))
            return
        for root in self.behind(value, role):
            self._note(root, Slot(role, layer, depth, "", shape_of(root)))

    def _note(self, root: ir.Value, place: Slot) -> None:
        assert root.const_value is not None
        if root.const_value.dtype.is_floating_point() and root.name is not None:
            self.claims[root.name].append(place)

    def behind(self, value: ir.Value | None, role: str) -> tuple[ir.Value, ...]:
        """The initializers that a parameter is computed from (none after ``computed_weights``)."""
        if value is None or value in self.data or not may_have_role(static_shape(value), role):
            return ()
        found = constant_sources(value)
        return found.parameters if found is not None else ()

    def _depth(self, value: ir.Value | None) -> int:
        return self.depth.get(value, 0) if value is not None else 0

    def recognise(self, node: ir.Node, depth: int) -> Layer | None:
        layer = recognise(node, depth, self.data)
        if layer is not None and layer.name in self.names:  # ONNX does not require unique node names
            layer = replace(layer, name=f"{layer.name}:{layer.node_output}")
        if layer is not None:
            self.names.add(layer.name)
        return layer


def _smallest_first(shape: tuple[int, ...], steps: list[Step]) -> tuple[tuple[int, ...], list[Step]]:
    """A table of offsets with its axes by size: a transpose of the data turns the table too."""
    order = tuple(sorted(range(len(shape)), key=shape.__getitem__))
    if order == tuple(range(len(shape))):
        return shape, steps
    return tuple(shape[axis] for axis in order), [*steps, ("transpose", order)]


def _products(node: ir.Node) -> tuple[int, int]:
    """Multiply-accumulate operations of a node, and its products of unknown size.

    Of an If only the larger branch counts. A Scan runs its body as often as what it scans is long; how often
    a Loop does is unknown.
    """
    if has_macs(node):
        count = macs(node)
        return count or 0, int(count is None)
    inside, rounds = [], None
    for _, body in bodies(node):
        parts = [_products(n) for n in body]
        inside.append((sum(p[0] for p in parts), sum(p[1] for p in parts)))
        rounds = scan_length(node, body) if is_op(node, "Scan") else None
    if rounds is not None:
        return rounds * inside[0][0], inside[0][1]
    if node.op_type == "If":
        return max(inside)
    return 0, sum(unknown + (count > 0) for count, unknown in inside)


def _describe(layer: Layer, node: ir.Node) -> tuple[Any, ...]:
    """Initial colour of a layer, independent of its operator.

    Kernel axes of size 1 and stride 1 are omitted; an ungrouped Conv with no others is a linear map. Padding
    is omitted: exporters put it into the convolution or into a Pad before it.
    """
    shapes = [w.shape for w in layer.weights]
    if layer.kind != "convolution":
        return layer.kind, shapes, layer.op if layer.kind == "recurrent" else None
    kernel = shapes[0][2:]
    strides = _ints(node, "strides") or (1,) * len(kernel)
    dilations = _ints(node, "dilations") or (1,) * len(kernel)
    window = [w for w in zip(kernel, strides, dilations, strict=True) if w[:2] != (1, 1)]
    groups = node.attributes["group"].as_int() if "group" in node.attributes else 1
    if not window and groups == 1 and is_op(node, "Conv"):
        return "linear", [shapes[0][:2]], None
    deformed = ("deformed",) if is_op(node, "DeformConv") else ()
    return layer.kind, shapes[0][:2], window, groups, is_op(node, "ConvTranspose"), *deformed


def _ints(node: ir.Node, name: str) -> tuple[int, ...]:
    return tuple(node.attributes[name].as_ints()) if name in node.attributes else ()


@memory.collector_paused()
def analyse(model: ir.Model, *, keys: bool = True) -> LayerMap:
    """Analyse a normalised model with inferred shapes (``infer_shapes``).

    Without ``keys``, layers have none and come in topological order, in half the time.
    Cost: linear in nodes and edges, but for the sorting of layers.
    """
    return _Pass(model).run(keys)
