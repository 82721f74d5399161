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
from typing import Final

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


_ROWS: Final = (
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
