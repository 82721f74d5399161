"""Measurements: the score, and the layers, points and parameters from which it is computed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Literal

from msgspec import UNSET, Meta, UnsetType

from intrain_onnx.report.rows.types import (
    Count,
    InModule,
    Interval,
    Magnitude,
    Names,
    Percent,
    Positive,
    Ratio,
    Row,
    Shape,
    Share,
)
from intrain_onnx.vocabulary import LayerKind, LayerStatus, ParameterStatus, Role


class Run(Row, frozen=True):
    """The score of one seed."""

    seed: Annotated[Count, Meta(description="Of weights, inputs and labels.")]
    intrain: Annotated[
        float, Meta(description="geometric_capacity * (1 + optimization_resilience) / log(layers + 1).")
    ]
    geometric_capacity: Annotated[Magnitude, Meta(description="Sum of log participation ratios, nats.")]
    optimization_resilience: Annotated[Magnitude, Meta(description="Sum of gradient healths.")]


class Score(Row, frozen=True):
    """The paper's score and its two parts, as means over the runs."""

    intrain: Annotated[float, Meta(description="Mean over the runs.")]
    geometric_capacity: Annotated[Magnitude, Meta(description="Sum of log participation ratios, nats.")]
    optimization_resilience: Annotated[Magnitude, Meta(description="Sum of gradient healths.")]
    layers: Annotated[Count, Meta(description="L: layers that were counted; 0 where all are dead.")]
    parameter_tensors: Annotated[Count, Meta(description="Parameter tensors whose health was summed.")]
    std: Annotated[Magnitude | None, Meta(description="Sample standard deviation over the runs.")]
    standard_error: Annotated[Magnitude | None, Meta(description="Of the mean score over the runs.")]
    ci95: Annotated[Interval | None, Meta(description="Student's t interval of the mean score.")]
    runs: Annotated[tuple[Run, ...], Meta(min_length=1)]


class NamedScore(Row, frozen=True):
    """The paper's score or a variant."""

    value: Annotated[float, Meta(description="Mean over the runs.")]
    standard_error: Annotated[
        Magnitude | None, Meta(description="Of the mean over the runs; null for a single run.")
    ]
    static: Annotated[
        float | None,
        Meta(
            description="Its static twin, mean over the runs: the score with channels for participation "
            "ratios, noise for gradients and an even gradient along depth; null in old reports."
        ),
    ]


class Standing(Row, frozen=True):
    """Where the scores stand among reference networks of the same kind, on the same inputs, of like size."""

    percentiles: Annotated[
        Mapping[str, Percent],
        Meta(
            description="Per cent of the neighbours with a lower score, ties counted half, by named score; "
            "empty where they cannot be compared."
        ),
    ]
    networks: Annotated[Count, Meta(description="Neighbours; 0 where they cannot be compared.")]
    neighbours: Annotated[
        Names, Meta(description="The nearest, by #Params and number of layers; 20 at most.")
    ]
    rule: Annotated[str, Meta(description="Which reference networks are neighbours.")]
    reason: Annotated[str | None, Meta(description="Why there is no percentile.")]


class GradientAlongDepth(Row, frozen=True):
    """Where the gradient explodes or dies on its way to the input, in the run in which it does most."""

    reach: Annotated[
        Share,
        Meta(description="Share of `volume` that it leaves, mean over the runs: exp(-(growth - tolerance))."),
    ]
    tolerance: Annotated[
        Magnitude,
        Meta(
            description="What takes nothing from a score on the side of the worst cut, growth or fall, nats."
        ),
    ]
    direction: Annotated[
        Literal["even", "explodes", "dies"], Meta(description="`even` where no cut is beyond the tolerance.")
    ]
    value: Annotated[str | None, Meta(description="The worst cut; null where none was measured.")]
    depth: Annotated[Count | None, Meta(description="Of the worst cut.")]
    log_sensitivity: Annotated[
        float | None,
        Meta(description="At the worst cut, nats: log of the loss's sensitivity to it, 0 where it is even."),
    ]
    lost_at: Annotated[
        str | None,
        Meta(description="The cut nearest the output that is beyond the tolerance; null where none is."),
    ]
    lost_at_depth: Annotated[Count | None, Meta(description="Of that cut.")]
    layers_behind: Annotated[
        Count, Meta(description="Counted layers before that cut, whose gradients all passed through it.")
    ]


class Proxy(Row, frozen=True):
    """Another zero-cost proxy, on the weights and inputs of the first run."""

    values: Annotated[
        Mapping[str, float | None],
        Meta(description="Raw values by part; null where there is none. Formulas: docs/proxies.md."),
    ]
    direction: Annotated[Literal[1, -1], Meta(description="1 where a higher value is better.")]
    error: Annotated[str | None, Meta(description="Why a value is missing.")]


