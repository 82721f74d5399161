"""Warnings that the graph of a model gives, before anything is run."""

from __future__ import annotations

import re
from typing import Any

import onnx_ir as ir

from intrain_onnx.network import coverage
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.values import name_of
from intrain_onnx.rewrites import dequantise
from intrain_onnx.rewrites.network import Network

_BATCH_NORM_NAME = re.compile(r"batch_?norm", re.IGNORECASE)
_FOLDED_BY_TORCHSCRIPT = re.compile(r"onnx::Conv_\d+")


def static_warnings(network: Network) -> list[dict[str, Any]]:
    """What a user should know before reading a score."""
    model, layers = network.model, network.layers
    rows = [warning_row(*row) for row in dequantise.warnings(network.quantisation)]
    folded = folded_batch_norms(model, layers)
    if folded:
        rows.append(
            warning_row(
                "batch_norm_folded",
                f"BatchNorm was folded into {folded} of {len(layers.layers)} layers by the exporter; only "
                "the architecture protocol gives such a graph the score of the network that it came from",
            )
        )
    training = [name_of(n) for n in model.graph.all_nodes() if _trains(n)]
    if training:
        rows.append(
            warning_row(
                "training_mode", f"{len(training)} BatchNormalization nodes are in training mode", training[0]
            )
        )
    if not network.shapes_known:
        rows.append(
            warning_row("shapes_unknown", "onnx's shape inference refuses this model; sizes are unknown")
        )
    elif layers.unknown_macs:
        rows.append(
            warning_row(
                "macs_incomplete",
                f"the shapes of {layers.unknown_macs} products are unknown; MACs leave them out",
            )
        )
    missed = coverage.warning(network.coverage)
    if missed is not None:
        rows.append(warning_row(*missed))
    if not layers.layers:
        rows.append(warning_row("no_layers", "no convolution, linear map, recurrence or embedding was found"))
    return rows


def warning_row(code: str, message: str, node: str | None = None) -> dict[str, Any]:
    """A row of the report's ``warnings``; ``node`` names where it is, if at one place."""
    return {"code": code, "message": message, "node": node}


def _trains(node: ir.Node) -> bool:
    mode = node.attributes.get("training_mode")
    return node.op_type == "BatchNormalization" and mode is not None and mode.as_int() == 1


def folded_batch_norms(model: ir.Model, layers: LayerMap) -> int:
    """Layers whose names still tell of a BatchNorm that is no longer there.

    tf2onnx names the bias after the BatchNorm; TorchScript gives folded weights and biases numbers for names;
    PyTorch's dynamo exporter makes a bias named after the weight. A graph without such names cannot be
    told from one that never had any.
    """
    producers = {v.name: n for n in model.graph.all_nodes() for v in n.outputs}
    count = 0
    for layer in layers.layers:
        if layer.kind not in ("convolution", "linear") or layer.bias is None:
            continue
        followers = [u.node.op_type for v in producers[layer.output].outputs for u in v.uses()]
        if "BatchNormalization" in followers:
            continue
        weight = layer.weights[0].name
        numbered = all(_FOLDED_BY_TORCHSCRIPT.fullmatch(n) for n in (layer.bias, weight))
        count += numbered or layer.bias == f"{weight}_bias" or _BATCH_NORM_NAME.search(layer.bias) is not None
    return count
