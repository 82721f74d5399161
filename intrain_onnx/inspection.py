"""The static pass alone, as a document. No torch."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import onnx
import onnx_ir as ir

from intrain_onnx import assemble, computed, coverage, float_form, graph, rewrite, signature, written_out
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.load import LoadedModel, load
from intrain_onnx.operators import unsupported
from intrain_onnx.values import name_of

_BATCH_NORM_NAME = re.compile(r"batch_?norm", re.IGNORECASE)
_FOLDED_BY_TORCHSCRIPT = re.compile(r"onnx::Conv_\d+")


@dataclass(frozen=True)
class Inspection:
    """What the graph alone tells.

    ``data`` holds JSON values: ``model``, ``layers``, ``coverage``, ``unsupported_ops`` and ``warnings``.
    """

    data: Mapping[str, Any]


@dataclass(frozen=True)
class Look:
    """What the static pass of a model found.

    Attributes:
        model: normalised, in its float form.
        layers: of that model.
        covered: how much of its weights they are.
        described: the ``model`` part of a report.
        missing: operators without a handler, with the number of nodes of each.
        warnings: rows with ``code``, ``message`` and ``node``.
    """

    model: ir.Model
    layers: graph.LayerMap
    covered: coverage.Coverage
    described: dict[str, Any]
    missing: dict[str, int]
    warnings: list[dict[str, Any]]


def inspect(
    source: str | os.PathLike[str] | onnx.ModelProto | ir.Model, config: ScoreConfig | None = None
) -> Inspection:
    """Look at a model without running it and without importing torch.

    Free dimensions take the sizes that a score would give them, with one sample, so that multiply-accumulate
    operations can be counted.

    Raises:
        ModelFileError, LimitError: the file cannot be read, is not valid, or asks for too much.
        SettingsError: an input shape that does not fit.
    """
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    config = config or ScoreConfig.for_protocol()
    try:
        found = look(load(source), config)
    except IntrainError as error:
        error.at(path=path)
        raise
    data = {
        "model": found.described,
        "layers": [_layer(layer) for layer in found.layers.layers],
        "coverage": coverage.as_dict(found.covered),
        "unsupported_ops": found.missing,
        "warnings": found.warnings,
    }
    return Inspection(data)


def look(loaded: LoadedModel, config: ScoreConfig, evaluate: computed.Evaluate | None = None) -> Look:
    """The static pass of a loaded model, with the loader's warnings first.

    With ``evaluate``, the values of weights that the graph computes can be read.

    Raises:
        SettingsError: an input shape that does not fit.
    """
    model = loaded.fresh()
    rewrite.normalise(model)
    single = signature.resolve(model, config, batch=1)
    known = rewrite.infer_shapes(model, single)
    missing = unsupported(model)
    written_out.restore(model)
    quantisation = rewrite.use_float_form(model, single)
    computed.separate(model, evaluate, partial(rewrite.infer_for, model, single))
    layers = graph.analyse(model)
    warnings = [_warning(*row) for row in loaded.warnings]
    covered = coverage.measure(model, layers)
    warnings += static_warnings(model, layers, covered, quantisation, shapes_known=known)
    described = assemble.describe(loaded, model, layers, single)
    return Look(model, layers, covered, described, missing, warnings)


def static_warnings(
    model: ir.Model,
    layers: graph.LayerMap,
    covered: coverage.Coverage,
    quantisation: float_form.Quantisation | None = None,
    *,
    shapes_known: bool = True,
) -> list[dict[str, Any]]:
    """What a user should know before reading a score."""
    rows = [_warning(*row) for row in float_form.warnings(quantisation)]
    folded = folded_batch_norms(model, layers)
    if folded:
        rows.append(
            _warning(
                "batch_norm_folded",
                f"BatchNorm was folded into {folded} of {len(layers.layers)} layers by the exporter; only "
                "the architecture protocol gives such a graph the score of the network that it came from",
            )
        )
    training = [name_of(n) for n in model.graph.all_nodes() if _trains(n)]
    if training:
        rows.append(
            _warning(
                "training_mode", f"{len(training)} BatchNormalization nodes are in training mode", training[0]
            )
        )
    if not shapes_known:
        rows.append(
            _warning("shapes_unknown", "onnx's shape inference refuses this model; sizes are unknown")
        )
    elif layers.unknown_macs:
        rows.append(
            _warning(
                "macs_incomplete",
                f"the shapes of {layers.unknown_macs} products are unknown; MACs leave them out",
            )
        )
    missed = coverage.warning(covered)
    if missed is not None:
        rows.append(_warning(*missed))
    if not layers.layers:
        rows.append(_warning("no_layers", "no convolution, linear map, recurrence or embedding was found"))
    return rows


def _warning(code: str, message: str, node: str | None = None) -> dict[str, Any]:
    return {"code": code, "message": message, "node": node}


def _trains(node: ir.Node) -> bool:
    mode = node.attributes.get("training_mode")
    return node.op_type == "BatchNormalization" and mode is not None and mode.as_int() == 1


def folded_batch_norms(model: ir.Model, layers: graph.LayerMap) -> int:
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


def _layer(layer: graph.Layer) -> dict[str, Any]:
    return {
        "name": layer.name,
        "op": layer.op,
        "kind": layer.kind,
        "depth": layer.depth,
        "weights": [w.name for w in layer.weights],
        "initializers": list(dict.fromkeys(name for w in layer.weights for name in w.initializers)),
        "weight_shapes": [list(w.shape) for w in layer.weights],
        "bias": layer.bias,
        "channels": layer.channels,
        "macs": layer.macs,
        "key": layer.key,
    }
