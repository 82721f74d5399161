"""Results of one probe as plain numbers. No torch: a saved report is scored again without it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Participation:
    """Participation ratio of activations: the effective number of dimensions of their covariance S.

    Attributes:
        ratio: (tr S)^2 / tr(S^2), dimensionless, in [1, min(rows - 1, channels)]; None for constant
            activations (0/0).
        corrected: the same without the bias of few rows, in [1, channels]; None if there are too few rows to
            estimate it.
        error: standard error of the logarithm of ``ratio``, in nats; 0 where tr(S^2) was not estimated.
    """

    ratio: float | None
    corrected: float | None
    error: float = 0.0


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
        scale: root mean square over the channels of their standard deviations.
        gradient: Frobenius norm of the gradient of the loss; None if none passes.
        error: standard error of the logarithm of ``standardised``, in nats; 0 where it was not estimated.
    """

    rows: int
    channels: int
    standardised: float | None
    plain: float | None
    scale: float = 0.0
    gradient: float | None = None
    error: float = 0.0


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

    @property
    def count(self) -> int:
        """Numbers that it is the mean of: samples of a cross-entropy, elements of a squared error."""
        return self.shape[0] if self.kind == "cross_entropy" else math.prod(self.shape)


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
        samples: of the run.
    """

    seed: int
    layers: Mapping[str, LayerTrace]
    gradients: Mapping[str, GradientStatistics]
    losses: tuple[LossTerm, ...]
    seconds: Mapping[str, float]
    points: Mapping[str, PointTrace] = field(default_factory=dict)
    samples: int = 1

    def sensitivity(self, point: str) -> float | None:
        """Change of a sample's loss, in nats, by noise as large as a value's own variation; None if unknown.

        The scale of the value times the norm of the gradient with respect to it, for the loss of one sample
        (or element) instead of the mean: invariant to the scale of the value and to the number of samples.
        About 1 at logits of unit variance, the same along a network that keeps norms, and it grows or falls
        towards the input where gradients explode or vanish.
        """
        trace = self.points.get(point)
        if trace is None or trace.gradient is None or not self.losses:
            return None
        return trace.scale * trace.gradient / math.sqrt(math.fsum(1 / loss.count for loss in self.losses))
