"""Static analysis of a model as a JSON document: layers, coverage, unsupported operators, warnings."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import UnsupportedError, printable
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.load import Source, load
from intrain_onnx.network.recognise import Layer
from intrain_onnx.report import assemble, rows
from intrain_onnx.report.decode import encode
from intrain_onnx.report.frames import parts
from intrain_onnx.report.frames.notebook import Card, shown
from intrain_onnx.report.model_warnings import static_warnings
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import for_protocol
from intrain_onnx.rewrites.protocol.step import Changes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Inspection:
    """Result of the static analysis.

    Attributes:
        data: JSON values: ``model``, ``layers``, ``coverage``, ``unsupported_ops`` and ``warnings``.
        rewrites: by name of each rewrite of the protocol, what it changes and where it declines; empty if not
            asked for, or if the graph has no output that a loss can read.
    """

    data: Mapping[str, Any]
    rewrites: Mapping[str, Changes] = field(default_factory=dict)

    @classmethod
    def of(cls, document: rows.Inspected, rewrites: Mapping[str, Changes]) -> Inspection:
        """The inspection with a typed document as its data."""
        made = cls(encode(document), rewrites)
        made.__dict__["document"] = document
        return made

    def to_frame(self) -> pd.DataFrame:
        """The layers as a pandas DataFrame, a row each, in depth order.

        Raises:
            SettingsError: pandas is not installed.
        """
        return parts.inspected(self.document).frame()

    def __repr__(self) -> str:
        return f"<Inspection of {self._title()}>"

    def _title(self) -> str:
        model = self.document.model
        path = printable(model.path or "model in memory")
        return f"{path}: {len(self.document.layers)} layers, {model.parameters:,} parameters"

    def _repr_html_(self) -> str:
        told = [f"{w.code}: {w.message}" for w in self.document.warnings]
        layers = {f"{len(self.document.layers)} layers": parts.inspected(self.document)}
        return shown(Card(self._title(), {}, told, layers))

    @cached_property
    def document(self) -> rows.Inspected:
        """``data`` as typed rows."""
        return msgspec.convert(self.data, rows.Inspected)


def inspect(
    source: Source,
    config: ScoreConfig | None = None,
    *,
    rewrites: bool = False,
    limits: Limits | None = None,
) -> Inspection:
    """Analyse a model without running it and without importing torch.

    Free dimensions take the sizes that a score would give them, with one sample, so that multiply-accumulate
    operations can be counted.

    Args:
        source: path of an ONNX file, or a model in memory.
        config: the settings; by default the ``architecture`` protocol.
        rewrites: also apply the protocol's rewrites, and record what they do.
        limits: on what the model may take.

    Raises:
        ModelFileError, LimitError: the file cannot be read, is not valid, or asks for too much.
        SettingsError: an input shape that does not fit.
    """
    config = config or ScoreConfig.for_protocol()
    with allowance.held(limits, os.fspath(source) if isinstance(source, (str, os.PathLike)) else None):
        network = Network.of(load(source), config, keyed=True)
        document = rows.Inspected(
            model=assemble.describe(network),
            layers=tuple(map(_layer, network.layers.layers)),
            coverage=assemble.coverage_row(network.coverage),
            unsupported_ops=dict(network.missing_operators),
            warnings=tuple(warnings(network)),
        )
        return Inspection.of(document, _rewrites(network, config) if rewrites else {})


def warnings(network: Network) -> list[rows.WarningRow]:
    """Warnings of the loader, then those of the static analysis."""
    return [*(rows.WarningRow(*row) for row in network.loaded.warnings), *static_warnings(network)]


def rewrites_as_data(rewrites: Mapping[str, Changes]) -> list[dict[str, Any]]:
    """The rewrites as JSON values, in their order: places that each rewrote, and where it declined."""
    return [
        {
            "rewrite": name,
            "places": list(changes.places),
            "declined": [{"place": d.place, "reason": d.reason} for d in changes.declined],
        }
        for name, changes in rewrites.items()
    ]


def _rewrites(network: Network, config: ScoreConfig) -> Mapping[str, Changes]:
    try:
        return for_protocol(network, config).changes
    except UnsupportedError:  # no output that a loss can read: an inspection shows such a graph too
        return {}


def _layer(layer: Layer) -> rows.InspectedLayer:
    return rows.InspectedLayer(
        name=layer.name,
        op=layer.op,
        kind=layer.kind,
        depth=layer.depth,
        weights=tuple(w.name for w in layer.weights),
        initializers=assemble.initializers(layer),
        weight_shapes=tuple(w.shape for w in layer.weights),
        bias=layer.bias,
        channels=layer.channels,
        macs=layer.macs,
        key=layer.key,
        module=layer.module,
    )
