"""Results of one probe as plain numbers. No torch: a saved report is scored again without it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Participation:
    """Participation ratio of activations: the effective number of dimensions of their covariance S.

    Attributes:
        ratio: (tr S)^2 / tr(S^2), dimensionless, in [1, min(rows - 1, channels)]; None for constant
            activations (0/0).
        corrected: the same from unbiased estimates of (tr S)^2 and tr(S^2), in [1, channels]; None if there
            are too few rows to estimate them.
    """

    ratio: float | None
    corrected: float | None


@dataclass(frozen=True, slots=True)
class LayerTrace:
    """Shape of a layer's output for all samples, and its participation ratio.

    ``participation`` is None for fewer than two rows.
    """

    shape: tuple[int, ...]
    rows: int
    channels: int
    participation: Participation | None


@dataclass(frozen=True, slots=True)
class PointTrace:
    """Participation ratios of one value between the layers.

    Attributes:
        rows: of its matrix.
        channels: of its matrix.
        standardised: of the correlation matrix of its channels; None if none varies.
        plain: of their covariance; None also if it was not asked for.
    """

    rows: int
    channels: int
    standardised: float | None
    plain: float | None


@dataclass(frozen=True, slots=True)
class GradientStatistics:
    """Population standard deviation, largest magnitude (loss per unit of weight) and size of a gradient."""

    std: float
    max_abs: float
    size: int


@dataclass(frozen=True, slots=True)
class LossTerm:
    """Loss of one output: ``cross_entropy`` with random labels, or ``mean_squared_error`` to noise."""

    output: str
    kind: str
    shape: tuple[int, ...]
    value: float


@dataclass(frozen=True)
class Trace:
    """All measurements of one forward and one backward pass.

    Attributes:
        seed: of the run.
        layers: by layer name; layers that were not run are missing.
        gradients: by ONNX name; parameters without a gradient are missing.
        losses: one for each output that the loss reads.
        seconds: wall-clock time of each step.
        points: measurements between the layers, by name of the value.
    """

    seed: int
    layers: Mapping[str, LayerTrace]
    gradients: Mapping[str, GradientStatistics]
    losses: tuple[LossTerm, ...]
    seconds: Mapping[str, float]
    points: Mapping[str, PointTrace] = field(default_factory=dict)
