"""Facts of a file and its graph from static analysis. No torch."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_ir as ir

from intrain_onnx import inspection
from intrain_onnx.audit.facts import FileFacts, NodeFacts
from intrain_onnx.audit.flow.decisions import deciding
from intrain_onnx.network.values import drops_values, name_of
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, kind
from intrain_onnx.rewrites.half_precision import rounding
from intrain_onnx.rewrites.network import Network

ONNX_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.training", "ai.onnx.preview.training"})
"""Domains that the ONNX standard defines."""

_BATCH_NORM_HAS_MODE = 14
_INFERENCE_ONLY = 7


def file_facts(network: Network) -> FileFacts:
    """Facts of a file, its static analysis included."""
    loaded = network.loaded
    model = loaded.fresh()
    nodes = list(_nodes(model))
    opset = loaded.opset_imports.get("")
    local = {(function.domain, function.name) for function in model.functions.values()}
    return FileFacts(
        bytes=loaded.bytes + sum(file.bytes for file in loaded.external),
        external=tuple(file.location for file in loaded.external),
        opset=opset,
        warnings=tuple(inspection.warnings(network)),
        training=tuple(_training(nodes, opset or 1)),
        random=tuple(_point(n) for n in nodes if kind(n) is Kind.RANDOM),
        foreign=tuple(
            _point(n, n.domain)
            for n in nodes
            if n.domain not in ONNX_DOMAINS and (n.domain, n.op_type) not in local
        ),
        covered=network.coverage,
        missing=network.missing_operators,
        half=rounding(model) > 0,
        deciding={
            name: NodeFacts(stop.node or "", stop.op or "")
            for name, stop in deciding(network.model.graph, network.layers, network.reach).items()
        },
        branches=_in_branches(network),
    )


def _in_branches(network: Network) -> frozenset[str]:
    """Weights of layers in subgraphs, wherever the weights are transposed or reshaped."""
    outside = {v.name for node in network.model.graph for v in node.outputs}
    layers = network.layers.layers
    kept = {w.name for layer in layers if layer.output in outside for w in layer.weights}
    return frozenset(w.name for layer in layers for w in layer.weights) - kept


def _nodes(model: ir.Model) -> Iterator[ir.Node]:
    yield from model.graph.all_nodes()
    for function in model.functions.values():
        yield from function.all_nodes()


def _point(node: ir.Node, detail: str = "") -> NodeFacts:
    return NodeFacts(name_of(node), node.op_type, detail)


def _training(nodes: list[ir.Node], opset: int) -> Iterator[NodeFacts]:
    """Nodes that are specific to training or run in training mode."""
    for node in nodes:
        if node.domain in ("ai.onnx.training", "ai.onnx.preview.training"):
            yield _point(node, f"an operator of {node.domain}")
        elif node.domain not in ("", "ai.onnx"):
            continue
        elif is_op(node, "Dropout") and drops_values(node, opset):
            yield _point(node, "Dropout drops values")
        elif is_op(node, "BatchNormalization") and _batch_norm_trains(node, opset):
            yield _point(node, "BatchNormalization normalises by the batch")
        elif kind(node) is Kind.LOSS:
            yield _point(node, "a loss")


def _batch_norm_trains(node: ir.Node, opset: int) -> bool:
    if opset < _INFERENCE_ONLY:
        return _int(node, "is_test", 0) == 0
    if opset < _BATCH_NORM_HAS_MODE:
        return len([v for v in node.outputs if v.name]) > 1
    return _int(node, "training_mode", 0) == 1


def _int(node: ir.Node, name: str, default: int) -> int:
    return node.attributes[name].as_int() if name in node.attributes else default
