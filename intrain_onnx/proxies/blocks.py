"""Blocks of a network, between dominators of the loss, and the input of its last pooling, on the fx graph."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.recognise import Layer
from intrain_onnx.opset.kinds import Kind, Property
from intrain_onnx.opset.traits import of_call


@dataclass(frozen=True, slots=True)
class Block:
    """The end of a block: a value on every path from the input to the loss.

    Attributes:
        output: name of the value.
        layer: the last layer of the block, whose channel axes the value has.
    """

    output: str
    layer: Layer


def blocks(module: fx.GraphModule, layers: LayerMap) -> list[Block]:
    """Cut a network at dominators of the loss, with at least one layer between two of them.

    A node is a dominator if no edge from an earlier node passes it in topological order. A residual block,
    the cell of a search space or half of a transformer layer is one block; in a chain each layer is. A
    BatchNorm after the cut belongs to the block. The last layer, the classifier, is in none.
    """
    live = live_nodes(module)
    place = {node: i for i, node in enumerate(live)}
    by_output = {x.node_output: x for x in layers.layers}
    entered = max((i for i, node in enumerate(live) if node.op == "placeholder"), default=0)
    found: list[Block] = []
    inside: Layer | None = None
    reach = entered
    for i, node in enumerate(live):
        alone = reach <= i  # no edge passes this node
        reach = max([reach, *(place[u] for u in node.users if u in place)])
        layer = next((by_output[n] for n in _names(node) if n in by_output), None)
        if layer is not None and layer is layers.layers[-1]:
            break
        inside = layer or inside
        if not alone or not _names(node) or "n_outputs" in node.kwargs:
            continue
        if inside is not None:
            found.append(Block(_names(node)[0], inside))
            inside = None
        elif found and _normalises(node, found[-1].output):
            found[-1] = Block(_names(node)[0], found[-1].layer)
    return found


def before_pooling(module: fx.GraphModule, layers: LayerMap) -> str:
    """The input of the pooling before the last layer; without a pooling, the input of the last layer."""
    live = set(live_nodes(module))
    makers = {name: node for node in module.graph.nodes for name in _names(node)}
    last = layers.layers[-1]
    node = makers.get(last.node_output)
    source = _data_input(node, live) if node is not None else None
    if source is None:
        return last.output
    value = source
    while value.op == "call_function" and (_is_view(value) or _pools(value)):
        before = _data_input(value, live)
        if before is None:
            break
        if _pools(value):
            return _names(before)[0] if _names(before) and before.op == "call_function" else last.output
        value = before
    return _names(source)[0] if _names(source) and source.op == "call_function" else last.output


def live_nodes(module: fx.GraphModule) -> list[fx.Node]:
    """Nodes on a path from an input's data to an output, in topological order."""
    data: set[fx.Node] = set()
    for node in module.graph.nodes:
        if node.op == "placeholder" and node.users:
            data.add(node)
        elif node.op != "call_function" or of_call(node.meta).has(Property.SHAPE_ONLY):
            continue
        elif any(n in data for n in node.all_input_nodes):
            data.add(node)
    needed: set[fx.Node] = set()
    for node in reversed(module.graph.nodes):
        if node.op == "output" or any(u in needed for u in node.users):
            needed.add(node)
    return [n for n in module.graph.nodes if n in data and n in needed]


def _is_view(node: fx.Node) -> bool:
    return of_call(node.meta).kind is Kind.VIEW or node.meta.get("onnx_op") in ("Dropout", "Output")


def _pools(node: fx.Node) -> bool:
    return of_call(node.meta).kind in (Kind.POOL, Kind.REDUCTION)


def _names(node: fx.Node) -> list[str]:
    return [n for n in node.meta.get("onnx_outputs", ()) if n]


def _data_input(node: fx.Node, live: set[fx.Node]) -> fx.Node | None:
    return next((n for n in node.all_input_nodes if n in live), None)


def _normalises(node: fx.Node, value: str) -> bool:
    """Whether a node is the BatchNorm of a value."""
    while node.meta.get("onnx_op") == "Output":
        node = node.all_input_nodes[0]
    reads = [name for n in node.all_input_nodes for name in _names(n)]
    return node.meta.get("onnx_op") == "BatchNormalization" and value in reads
