"""The subgraphs of a control-flow node, and the values bound to their inputs."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from intrain_onnx.network.values import static_shape
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import WITHOUT_BODIES, kind


def bodies(node: ir.Node) -> list[tuple[str, ir.Graph]]:
    """The subgraphs of an If, Loop, Scan or SequenceMap, with the names of their attributes."""
    if not node.domain and (node.op_type in WITHOUT_BODIES or kind(node) is not Kind.CONTROL):
        return []  # attributes are slow to walk, and asked for often
    return [(a.name, a.as_graph()) for a in node.attributes.values() if a.type == ir.AttributeType.GRAPH]


def every_node(graph: ir.Graph) -> Iterator[ir.Node]:
    """The nodes of a graph, each before those of its subgraphs: ``graph.all_nodes()``, ten times as fast."""
    for node in graph:
        yield node
        if node.op_type in WITHOUT_BODIES and not node.domain:  # most: no call for them
            continue
        for inner in _graphs_of(node):
            yield from every_node(inner)


def every_graph(graph: ir.Graph) -> Iterator[ir.Graph]:
    """A graph, then its subgraphs, in the order of their nodes: ``model.graphs()``, ten times as fast."""
    yield graph
    for node in graph:
        if node.op_type not in WITHOUT_BODIES or node.domain:
            for inner in _graphs_of(node):
                yield from every_graph(inner)


def _graphs_of(node: ir.Node) -> Iterator[ir.Graph]:
    for attribute in node.attributes.data.values():
        if attribute.type == ir.AttributeType.GRAPH:
            yield attribute.as_graph()
        elif attribute.type == ir.AttributeType.GRAPHS:
            yield from attribute.as_graphs()


def entering(node: ir.Node, body: ir.Graph) -> list[tuple[ir.Value, ir.Value | None]]:
    """Each formal input of a body, with the node's input that is bound to it (initially, if it is carried).

    None for an iteration number. Scan-8 has an input of sequence lengths first, recognised by the number of
    inputs.
    """
    outer = list(node.inputs)
    if node.op_type == "Loop":
        outer = [None, *outer[1:]]
    elif node.op_type == "Scan" and len(outer) > len(body.inputs):
        outer = outer[1:]
    outer += [None] * len(body.inputs)
    return list(zip(body.inputs, outer, strict=False))


def carried_states(node: ir.Node) -> int:
    """The number of outputs of a Loop or Scan that are last values and no sequences; they come first."""
    ((_, body),) = bodies(node)
    given = 2 if node.op_type == "Loop" else node.attributes.get_int("num_scan_inputs", 0)
    return len(body.inputs) - given


def scan_length(node: ir.Node, body: ir.Graph) -> int | None:
    """How often a Scan runs its body: the length of what it scans; None if unknown, as for Scan-8."""
    scanned = node.attributes.get_int("num_scan_inputs", 0)
    shape = static_shape(node.inputs[-1]) if scanned and len(node.inputs) == len(body.inputs) else None
    return shape[node.attributes.get_ints("scan_input_axes", (0,) * scanned)[-1]] if shape else None
