"""Warnings from the static pass, before a model is run."""

from __future__ import annotations

import re
import shlex

import onnx_ir as ir

from intrain_onnx.network import coverage
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import name_of
from intrain_onnx.report.rows import WarningRow
from intrain_onnx.rewrites import dequantise
from intrain_onnx.rewrites.network import Network
from intrain_onnx.scores.scoring import Score

_OTHER = {"ones": 0, "sampling_rate": 8000}
"""What an input of a kind may be fed instead, where it is not 1."""

_BATCH_NORM_NAME = re.compile(r"batch_?norm", re.IGNORECASE)
_FOLDED_BY_TORCHSCRIPT = re.compile(r"onnx::Conv_\d+")


def static_warnings(network: Network) -> list[WarningRow]:
    """Warnings about the graph that affect how a score is to be read."""
    model, layers = network.model, network.layers
    rows = [WarningRow(*row) for row in dequantise.warnings(network.quantisation)]
    folded = folded_batch_norms(model, layers)
    if folded:
        rows.append(
            WarningRow(
                "batch_norm_folded",
                f"BatchNorm was folded into {folded} of {len(layers.layers)} layers by the exporter; only "
                "the architecture protocol gives such a graph the score of the network that it came from",
                None,
            )
        )
    training = [name_of(n) for n in every_node(model.graph) if _trains(n)]
    if training:
        rows.append(
            WarningRow(
                "training_mode", f"{len(training)} BatchNormalization nodes are in training mode", training[0]
            )
        )
    if not network.shapes_known:
        rows.append(
            WarningRow("shapes_unknown", "onnx's shape inference refuses this model; sizes are unknown", None)
        )
    elif layers.unknown_macs:
        rows.append(
            WarningRow(
                "macs_incomplete",
                f"the shapes of {layers.unknown_macs} products are unknown; MACs leave them out",
                None,
            )
        )
    missed = coverage.warning(network.coverage)
    if missed is not None:
        rows.append(WarningRow(*missed))
    if not layers.layers:
        rows.append(
            WarningRow("no_layers", "no convolution, linear map, recurrence or embedding was found", None)
        )
    return rows


def unsure_inputs(used: Signature) -> list[WarningRow]:
    """Warnings about inputs whose contents no operator tells: what they were fed may make no sense."""
    return [
        WarningRow(
            "input_unsure",
            f"how the graph reads input {spec.name!r} does not tell what it holds; it was fed {spec.kind}. "
            f"Set it, such as --input {shlex.quote(f'{spec.name}={_OTHER.get(spec.kind, 1)}')}",
            None,
        )
        for spec in used.inputs
        if spec.number >= 0 and not spec.role.sure and spec.name not in used.given
    ]


def estimates(projections: int, scored: Score) -> list[WarningRow]:
    """How many covariances and correlations were estimated, and by how much they are unsure."""
    layers, points = ([row.error for row in found] for found in (scored.layers, scored.points))
    largest = max([*layers, *points], default=0.0)
    if not largest:
        return []
    counts = " and ".join(
        f"{sum(map(bool, errors))} of {len(errors)} {what}"
        for what, errors in (("layers", layers), ("points", points))
        if any(errors)
    )
    return [
        WarningRow(
            "covariances_estimated",
            f"the ratios of {counts} are estimated from {projections} random projections, with standard "
            f"errors up to {largest:.2g} nats; each seed draws others, so errors over the seeds include them",
            None,
        )
    ]


def _trains(node: ir.Node) -> bool:
    mode = node.attributes.get("training_mode")
    return node.op_type == "BatchNormalization" and mode is not None and mode.as_int() == 1


def folded_batch_norms(model: ir.Model, layers: LayerMap) -> int:
    """Number of layers whose names show that a BatchNorm was folded into them.

    tf2onnx names the bias after the BatchNorm; TorchScript gives folded weights and biases numbers for names;
    PyTorch's dynamo exporter makes a bias named after the weight. Without such names a folded BatchNorm
    cannot be detected.
    """
    producers = {v.name: n for n in every_node(model.graph) for v in n.outputs}
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
