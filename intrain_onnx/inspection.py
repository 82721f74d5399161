"""The static pass alone, as a document."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError, UnsupportedError
from intrain_onnx.loading.load import Source, load
from intrain_onnx.network import coverage
from intrain_onnx.network.layers import Layer
from intrain_onnx.report import assemble
from intrain_onnx.report.model_warnings import static_warnings, warning_row
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import for_protocol
from intrain_onnx.rewrites.protocol.step import Changes


@dataclass(frozen=True)
class Inspection:
    """What the graph alone tells.

    Attributes:
        data: JSON values: ``model``, ``layers``, ``coverage``, ``unsupported_ops`` and ``warnings``.
        rewrites: what each rewrite of the protocol does to the graph and where it declines, by its name;
            empty where they were not asked for, or where nothing is left that a loss can read.
    """

    data: Mapping[str, Any]
    rewrites: Mapping[str, Changes] = field(default_factory=dict)


def inspect(source: Source, config: ScoreConfig | None = None, *, rewrites: bool = False) -> Inspection:
    """Look at a model without running it and without importing torch.

    Free dimensions take the sizes that a score would give them, with one sample, so that multiply-accumulate
    operations can be counted.

    Args:
        source: path of an ONNX file, or a model in memory.
        config: the settings; the ``architecture`` protocol where none are given.
        rewrites: say, too, what the protocol's rewrites do.

    Raises:
        ModelFileError, LimitError: the file cannot be read, is not valid, or asks for too much.
        SettingsError: an input shape that does not fit.
    """
    config = config or ScoreConfig.for_protocol()
    try:
        network = Network.of(load(source), config)
        data = {
            "model": assemble.describe(network),
            "layers": [_layer(layer) for layer in network.keyed_layers.layers],
            "coverage": coverage.as_dict(network.coverage),
            "unsupported_ops": network.missing_operators,
            "warnings": warnings(network),
        }
        return Inspection(data, _rewrites(network, config) if rewrites else {})
    except IntrainError as error:
        error.at(path=os.fspath(source) if isinstance(source, (str, os.PathLike)) else None)
        raise


def warnings(network: Network) -> list[dict[str, Any]]:
    """Rows with ``code``, ``message`` and ``node``: those of the file, then those of its graph."""
    return [*(warning_row(*row) for row in network.loaded.warnings), *static_warnings(network)]


def _rewrites(network: Network, config: ScoreConfig) -> Mapping[str, Changes]:
    try:
        return for_protocol(network, config).changes
    except UnsupportedError:  # nothing that a loss can read: an inspection shows such a graph too
        return {}


def _layer(layer: Layer) -> dict[str, Any]:
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