class Layer(Row, InModule, frozen=True, kw_only=True):
    """A canonical layer, and the participation ratio of its output."""

    name: str
    op: str
    kind: LayerKind
    depth: Annotated[
        Positive, Meta(description="Canonical layers on the longest path from an input, itself counted.")
    ]
    inputs: Annotated[
        Names | UnsetType,
        Meta(
            description="Layers that feed it, over nodes that are none; where ways meet, the nearest of each."
        ),
    ] = UNSET
    key: Annotated[
        str, Meta(description="Structural position, the same under renaming and reordering of nodes.")
    ]
    weights: Annotated[Names, Meta(min_length=1)]
    initializers: Annotated[
        Names,
        Meta(
            min_length=1,
            description="Of the file, that the weights are made from: other than the weights where the graph "
            "computes them.",
        ),
    ]
    weight_shape: Annotated[Shape, Meta(description="Canonical: (out, in / groups, *kernel).")]
    shape: Annotated[
        Shape | None,
        Meta(description="Of the measured activation; sample by sample it begins with the number of calls."),
    ]
    rows: Annotated[
        Count | None,
        Meta(
            description="Rows of the activation matrix: samples times positions; null where it was not run."
        ),
    ]
    channels: Annotated[Count, Meta(description="Columns of the activation matrix.")]
    macs: Annotated[
        Count | None,
        Meta(description="Multiply-accumulate operations for one sample; null where a shape is unknown."),
    ]
    participation_ratio: Annotated[
        Ratio | None, Meta(description="Geometric mean over the runs; biased low by few rows.")
    ]
    participation_ratio_corrected: Annotated[
        Ratio | None, Meta(description="From unbiased estimates, for independent rows.")
    ]
    log_participation_ratio: Annotated[Magnitude | None, Meta(description="Mean over the runs, nats.")]
    status: LayerStatus
    counted: bool
    module: Annotated[
        str | None,
        Meta(description="Path in the framework, by the names of weights and node; null if none tells it."),
    ]
    log_participation_ratio_error: Annotated[
        Magnitude, Meta(description="Its standard error where tr(S^2) was estimated, nats; 0 for exact ones.")
    ] = 0.0


class Point(Row, frozen=True):
    """A value of the graph that was measured between the layers."""

    value: str
    layer: Annotated[str | None, Meta(description="The layer whose output it is.")]
    read: Annotated[bool, Meta(description="A layer reads it.")]
    join: Annotated[bool, Meta(description="Branches join in it.")]
    cut: Annotated[bool, Meta(description="Every path to the loss that passes a layer crosses it.")]
    depth: Annotated[Count, Meta(description="Canonical layers on the longest path to the value.")]
    rows: Annotated[Count | None, Meta(description="Samples times positions; null where it was not run.")]
    channels: Annotated[
        Count | None, Meta(description="Columns of the activation matrix; null where it was not run.")
    ]
    log_participation_ratio: Annotated[
        Magnitude | None,
        Meta(description="Mean over the runs, nats; null unless all points were asked for."),
    ]
    log_participation_ratio_standardised: Annotated[
        Magnitude,
        Meta(
            description="Of the correlation of its channels; mean over the runs, nats; 0 where none varies."
        ),
    ]
    log_sensitivity: Annotated[
        float | None,
        Meta(
            description="Log of the change of a sample's loss by noise as large as the value's variation; "
            "mean over the runs, nats; null where it is no cut, or no gradient passes."
        ),
    ]
    states: Annotated[
        bool,
        Meta(description="States of a recurrence, whose ratio is that around the mean of each step."),
    ]
    log_participation_ratio_standardised_error: Annotated[
        Magnitude, Meta(description="Its standard error where it was estimated, nats; 0 for exact ones.")
    ] = 0.0


class Parameter(Row, frozen=True):
    """A parameter tensor, and the health of its gradient."""

    name: str
    role: Role
    layer: Annotated[str | None, Meta(description="The nearest canonical layer at or before it.")]
    depth: Annotated[
        Count, Meta(description="Canonical layers on the longest path to where it is first used.")
    ]
    shape: Annotated[Shape, Meta(description="In the file, or in the form that a protocol gives it.")]
    health: Annotated[
        Share | None,
        Meta(
            description="std / max|g| of its gradient, mean over the runs, in [0, 1]; null where no gradient "
            "arrives."
        ),
    ]
    expected_health: Annotated[
        Share | None,
        Meta(
            description="Health that a gradient without structure has, by the rows of the layer and the size "
            "of the weight; null unless it is a weight of a live layer."
        ),
    ]
    grad_std: Annotated[
        Magnitude | None,
        Meta(
            description="Population standard deviation of its gradient, mean over the runs, in loss per "
            "weight."
        ),
    ]
    grad_max_abs: Annotated[
        Magnitude | None,
        Meta(description="Largest magnitude of its gradient, mean over the runs, in loss per weight."),
    ]
    status: ParameterStatus
    counted: bool


class Depth(Row, frozen=True):
    """Both sums of the score up to a depth."""

    depth: Annotated[Count, Meta(description="Canonical layers on the longest path from an input.")]
    layers: Annotated[Count, Meta(description="Layers at this depth that were counted.")]
    cumulative_log_participation_ratio: Annotated[
        Magnitude,
        Meta(description="Sum up to this depth, nats; in the last row the geometric capacity."),
    ]
    cumulative_health: Annotated[
        Magnitude,
        Meta(description="Sum up to this depth; in the last row the optimisation resilience."),
    ]
