"""Named scores beside the paper's. No torch.

Each is a formula of the same evidence, over the live layers and their weights under every protocol. How they
were chosen and what they were confirmed on stands in docs/benchmarks.md.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from intrain_onnx.evidence import Evidence


@dataclass(frozen=True, slots=True)
class Variant:
    """A named score; a higher one is better.

    Attributes:
        name: short, for reports.
        formula: in one line.
        reason: why it should rank better than the paper's.
        compute: from the evidence of one run.
    """

    name: str
    formula: str
    reason: str
    compute: Callable[[Evidence], float]


def corrected_resilience(evidence: Evidence) -> float:
    """Sum over live weights of the health that is corrected for the tensor's size: about their number."""
    return math.fsum(t.corrected_health for t in evidence.live_weights)


def mean(values: list[float]) -> float:
    """Arithmetic mean; 0 of nothing, as a network without a live layer has no capacity."""
    return statistics.fmean(values) if values else 0.0


def width_depth(evidence: Evidence) -> float:
    """Mean log PR of live layers, times log(1 + size-corrected resilience)."""
    return mean(evidence.live_layers) * math.log1p(corrected_resilience(evidence))


def width_depth_size(evidence: Evidence) -> float:
    """Mean log PR at the cuts, times log(1 + size-corrected resilience), times log(1 + live weights)."""
    live = sum(t.size for t in evidence.live_weights)
    return mean(evidence.cuts) * math.log1p(corrected_resilience(evidence)) * math.log1p(live)


_ROWS: Final = (
    Variant(
        "width_depth",
        "mean of log PR over live layers, times log(1 + sum of size-corrected health)",
        "Both factors of the paper's score are sums: it grows with the square of the depth, and width hardly "
        "counts. Here one is the log of the effective width, the other that of the effective depth.",
        width_depth,
    ),
    Variant(
        "width_depth_size",
        "product of mean log PR at the cuts, log(1 + sum of size-corrected health), log(1 + live weights)",
        "What collapses in one branch is carried by another; what collapses at a cut, which every path "
        "crosses, is lost. A weight counts where a gradient reaches it.",
        width_depth_size,
    ),
)

VARIANTS: Final[Mapping[str, Variant]] = MappingProxyType({row.name: row for row in _ROWS})


def all_of(evidence: Evidence) -> dict[str, float]:
    """Every variant, by name."""
    return {name: variant.compute(evidence) for name, variant in VARIANTS.items()}
