"""What a probe measured, as plain numbers. No torch: a saved report is scored again without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Participation:
    """How many directions a set of activations uses.

    Attributes:
        ratio: the participation ratio, dimensionless, in [1, min(rows - 1, channels)]; None where the
            activations do not vary at all (it is 0/0 there).
        corrected: the same from unbiased estimates of (tr S)^2 and tr(S^2), in [1, channels]; None
            where there are too few rows to estimate it.
    """

    ratio: float | None
    corrected: float | None


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """What one layer gave: the shape of its output for all samples, and its participation ratio.

    ``participation`` is None where fewer than two rows reached it.
    """

    shape: tuple[int, ...]
    rows: int
    channels: int
    participation: Participation | None


@dataclass(frozen=True, slots=True)
class PointTrace:
    """What one value between the layers gave.

    Attributes:
        rows: of its matrix.
        channels: of its matrix.
        standardised: participation ratio of the correlation of its channels, None where none varies.
        plain: participation ratio of their covariance; None also where it was not asked for.
    """

    rows: int
    channels: int
    standardised: float | None
    plain: float | None


@dataclass(frozen=True, slots=True)
class GradientStatistics:
    """Population standard deviation and largest magnitude of one gradient, in loss per weight.

    ``size`` is the number of its elements.
    """

    std: float
    max_abs: float
    size: int


@dataclass(frozen=True, slots=True)
class LossTerm:
    """What one output was compared with: ``cross_entropy`` with random labels, or ``mean_squared_error``."""

    output: str
    kind: str
    shape: tuple[int, ...]
    value: float


@dataclass(frozen=True)
class Trace:
    """Everything read in one forward and one backward pass.

    Attributes:
        seed: of the run.
        layers: by layer name; a layer that was not run is missing.
        gradients: by ONNX name; a parameter that no gradient reached is missing.
        losses: one for each output that the loss attached to.
        seconds: wall-clock time of each step.
        points: what was measured between the layers, by the name of the value.
    """

    seed: int
    layers: Mapping[str, LayerTrace]
    gradients: Mapping[str, GradientStatistics]
    losses: tuple[LossTerm, ...]
    seconds: Mapping[str, float]
    points: Mapping[str, PointTrace] = field(default_factory=dict)
