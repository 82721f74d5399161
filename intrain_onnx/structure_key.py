"""Keys of nodes that depend on the structure of the graph alone, not on names or the order of nodes."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from typing import Any

import onnx_ir as ir


def node_keys(graph: ir.Graph) -> dict[ir.Node, str]:
    """A hexadecimal key for each node of the main graph.

    It hashes the operator, its attributes, the shapes and types of initializers, small fixed indices but not
    the targets of Reshape and Expand, everything before the node and everything after it. Nodes that are
    interchangeable by a symmetry of the graph are numbered, so that keys are unique.
    """
    nodes = list(graph)
    before = _forward(graph, nodes)
    after = _backward(graph, nodes, before)
    seen: Counter[str] = Counter()
    keys = {}
    for node in nodes:
        key = _digest(before[node], after[node])
        keys[node] = _digest(key, seen[key])
        seen[key] += 1
    return keys


def _digest(*parts: Any) -> str:
    return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()


def _forward(graph: ir.Graph, nodes: list[ir.Node]) -> dict[ir.Node, str]:
    keys: dict[ir.Node, str] = {}
    inputs = {value: index for index, value in enumerate(graph.inputs)}

    def describe(value: ir.Value | None) -> Any:
        if value is None:
            return None
        if value in inputs:
            return "input", inputs[value]
        producer = value.producer()
        if producer is not None:
            return keys.get(producer, "outer"), value.index()
        return _constant(value)

    for node in nodes:
        captured = [describe(v) for v in _captured(node)]
        read = [
            "target" if index == 1 and _is_target(node) else describe(v)
            for index, v in enumerate(node.inputs)
        ]
        keys[node] = _digest(node.domain, node.op_type, _attributes(node), read, captured)
    return keys


def _is_target(node: ir.Node) -> bool:
    """A fixed shape in which the batch of the export may stand: the network is the same for every batch."""
    target = node.inputs[1] if len(node.inputs) > 1 else None
    fixed = target is not None and target.const_value is not None
    return fixed and node.op_type in ("Reshape", "Expand") and not node.domain


def _backward(graph: ir.Graph, nodes: list[ir.Node], before: dict[ir.Node, str]) -> dict[ir.Node, str]:
    keys: dict[ir.Node, str] = {}
    outputs = defaultdict(list)
    for index, value in enumerate(graph.outputs):
        outputs[value].append(index)
    for node in reversed(nodes):
        users = sorted(
            (index, before.get(use.node, "inner"), keys.get(use.node, "inner"), use.idx)
            for index, value in enumerate(node.outputs)
            for use in value.uses()
        )
        keys[node] = _digest(users, [outputs[value] for value in node.outputs])
    return keys


def _constant(value: ir.Value) -> Any:
    tensor = value.const_value
    if tensor is None:
        return "unknown"
    small = not tensor.dtype.is_floating_point() and tensor.size <= 64 and tensor.dtype != ir.DataType.STRING
    return str(tensor.dtype), str(tensor.shape), tensor.numpy().tolist() if small else None


def _attributes(node: ir.Node) -> list[Any]:
    described: list[Any] = []
    for name, attribute in sorted(node.attributes.items()):
        if attribute.type == ir.AttributeType.GRAPH:
            described.append((name, [(n.op_type, _attributes(n)) for n in attribute.as_graph()]))
        elif attribute.type == ir.AttributeType.TENSOR:
            described.append((name, hashlib.blake2b(attribute.as_tensor().tobytes()).hexdigest()))
        else:
            described.append((name, repr(attribute.value)))
    return described


def _captured(node: ir.Node) -> list[ir.Value]:
    inner = [
        n
        for attribute in node.attributes.values()
        if attribute.type == ir.AttributeType.GRAPH
        for n in attribute.as_graph().all_nodes()
    ]
    made = {value for n in inner for value in n.outputs}
    return [v for n in inner for v in n.inputs if v is not None and v not in made]
