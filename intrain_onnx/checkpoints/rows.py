"""Rows of a series of checkpoints: what the log stores, and ``series.schema.json`` is generated from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from msgspec import Meta

from intrain_onnx.report.frames.parts import columns
from intrain_onnx.report.frames.table import Table
from intrain_onnx.report.rows import Tool
from intrain_onnx.report.rows.types import Count, Digest, InModule, Magnitude, Positive, Ratio, Row, Share
from intrain_onnx.vocabulary import LayerKind, LayerStatus

if TYPE_CHECKING:
    import pandas as pd

_Version = Literal["1.0"]
SCHEMA_VERSION: Final[_Version] = "1.0"

FORMAT = "intrain-onnx series 1"
"""Of the log."""

Status = Literal["scored", "failed", "other"]
"""Other: the file holds another architecture than the first checkpoint."""

Rule = Literal["collapse", "score", "death", "jump", "gradient", "not-finite"]


class Error(Row, frozen=True):
    """Why a checkpoint has no score."""

    kind: Annotated[str, Meta(description="Class of the error, or reason of the loss of its process.")]
    message: str
    exit_code: Annotated[Count, Meta(description="Of `score` for it; 7 for another architecture.")]


class LayerStep(Row, InModule, frozen=True, kw_only=True):
    """A layer of one checkpoint."""

    name: Annotated[str, Meta(description="In the first checkpoint.")]
    kind: LayerKind
    depth: Annotated[
        Positive, Meta(description="Canonical layers on the longest path from an input, itself counted.")
    ]
    channels: Annotated[Count, Meta(description="Columns of the activation matrix.")]
    status: Annotated[LayerStatus | None, Meta(description="Null where the checkpoint has no score.")] = None
    participation_ratio: Annotated[
        Ratio | None, Meta(description="Effective number of channels, geometric mean over the runs.")
    ] = None
    largest_ratio: Annotated[
        Positive | None, Meta(description="Upper bound of the ratio, by channels and rows.")
    ] = None
    health: Annotated[Share | None, Meta(description="Gradient health, mean of its weights.")] = None
    gradient: Annotated[
        Magnitude | None, Meta(description="Standard deviation of the gradient, mean of its weights.")
    ] = None
    dead_channels: Annotated[
        Count | None,
        Meta(description="Zero behind the activation function, at all samples and positions."),
    ] = None
    cloned_channels: Annotated[
        Count | None,
        Meta(description="With the weights and bias of another channel, up to a positive factor."),
    ] = None
    distance_to_first: Annotated[
        Magnitude | None, Meta(description="Frobenius norm of the change over that of the first checkpoint.")
    ] = None
    distance_to_previous: Annotated[
        Magnitude | None, Meta(description="The same, to the checkpoint before.")
    ] = None
    not_finite: Annotated[Count, Meta(description="Weights that are NaN or infinite.")] = 0
    module: Annotated[
        str | None,
        Meta(description="Path in the framework, by the names of weights and node, if one tells it."),
    ] = None


class Step(Row, frozen=True, kw_only=True):
    """One checkpoint."""

    path: str
    step: Annotated[Count, Meta(description="Of the training: by the number in the name, or the place.")]
    status: Status
    sha256: Annotated[Digest | None, Meta(description="Null where the file could not be read.")] = None
    external_sha256: Annotated[
        Mapping[str, Digest], Meta(description="Of its external data, by location.")
    ] = {}
    error: Error | None = None
    first: Annotated[str | None, Meta(description="Checkpoint that it is compared with as the first.")] = None
    previous: Annotated[str | None, Meta(description="Checkpoint before it, at that time.")] = None
    previous_step: Annotated[Count | None, Meta(description="Of that.")] = None
    intrain: Annotated[
        float | None,
        Meta(description="The paper's score, under the protocol `checkpoint`; mean over the runs."),
    ] = None
    volume: Annotated[float | None, Meta(description="The leading named score, as in a report.")] = None
    geometric_capacity: Annotated[
        Magnitude | None, Meta(description="Sum over layers of the log participation ratio, nats.")
    ] = None
    optimization_resilience: Annotated[
        Magnitude | None, Meta(description="Sum over weights of the gradient health.")
    ] = None
    gradient_norm: Annotated[
        Magnitude | None,
        Meta(description="Sum over the layers' weights of the norm of the gradient, on random labels."),
    ] = None
    distance_to_first: Annotated[Magnitude | None, Meta(description="Of all parameters together.")] = None
    distance_to_previous: Annotated[Magnitude | None, Meta(description="Of all parameters together.")] = None
    not_finite: Annotated[Count, Meta(description="Weights that are NaN or infinite, in all.")] = 0
    warnings: Annotated[tuple[str, ...], Meta(description="Codes of the warnings of its report.")] = ()
    notes: Annotated[tuple[str, ...], Meta(description="What could not be compared, and why.")] = ()
    layers: tuple[LayerStep, ...] = ()
    seconds: Annotated[Magnitude | None, Meta(description="Wall-clock time of the measurement.")] = None

    def measured(self) -> dict[str, Any]:
        """All but the time, as values: the same for the same files."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "seconds"}


class Alarm(Row, frozen=True):
    """A value that passed its threshold; told at the step where it began."""

    rule: Rule
    step: Annotated[Count, Meta(description="At which it began.")]
    path: str
    layer: Annotated[str | None, Meta(description="Null where it concerns the whole network.")]
    message: str
    measured: Annotated[float | None, Meta(description="The value, in the unit of its rule.")]
    usual: Annotated[float | None, Meta(description="What it is held against: its own past.")]
    threshold: Annotated[float | None, Meta(description="The option of that name.")]


class SeriesSettings(Row, frozen=True):
    """Settings of the runs, as ``ScoreConfig`` has them."""

    protocol: str
    seed: Count
    seeds: Positive
    batch: Positive
    size: Positive
    sequence: Positive
    device: str
    threads: Count
    input_shapes: Mapping[str, tuple[Count, ...]]
    batch_axes: Mapping[str, Count | None]
    inputs: Mapping[str, str]


class Document(Row, frozen=True):
    """A series of checkpoints, in the order of their steps."""

    schema_version: _Version
    tool: Tool
    settings: SeriesSettings
    thresholds: Mapping[str, float]
    steps: tuple[Step, ...]
    alarms: tuple[Alarm, ...]

    def to_frame(self, part: Literal["steps", "layers", "alarms"] = "steps") -> pd.DataFrame:
        """A row for each checkpoint, for each layer of each, or for each alarm, as a pandas DataFrame.

        Raises:
            SettingsError: pandas is not installed.
        """
        if part == "alarms":
            return Table(columns(self.alarms, Alarm)).frame()
        if part == "steps":
            made = columns(self.steps, Step)
            made["error"] = [row.error.message if row.error is not None else None for row in self.steps]
            del made["layers"]
            return Table(made).frame()
        found = [(row.step, row.path, x) for row in self.steps for x in row.layers]
        named: dict[str, list[Any]] = {
            "step": [step for step, _, _ in found],
            "path": [path for _, path, _ in found],
        }
        return Table(named | columns([x for _, _, x in found], LayerStep)).frame()
