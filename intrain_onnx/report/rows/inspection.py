"""Results of the static pass, as `inspect` outputs them."""

from __future__ import annotations

from collections.abc import Mapping

from intrain_onnx.report.rows.account import Coverage
from intrain_onnx.report.rows.setup import Model, WarningRow
from intrain_onnx.report.rows.types import Count, InModule, Names, Positive, Row, Shape
from intrain_onnx.vocabulary import LayerKind


class InspectedLayer(Row, InModule, frozen=True):
    """A canonical layer before anything is run; see ``Layer``."""

    name: str
    op: str
    kind: LayerKind
    depth: Positive
    weights: Names
    initializers: Names
    weight_shapes: tuple[Shape, ...]
    bias: str | None
    channels: Count
    macs: Count | None
    key: str
    module: str | None


class Inspected(Row, frozen=True):
    """The document of `inspect`."""

    model: Model
    layers: tuple[InspectedLayer, ...]
    coverage: Coverage
    unsupported_ops: Mapping[str, Count]
    warnings: tuple[WarningRow, ...]
