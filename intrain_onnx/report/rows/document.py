"""The whole report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from intrain_onnx.report.rows.account import Coverage, GradientReach, Nodes
from intrain_onnx.report.rows.results import (
    Depth,
    GradientAlongDepth,
    Layer,
    NamedScore,
    Parameter,
    Point,
    Proxy,
    Score,
    Standing,
)
from intrain_onnx.report.rows.setup import Environment, Model, Parity, Settings, Tool, WarningRow
from intrain_onnx.report.rows.types import Count, Magnitude, Row
from intrain_onnx.report.schema_versions import Current
from intrain_onnx.vocabulary import NetworkKind


class Document(Row, frozen=True):
    """A whole report."""

    schema_version: Current
    tool: Tool
    model: Model
    settings: Settings
    environment: Environment
    kind: Annotated[
        NetworkKind | None,
        Meta(description="Of the network: scores of different kinds can't be compared; null in old reports."),
    ]
    score: Score
    scores: Annotated[
        Mapping[str, NamedScore],
        Meta(
            description="The paper's score and the variants, by name. A higher one is better.",
            extra_json_schema={"required": ["intrain"]},
        ),
    ]
    gradient: Annotated[
        GradientAlongDepth | None, Meta(description="How the gradient goes along depth; null in old reports.")
    ]
    baselines: Annotated[
        Mapping[str, Count | Magnitude | None],
        Meta(
            description="What can be counted without measuring, by name: a score has to beat it. Of the "
            "network after the protocol's rewrites; null where a shape is unknown, empty in old reports."
        ),
    ]
    proxies: Annotated[
        Mapping[str, Proxy], Meta(description="Peers' zero-cost proxies that were asked for, by name.")
    ]
    layers: tuple[Layer, ...]
    points: Annotated[
        tuple[Point, ...],
        Meta(
            description="Values that were measured between the layers: cuts, or with the setting `all` more."
        ),
    ]
    parameters: tuple[Parameter, ...]
    coverage: Coverage
    gradient_reach: GradientReach
    depth_profile: tuple[Depth, ...]
    nodes: Nodes
    parity: Parity | None
    warnings: tuple[WarningRow, ...]
    timings_s: Annotated[
        Mapping[str, Magnitude],
        Meta(description="Wall-clock seconds of each step; the only values that differ between equal runs."),
    ]
    standing: Annotated[
        Standing | None,
        Meta(description="Among the reference networks that come with the package; null in old reports."),
    ] = None

    def __post_init__(self) -> None:
        """Validate what the type of ``scores`` cannot express: it has the key ``intrain``."""
        if "intrain" not in self.scores:
            raise ValueError("Object missing required field `intrain` - at `$.scores`")
