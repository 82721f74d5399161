"""Variants of the InTrain score, by name.

Each is a formula of the same values of a run, over the live layers and their weights under every protocol.
docs/benchmarks.md says how they were chosen, and on which data they were confirmed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, NamedTuple

from intrain_onnx.scores.run_values import RunValues


@dataclass(frozen=True, slots=True)
class Variant:
    """A named score; a higher one is better.

    Attributes:
        name: short, for reports.
        formula: in one line.
        reason: why it should rank networks better than the paper's.
        compute: from the values of one run.
    """

    name: str
    formula: str
    reason: str
    compute: Callable[[RunValues], float]


def mean(values: list[float]) -> float:
    """Arithmetic mean; 0 for an empty list, as a network without a live layer has no capacity."""
    return statistics.fmean(values) if values else 0.0


def width(values: RunValues) -> float:
    """Mean log PR at the cuts, nats: the log of the effective width."""
    return mean(values.cuts) if values.live_weights else 0.0


def depth(values: RunValues) -> float:
    """Log of the effective depth: log(1 + sum over live weights of size-corrected health times log(1 + n)).

    The log of its number of elements n bounds a weight's contribution to a capacity in nats, as the log of
    the number of channels does for an activation.
    """
    return math.log1p(math.fsum(t.corrected_health * math.log1p(t.size) for t in values.live_weights))


class Tolerance(NamedTuple):
    """How far the log sensitivity may fall below 0, and grow above it, without taking from a score, nats."""

    fall: float
    growth: float


TOLERANCE: Final = {True: Tolerance(5.0, 3.0), False: Tolerance(10.0, 10.0)}
"""With the weights of the file, and with drawn and calibrated ones.

Of the networks on digits those below -6 or above 4 do not train, or partly. A mean over many positions takes
some nats from what the loss sees of noise, so falling is tolerated more than growing. Calibrated networks of
every space grow to at most 9.3, and train.
"""


def reach(values: RunValues) -> float:
    """Share of the score that the gradient's way along depth leaves, in (0, 1].

    exp(-excess), where the excess is by how much the log of the loss's sensitivity to a cut leaves the band
    of `TOLERANCE` around 0, at the worst cut: every path crosses each cut, so one at which the gradient
    explodes or dies cuts off all that lies before it.
    """
    return math.exp(-max((excess(values, s) for s in values.sensitivities), default=0.0))


def tolerated(values: RunValues, sensitivity: float) -> float:
    """The bound of the band of `TOLERANCE` on the side of a log sensitivity, nats, positive."""
    limits = TOLERANCE[values.kept]
    return limits.growth if sensitivity > 0 else limits.fall


def excess(values: RunValues, sensitivity: float) -> float:
    """By how much a log sensitivity leaves the band of `TOLERANCE`, nats; 0 inside."""
    return max(0.0, abs(sensitivity) - tolerated(values, sensitivity))


def inner_width(values: RunValues) -> float:
    """Mean of the width at the cuts and of the width of the stages, nats.

    That of the stages is the mean over map sizes of the mean over the live layers of that size: what lies
    between two cuts counts, and a stage of many blocks counts no more than others.
    """
    return (width(values) + mean([mean(stage) for stage in values.stages])) / 2


def live_size(values: RunValues) -> float:
    """log(1 + sum over live weights of log(1 + n)): `depth` of gradients without structure."""
    return math.log1p(math.fsum(math.log1p(t.size) for t in values.live_weights))


def size_depth(values: RunValues) -> float:
    """`live_size`; 1 for language models, whose accuracy follows from size whatever the depth."""
    return 1.0 if values.kind == "language" else live_size(values)


def log_extent(values: RunValues) -> float:
    """Log of the effective extent: log(1 + effective elements of the activations)."""
    return math.log1p(values.extent)


def volume(values: RunValues) -> float:
    """Logs of the effective width, depth and extent, multiplied, by the reach of the gradient.

    Without depth for language models, see `size_depth`. For recurrent networks the effective width of the
    states: their layers say what a step is made of, not what it keeps.
    """
    if not values.live_weights:
        return 0.0
    if values.kind == "recurrent":
        return mean([p.standardised for p in values.points if p.states])
    return reach(values) * inner_width(values) * log_extent(values) * size_depth(values)


_ROWS: Final = (
    Variant(
        "volume",
        "mean log PR of cuts and stages, times log(1 + sum of log n), times log(1 + sum of PR times "
        "positions), times the reach of the gradient; language models: without the second; recurrent "
        "networks: mean log PR of the states",
        "Width, depth and extent of what a network can represent, each as a log, so that none decides alone. "
        "Health only says which weights are live: it follows the rows of a layer, not the training. How far "
        "the gradient grows or dies along depth is seen at the cuts.",
        volume,
    ),
    Variant(
        "width_depth",
        "mean of log PR at the cuts, times log(1 + sum of size-corrected health times log n)",
        "Both factors of the paper's score are sums: it grows with the square of the depth, and width hardly "
        "counts. Here one is the log of the effective width, the other that of the effective depth. Width is "
        "taken at cuts: what collapses in one branch is carried by another, but every path crosses a cut.",
        lambda values: width(values) * depth(values),
    ),
    Variant(
        "width",
        "mean of log PR at the cuts",
        "The first factor alone, for networks that differ little in depth.",
        width,
    ),
)

VARIANTS: Final[Mapping[str, Variant]] = MappingProxyType({row.name: row for row in _ROWS})


def all_of(values: RunValues) -> dict[str, float]:
    """Every variant, by name."""
    return {name: variant.compute(values) for name, variant in VARIANTS.items()}
