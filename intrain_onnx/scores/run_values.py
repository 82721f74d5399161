"""Measurements of one run as plain numbers, the operands of every score's formula.

`bench` stores them; a layer, tensor or point is the list of its fields in order.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from msgspec import Struct

from intrain_onnx.measure.trace import GradientStatistics, LayerTrace, PointTrace
from intrain_onnx.network.measuring_points import Point
from intrain_onnx.vocabulary import LayerStatus

_GONE: frozenset[LayerStatus] = frozenset({"dead", "unreached", "not_run"})


class LayerValue(Struct, frozen=True, array_like=True):
    """A layer: log participation ratio of its output in nats (0 if it collapsed), and its status."""

    log_ratio: float
    status: LayerStatus

    @property
    def live(self) -> bool:
        """Whether its weights have a gradient."""
        return self.status not in _GONE


class TensorValue(Struct, frozen=True, array_like=True):
    """A parameter tensor that a gradient reached.

    Attributes:
        health: of its gradient, in [0, 1].
        max_abs: largest magnitude of its gradient.
        size: elements.
        weight: it is a weight of a live layer.
        live: its gradient is not a true zero.
    """

    health: float
    max_abs: float
    size: int
    weight: bool
    live: bool

    @property
    def corrected_health(self) -> float:
        """Health times sqrt(2 ln n), n the size: about 1 for a Gaussian gradient of any size.

        The expected maximum of n independent Gaussians is about sqrt(2 ln n) standard deviations, so the
        uncorrected health falls with the size of the tensor.
        """
        return self.health * math.sqrt(2 * math.log(max(self.size, 2)))


class PointValue(Struct, frozen=True, array_like=True):
    """A value of the graph, see `measuring_points.Point`.

    Attributes:
        standardised: log participation ratio of the correlation of its channels, nats; 0 if none varies.
        plain: that of their covariance; None if it was not measured.
        read: a layer reads it.
        join: branches join in it.
        cut: it is a dominator of the loss.
    """

    standardised: float
    plain: float | None
    read: bool
    join: bool
    cut: bool


class RunValues(Struct, frozen=True):
    """The operands of the formulas, of one run."""

    layers: tuple[LayerValue, ...]
    tensors: tuple[TensorValue, ...]
    points: tuple[PointValue, ...]

    @property
    def live_layers(self) -> list[float]:
        """Log participation ratios of the live layers."""
        return [layer.log_ratio for layer in self.layers if layer.live]

    @property
    def live_weights(self) -> list[TensorValue]:
        """The weights of live layers that have a gradient."""
        return [t for t in self.tensors if t.weight and t.live]

    @property
    def cuts(self) -> list[float]:
        """Log participation ratios of the standardised cuts."""
        return [p.standardised for p in self.points if p.cut]


def log_ratio(trace: LayerTrace | None) -> float:
    """Log participation ratio in nats; 0 for a constant output, or without a measurement."""
    measured = trace.participation if trace is not None else None
    return _log(measured.ratio if measured is not None else None)


def point_value(point: Point, trace: PointTrace | None) -> PointValue:
    """A point with its measurements."""
    return PointValue(
        standardised=_log(trace.standardised if trace else None),
        plain=math.log(trace.plain) if trace and trace.plain is not None else None,
        read=point.read,
        join=point.join,
        cut=point.cut,
    )


def _log(ratio: float | None) -> float:
    return math.log(ratio) if ratio is not None else 0.0


def tensor_values(
    gradients: Mapping[str, GradientStatistics],
    healths: Mapping[str, float],
    weights: Iterable[str],
) -> tuple[TensorValue, ...]:
    """Tensors that have a gradient; ``healths`` is 0 for a true zero."""
    of_layers = set(weights)
    return tuple(
        TensorValue(healths[name], gradient.max_abs, gradient.size, name in of_layers, healths[name] > 0.0)
        for name, gradient in gradients.items()
    )
