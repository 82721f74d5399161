"""The JSON document of a comparison of two files; ``diff.schema.json`` is generated from its rows."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta

from intrain_onnx.report.rows import Tool
from intrain_onnx.report.rows.types import Count, Digest, Magnitude, Row, Shape, Share
from intrain_onnx.vocabulary import LayerKind

_Version = Literal["1.0"]
SCHEMA_VERSION: Final[_Version] = "1.0"

Expected = Literal["conversion", "checkpoint"]
"""What the second file is: of the same weights, or of a later step of training."""

Precision = Literal["float64", "float32", "float16", "bfloat16", "int8", "int4"]
"""Coarsest type of the weights or activations that a file computes with."""

Status = Literal["same", "changed", "gone", "added"]

Rule = Literal[
    "structure",
    "operators",
    "not-finite",
    "weights",
    "order",
    "levels",
    "zeros",
    "activations",
    "outputs",
    "agreement",
]


Correlation = Annotated[float, Meta(ge=-1, le=1)]


NOT_RUN: Final = "it was not run"
"""Why a layer has no activation where no input reaches it, as in a branch that is not taken."""


class Compared(Row, frozen=True):
    """Difference of two tensors; the first file's is the reference."""

    elements: Annotated[Count, Meta(description="Pairs that are finite.")]
    equal: Annotated[bool, Meta(description="Bit for bit.")]
    relative_error: Annotated[
        Magnitude | None, Meta(description="Norm of the difference over that of the reference.")
    ]
    snr_db: Annotated[
        float | None,
        Meta(description="Signal to noise, 10 log10 of the ratio of squares; null where nothing differs."),
    ]
    correlation: Annotated[Correlation | None, Meta(description="Pearson's; null where one does not vary.")]
    max_abs_error: Magnitude
    not_finite: Annotated[Count, Meta(description="Finite in the first, not in the second.")]


class WeightRow(Row, frozen=True):
    """One parameter of a layer, or of none. BatchNorm and constants behind a layer are folded into it."""

    role: str
    first: Annotated[str | None, Meta(description="Name in the first file.")]
    second: Annotated[str | None, Meta(description="Name in the second file.")]
    shape: Annotated[Shape | None, Meta(description="Canonical; null where it is in one file alone.")]
    difference: Annotated[
        Compared | None, Meta(description="Null where it is in one file, or shapes differ.")
    ]
    reordered: Annotated[bool, Meta(description="The same values in another order.")]
    levels: Annotated[
        tuple[Count, Count] | None, Meta(description="Distinct values in each file; null where many in both.")
    ]
    zeros: Annotated[
        tuple[Share, Share] | None, Meta(description="Share of exact zeros in each file; null where equal.")
    ]


class LayerRow(Row, frozen=True):
    """A layer of one file, or a pair."""

    first: Annotated[str | None, Meta(description="Name in the first file.")]
    second: Annotated[str | None, Meta(description="Name in the second file.")]
    kind: LayerKind
    depth: Count
    shapes: Annotated[tuple[Shape | None, Shape | None], Meta(description="Canonical weight shapes.")]
    status: Status
    weights: tuple[WeightRow, ...]
    activation: Annotated[
        Compared | None, Meta(description="Of its output, behind normalisation and activation function.")
    ]
    unseen: Annotated[str | None, Meta(description="Why there is no activation.")]
    log_participation_ratio: tuple[float | None, float | None]
    health: tuple[float | None, float | None]


class OutputRow(Row, frozen=True):
    """A pair of graph outputs."""

    first: str
    second: str
    difference: Compared | None
    classes: Annotated[Count | None, Meta(description="Entries that the top class is chosen from.")]
    agreement: Annotated[Share | None, Meta(description="Share of rows with the same top class.")]
    unseen: Annotated[str | None, Meta(description="Why they are not compared.")]


class Side(Row, frozen=True):
    """One of the two files."""

    path: str
    sha256: Digest | None
    producer: str | None
    precision: Precision
    quantisation: Annotated[tuple[str, ...], Meta(description="Schemes of its layers.")]
    parameters: Count
    layers: Count
    intrain: Annotated[float | None, Meta(description="Score under the protocol checkpoint.")]


class FindingRow(Row, frozen=True):
    """A threshold that is passed."""

    rule: Rule
    message: str
    place: Annotated[str | None, Meta(description="Layer, parameter or output.")]
    measured: float | None
    threshold: float | None


class OperatorRow(Row, frozen=True):
    """An operator of which there are others, or with other attributes."""

    op: str
    difference: str


class Inputs(Row, frozen=True):
    """What both files were run on."""

    samples: Count
    seed: Count
    given: Annotated[tuple[str, ...], Meta(description="Inputs that the user gave; the others are noise.")]
    shapes: dict[str, Shape]


class Document(Row, frozen=True):
    """The comparison of two files."""

    schema_version: _Version
    tool: Tool
    expected: Expected
    passed: bool
    first: Side
    second: Side
    inputs: Inputs
    same_structure: bool
    parts_at: Annotated[str | None, Meta(description="First layer whose activation is beyond its threshold.")]
    findings: tuple[FindingRow, ...]
    layers: tuple[LayerRow, ...]
    parameters: Annotated[tuple[WeightRow, ...], Meta(description="Of no layer.")]
    outputs: tuple[OutputRow, ...]
    operators: Annotated[
        tuple[OperatorRow, ...],
        Meta(description="Of the normalised graphs; a finding between checkpoints, as exporters differ."),
    ]
    thresholds: dict[str, float]
    notes: Annotated[tuple[str, ...], Meta(description="What could not be measured, and why.")]
    seconds: Magnitude
