"""The static pass alone, as a document."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import msgspec
import onnx
import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.loading.load import LoadedModel, load
from intrain_onnx.network import coverage, input_shapes
from intrain_onnx.network.layers import Layer, LayerMap, analyse
from intrain_onnx.opset.support import unsupported
from intrain_onnx.report import assemble, rows
from intrain_onnx.report.decode import encode
from intrain_onnx.report.model_warnings import static_warnings
from intrain_onnx.rewrites import computed_weights, written_out
from intrain_onnx.rewrites.normalise import infer_for, infer_shapes, normalise, use_float_form


@dataclass(frozen=True)
class Inspection:
    """What the graph alone tells.

    ``data`` holds JSON values: ``model``, ``layers``, ``coverage``, ``unsupported_ops`` and ``warnings``.
    """

    data: Mapping[str, Any]

    @classmethod
    def of(cls, document: rows.Inspected) -> Inspection:
        """The inspection that a typed document is."""
        made = cls(encode(document))
        made.__dict__["document"] = document
        return made

    @cached_property
    def document(self) -> rows.Inspected:
        """The same typed."""
        return msgspec.convert(self.data, rows.Inspected)


@dataclass(frozen=True)
class Look:
    """What the static pass of a model found.

    Attributes:
        model: normalised, in its float form.
        layers: of that model.
        covered: how much of its weights they are.
        described: the ``model`` part of a report.
        missing: operators without a handler, with the number of nodes of each.
        warnings: what a reader should know.
    """

    model: ir.Model
    layers: LayerMap
    covered: coverage.Coverage
    described: rows.Model
    missing: dict[str, int]
    warnings: list[rows.WarningRow]


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
    return Inspection.of(
        rows.Inspected(
            model=found.described,
            layers=tuple(map(_layer, found.layers.layers)),
            coverage=assemble.coverage_row(found.covered),
            unsupported_ops=found.missing,
            warnings=tuple(found.warnings),
        )
    )


def look(loaded: LoadedModel, config: ScoreConfig, evaluate: computed_weights.Evaluate | None = None) -> Look:
    """The static pass of a loaded model, with the loader's warnings first.

    With ``evaluate``, the values of weights that the graph computes can be read.

    Raises:
        SettingsError: an input shape that does not fit.
    """
    model = loaded.fresh()
    normalise(model)
    single = input_shapes.resolve(model, config, batch=1)
    known = infer_shapes(model, single)
    missing = unsupported(model)
    written_out.restore(model)
    quantisation = use_float_form(model, single)
    computed_weights.separate(model, evaluate, partial(infer_for, model, single))
    layers = analyse(model)
    warnings = [rows.WarningRow(*row) for row in loaded.warnings]
    covered = coverage.measure(model, layers)
    warnings += static_warnings(model, layers, covered, quantisation, shapes_known=known)
    described = assemble.describe(loaded, model, layers, single)
    return Look(model, layers, covered, described, missing, warnings)


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
    )
