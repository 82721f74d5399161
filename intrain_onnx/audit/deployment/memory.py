"""Peak memory of the activations of a forward pass: liveness over the nodes in the order of the file.

A value lives from the node that makes it to the last that reads it; graph inputs and outputs are the caller's
and live throughout, or to the end. Reshapes share memory with what they read; no other node is taken to
compute in place, and a body runs once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import onnx_ir as ir

from intrain_onnx.audit.deployment.facts import MemoryFacts, Peak
from intrain_onnx.network.footprint import size_of
from intrain_onnx.network.input_shapes import Signature, resized
from intrain_onnx.network.layers import data_dependent
from intrain_onnx.network.subgraphs import bodies, every_node
from intrain_onnx.network.values import name_of, static_shape
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, kind
from intrain_onnx.rewrites.infer_shapes import infer_shapes
from intrain_onnx.rewrites.inline_functions import InlineFunctions
from intrain_onnx.rewrites.lift_constants import lift_constants
from intrain_onnx.rewrites.network import Network

Size = Callable[[ir.Value], int]
"""Bytes of a value."""


def memory_facts(network: Network, samples: int) -> MemoryFacts:
    """Peaks for one sample and for a batch, by the shapes and element types of the file.

    Args:
        network: its own graph is taken, with functions expanded; fused operators stay.
        samples: of the batch; where the file fixes the number, that is taken.
    """
    single = network.single
    whole = single if single.fixed_batch is not None else resized(single, samples)
    model = _graph_of(network, whole)
    seen = {v.name: v for node in every_node(network.exact.graph) for v in node.outputs}
    data = data_dependent(model.graph)  # sizes and constants are small, or folded
    read = [v for node in every_node(model.graph) for v in node.outputs if v in data and v.uses()]
    unknown = sum(static_shape(v) is None and static_shape(seen.get(v.name)) is None for v in read)
    batch = peak(model.graph, _sizes(seen, whole.batch // max(single.batch, 1)))
    sample = batch
    if whole is not single:
        infer_shapes(model, single)
        sample = peak(model.graph, _sizes(seen, 1))
    return MemoryFacts(network.loaded.tensor_bytes, sample, single.batch, batch, whole.batch, unknown)


def _graph_of(network: Network, signature: Signature) -> ir.Model:
    model = network.loaded.fresh()
    if model.functions:
        InlineFunctions()(model)
    lift_constants(model)
    infer_shapes(model, signature)
    return model


def _sizes(seen: Mapping[str | None, ir.Value], times: int) -> Size:
    """Sizes of values; where inference misses a shape, that of one sample in a run, so many times."""

    def size(value: ir.Value) -> int:
        if static_shape(value) is not None:
            return size_of(value, stored=True)
        return times * size_of(seen[value.name], stored=True) if value.name in seen else 0

    return size


def peak(graph: ir.Graph, size: Size) -> Peak:
    """The largest sum of the values that are alive at a node, its outputs included, and the node.

    Args:
        graph: in topological order.
        size: bytes of a value; 0 for one of unknown shape.
    """
    held = sum(map(size, graph.inputs))
    return _peak(graph, size, held) or Peak(held, "", "")


def _peak(graph: ir.Graph, size: Size, held: int) -> Peak | None:
    """The peak within a graph above what is held around it; None for one without nodes."""
    nodes = list(graph)
    roots = _roots(nodes)
    own = {root for root in roots.values() if root.producer() is not None and root.graph is graph}
    last = _last_reads(graph, nodes, roots)
    freed: Counter[int] = Counter()
    most: Peak | None = None
    for index, node in enumerate(nodes):
        made = [v for v in node.outputs if roots[v] is v and v in own]
        held += sum(map(size, made))
        for value in made:
            freed[last.get(value, index)] += size(value)
        inner = [found for _, body in bodies(node) if (found := _peak(body, size, held)) is not None]
        here = max((*inner, Peak(held, name_of(node), node.op_type)), key=lambda p: p.bytes)
        if most is None or here.bytes > most.bytes:
            most = here
        held -= freed.pop(index, 0)
    return most


def _roots(nodes: list[ir.Node]) -> dict[ir.Value, ir.Value]:
    """The value whose memory each output of a node has: its own, or that of what a reshape reads."""
    roots: dict[ir.Value, ir.Value] = {}
    for node in nodes:
        for value in node.outputs:
            read = node.inputs[0] if _shares_memory(node) else None
            roots[value] = value if read is None else roots.get(read, read)
    return roots


def _shares_memory(node: ir.Node) -> bool:
    return kind(node) is Kind.VIEW and not is_op(node, "Transpose", "Cast")


def _last_reads(
    graph: ir.Graph, nodes: list[ir.Node], roots: dict[ir.Value, ir.Value]
) -> dict[ir.Value, int]:
    """The number of the last node that reads each value, by memory; that after the last for an output."""
    last: dict[ir.Value, int] = {}
    for index, node in enumerate(nodes):
        for value in _read_by(node):
            last[roots.get(value, value)] = index
        for value in node.outputs:  # a reshape that nothing reads frees what it shares once it was made
            last[roots[value]] = max(last.get(roots[value], 0), index)
    for value in graph.outputs:
        last[roots.get(value, value)] = len(nodes)
    return last


def _read_by(node: ir.Node) -> Iterator[ir.Value]:
    """What a node reads, and what its bodies read of the graph around."""
    for inner in (node, *(n for _, body in bodies(node) for n in every_node(body))):
        yield from (v for v in inner.inputs if v is not None)
    for _, body in bodies(node):
        yield from body.outputs
