"""Measurements of one run as plain numbers, the operands of every score's formula.

`bench` stores them; a layer, tensor or point is the list of its fields in order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec
from msgspec import Struct

from intrain_onnx.measure.trace import GradientStatistics, LayerTrace, PointTrace
from intrain_onnx.network.measuring_points import Point
from intrain_onnx.scores.expected_health import expected_health
from intrain_onnx.vocabulary import LayerKind, LayerStatus, NetworkKind

_LEAST = 1e-300
_GONE: frozenset[LayerStatus] = frozenset({"dead", "unreached", "not_run"})


def is_live(status: LayerStatus) -> bool:
    """Whether the weights of a layer have a gradient, by its status."""
    return status not in _GONE


class LayerValue(Struct, frozen=True, array_like=True):
    """A layer.

    Attributes:
        log_ratio: log participation ratio of its output in nats; 0 if it collapsed.
        status: whether its weights have a gradient.
        channels: of its output.
        positions: rows of its output for one sample; 0 in records of earlier versions.
        log_corrected: log of the ratio without the bias of few rows, nats; 0 as ``log_ratio``.
        kind: of the layer.
    """

    log_ratio: float
    status: LayerStatus
    channels: int = 0
    positions: float = 0.0
    log_corrected: float = 0.0
    kind: LayerKind = "linear"

    @property
    def live(self) -> bool:
        """Whether its weights have a gradient."""
        return is_live(self.status)


class TensorValue(Struct, frozen=True, array_like=True):
    """A parameter tensor that a gradient reached.

    Attributes:
        health: of its gradient, in [0, 1].
        max_abs: largest magnitude of its gradient.
        size: elements.
        weight: it is a weight of a live layer.
        live: its gradient is not a true zero.
        expected: health that a gradient without structure has (see ``expected_health``); 0 if unknown.
    """

    health: float
    max_abs: float
    size: int
    weight: bool
    live: bool
    expected: float = 0.0

    @property
    def corrected_health(self) -> float:
        """Health times sqrt(2 ln n), n the size: about 1 for a Gaussian gradient of any size.

        The expected maximum of n independent Gaussians is about sqrt(2 ln n) standard deviations, so the
        uncorrected health falls with the size of the tensor.
        """
        return self.health * self.correction

    @property
    def correction(self) -> float:
        """sqrt(2 ln n)."""
        return math.sqrt(2 * math.log(max(self.size, 2)))


class PointValue(Struct, frozen=True, array_like=True):
    """A value of the graph, see `measuring_points.Point`.

    Attributes:
        standardised: log participation ratio of the correlation of its channels, nats; 0 if none varies.
        plain: that of their covariance; None if it was not measured.
        read: a layer reads it.
        join: branches join in it.
        cut: it is a dominator of the loss.
        channels: of its matrix; 0 if it was not run.
        sensitivity: log of the loss's sensitivity to it, nats (see ``Trace.sensitivity``); None if unknown.
        states: it holds the states of a recurrence, whose ratio is that around the mean of each step.
    """

    standardised: float
    plain: float | None
    read: bool
    join: bool
    cut: bool
    channels: int = 0
    sensitivity: float | None = None
    states: bool = False


class RunValues(Struct, frozen=True):
    """The operands of the formulas, of one run.

    Attributes:
        layers: canonical layers.
        tensors: those that a gradient reached.
        points: values between the layers.
        kept: the weights are those of the file, at their own scale.
    """

    layers: tuple[LayerValue, ...]
    tensors: tuple[TensorValue, ...]
    points: tuple[PointValue, ...]
    kept: bool = False

    @property
    def kind(self) -> NetworkKind:
        """The kind of network, from its layers."""
        if any(p.states for p in self.points):
            return "recurrent"
        kinds = {layer.kind for layer in self.layers}
        return "language" if "embedding" in kinds else "vision" if "convolution" in kinds else "other"

    @property
    def stages(self) -> list[list[float]]:
        """Log participation ratios without the bias of few rows of live layers, by number of positions."""
        found: dict[float, list[float]] = {}
        for layer in self.layers:
            if layer.live:
                found.setdefault(layer.positions, []).append(layer.log_corrected)
        return list(found.values())

    @property
    def extent(self) -> float:
        """Effective elements of the activations of live layers: sum of corrected ratio times positions."""
        return math.fsum(math.exp(x.log_corrected) * x.positions for x in self.layers if x.live)

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

    @property
    def sensitivities(self) -> list[float]:
        """Logs of the loss's sensitivity to the cuts, in the order of the graph, nats."""
        return [p.sensitivity for p in self.points if p.cut and p.sensitivity is not None]

    def static(self) -> RunValues:
        """The static twin: the same live network, with what can be counted for what was measured.

        Channels replace participation ratios, sqrt(2 ln n) replaces 1 / health, which is its value for noise,
        and the loss is as sensitive to one cut as to another.
        """
        replace = msgspec.structs.replace
        return RunValues(
            tuple(
                replace(x, log_ratio=_log(x.channels), log_corrected=_log(x.channels)) for x in self.layers
            ),
            tuple(replace(t, health=1.0 / t.correction if t.live else 0.0) for t in self.tensors),
            tuple(
                replace(
                    p,
                    standardised=_log(p.channels),
                    plain=_log(p.channels),
                    sensitivity=0.0 if p.cut else None,
                )
                for p in self.points
            ),
        )


def log_corrected(trace: LayerTrace | None) -> float:
    """The same without the bias of few rows; where that is unknown, with it."""
    measured = trace.participation if trace is not None else None
    return _log(measured.corrected or measured.ratio if measured is not None else None)


def log_ratio(trace: LayerTrace | None) -> float:
    """Log participation ratio in nats; 0 for a constant output, or without a measurement."""
    measured = trace.participation if trace is not None else None
    return _log(measured.ratio if measured is not None else None)


def point_value(point: Point, trace: PointTrace | None, sensitivity: float | None = None) -> PointValue:
    """A point with its measurements; ``sensitivity`` is that of the loss, not its logarithm."""
    return PointValue(
        standardised=_log(trace.standardised if trace else None),
        plain=math.log(trace.plain) if trace and trace.plain is not None else None,
        read=point.read,
        join=point.join,
        cut=point.cut,
        channels=trace.channels if trace else 0,
        sensitivity=math.log(max(sensitivity, _LEAST)) if point.cut and sensitivity is not None else None,
        states=point.step_axis is not None,
    )


def _log(ratio: float | None) -> float:
    return math.log(ratio) if ratio else 0.0


def tensor_values(
    gradients: Mapping[str, GradientStatistics],
    healths: Mapping[str, float],
    weights: Mapping[str, int],
) -> tuple[TensorValue, ...]:
    """Tensors that have a gradient.

    Args:
        gradients: by name.
        healths: 0 for a true zero.
        weights: rows of the outputs of live layers, by name of the weight.
    """
    return tuple(
        TensorValue(
            healths[name],
            gradient.max_abs,
            gradient.size,
            name in weights,
            healths[name] > 0.0,
            expected_health(weights[name], gradient.size) if name in weights else 0.0,
        )
        for name, gradient in gradients.items()
    )
