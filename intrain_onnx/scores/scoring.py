"""The InTrain score from traces: layer and parameter statuses, capacity, resilience, confidence interval."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import UnsupportedError
from intrain_onnx.measure.trace import GradientStatistics, LayerTrace, PointTrace, Trace
from intrain_onnx.network.layers import LayerMap, Slot
from intrain_onnx.network.measuring_points import Point
from intrain_onnx.network.recognise import Layer
from intrain_onnx.scores import run_values
from intrain_onnx.scores.expected_health import expected_health
from intrain_onnx.scores.variants import all_of
from intrain_onnx.vocabulary import LayerStatus, ParameterStatus

NOISE_FLOOR = 1e-5
"""A bias gradient below this share of its layer's weight gradient is round-off of a true zero (float32)."""


@dataclass(frozen=True, slots=True)
class LayerScore:
    """One layer over all runs.

    Attributes:
        layer: from the static analysis.
        trace: of the first run; None if it was not run.
        ratio: geometric mean of the participation ratio over the runs; None unless ``measured``.
        corrected: the same of the corrected ratio.
        log_ratio: mean of its logarithm, in nats; 0 if it collapsed.
        error: standard error of ``log_ratio`` where covariances were estimated; 0 where they are exact.
        status: measured; collapsed (its output does not vary); dead (its weights have an all-zero
            gradient); unreached (they have no gradient path from the loss); too_few_rows; not_run.
        counted: it counts in the sums and L.
    """

    layer: Layer
    trace: LayerTrace | None
    ratio: float | None
    corrected: float | None
    log_ratio: float | None
    error: float
    status: LayerStatus
    counted: bool


@dataclass(frozen=True, slots=True)
class ParameterScore:
    """One parameter tensor over all runs.

    ``status``: measured; zero_gradient; round_off (a true zero, see :data:`NOISE_FLOOR`); unreached.
    ``expected``: health of a gradient without structure; None unless it is a weight of a live layer.
    """

    name: str
    slot: Slot
    health: float | None
    expected: float | None
    std: float | None
    max_abs: float | None
    status: ParameterStatus
    counted: bool


@dataclass(frozen=True, slots=True)
class Run:
    """The score of one seed, the variants by name, and the values that all are computed from."""

    seed: int
    intrain: float
    geometric_capacity: float
    optimization_resilience: float
    variants: Mapping[str, float]
    values: run_values.RunValues


@dataclass(frozen=True, slots=True)
class PointScore:
    """One value between the layers over all runs, the logarithms as means; see `run_values.PointValue`.

    ``error`` is the standard error of ``standardised`` where correlations were estimated, else 0.
    """

    point: Point
    trace: PointTrace | None
    standardised: float
    plain: float | None
    sensitivity: float | None
    error: float


@dataclass(frozen=True, slots=True)
class NamedScore:
    """Mean of one variant over the runs, and its standard error; None for a single run."""

    value: float
    standard_error: float | None


@dataclass(frozen=True)
class Score:
    """The score and its terms. The three figures are means over the runs."""

    runs: tuple[Run, ...]
    layers: tuple[LayerScore, ...]
    parameters: tuple[ParameterScore, ...]
    points: tuple[PointScore, ...]
    counted_layers: int
    counted_parameters: int

    @property
    def intrain(self) -> float:
        """Mean InTrain score over the runs."""
        return statistics.fmean(r.intrain for r in self.runs)

    @property
    def geometric_capacity(self) -> float:
        """Mean over the runs of the sum of log participation ratios, in nats."""
        return statistics.fmean(r.geometric_capacity for r in self.runs)

    @property
    def optimization_resilience(self) -> float:
        """Mean over the runs of the sum of gradient healths."""
        return statistics.fmean(r.optimization_resilience for r in self.runs)

    @property
    def std(self) -> float | None:
        """Sample standard deviation of the score over the runs; None for a single run."""
        return statistics.stdev(r.intrain for r in self.runs) if len(self.runs) > 1 else None

    @property
    def standard_error(self) -> float | None:
        """Standard error of the mean score; None for a single run."""
        return _standard_error([r.intrain for r in self.runs])

    @property
    def variants(self) -> dict[str, NamedScore]:
        """The variants by name."""
        by_name = {name: [r.variants[name] for r in self.runs] for name in self.runs[0].variants}
        return {
            name: NamedScore(statistics.fmean(values), _standard_error(values))
            for name, values in by_name.items()
        }

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Two-sided 95 % confidence interval of the mean score (Student's t); None for a single run."""
        if self.standard_error is None:
            return None
        from scipy.special import stdtrit  # noqa: PLC0415 - slow to load, and one run needs none

        half = float(stdtrit(len(self.runs) - 1, 0.975)) * self.standard_error
        return self.intrain - half, self.intrain + half


def _standard_error(values: Sequence[float]) -> float | None:
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else None


def gradient_health(gradient: GradientStatistics, eps: float = 0.0) -> float:
    """Gradient health std(g) / (max|g| + eps), in [0, 1]: how evenly a gradient is spread over its tensor.

    With the population standard deviation it cannot exceed 1. A constant or a zero gradient has health 0.
    Invariant to the scale of the loss if eps is 0. For a Gaussian gradient of n elements it is about
    1 / sqrt(2 ln n), so it falls with the size of the tensor. Source: arXiv 2606.18676.

    >>> gradient_health(GradientStatistics(std=0.5, max_abs=2.0, size=9))
    0.25
    """
    if gradient.max_abs == 0.0:
        return 0.0
    return min(1.0, gradient.std / (gradient.max_abs + eps))


def intrain(geometric_capacity: float, optimization_resilience: float, layers: int) -> float:
    """InTrain score: capacity * (1 + resilience) / log(layers + 1). Source: arXiv 2606.18676.

    Without a layer the score is 0, as its first factor is.
    """
    if layers < 1:
        return 0.0
    return geometric_capacity * (1.0 + optimization_resilience) / math.log(layers + 1)


def score(
    layers: LayerMap, traces: Sequence[Trace], config: ScoreConfig, points: Sequence[Point] = ()
) -> Score:
    """Score each run. The layers and tensors that count are the same for all runs.

    Args:
        layers: the static analysis.
        traces: one for each run.
        config: selects the layers and tensors that count, and eps.
        points: values that were measured between the layers.

    Raises:
        UnsupportedError: no canonical layer, none with a path to the loss, or none with two rows. A network
            whose layers have a path but are all dead scores 0.
    """
    statuses = {name: _parameter_status(name, slot, layers, traces) for name, slot in layers.slots.items()}
    layer_scores = tuple(_layer_score(layer, traces, statuses, config) for layer in layers.layers)
    counted = {s.layer.name for s in layer_scores if s.counted}
    if all(s.status in ("unreached", "not_run") for s in layer_scores):
        raise UnsupportedError(
            "no canonical layer (convolution, linear map, recurrence, embedding) has a path to the loss",
            hint="Look at `intrain-onnx inspect`: trees and fixed tables cannot be scored",
        )
    if counted and all(s.status == "too_few_rows" for s in layer_scores if s.counted):
        raise UnsupportedError(
            "no layer gave two rows, which a covariance needs",
            hint="Take a larger --batch, or a longer sequence with --input-shape",
        )
    weights = {w.name for s in layer_scores if s.counted for w in s.layer.weights}
    rows = _rows_of_weights(traces[0], layer_scores)
    parameters = tuple(
        _parameter_score(name, slot, traces, statuses[name], config, name in weights, rows.get(name))
        for name, slot in sorted(layers.slots.items(), key=lambda item: (item[1].depth, item[1].key))
    )
    names = [p.name for p in parameters if p.counted]
    runs = tuple(
        _run(
            trace,
            counted,
            names,
            statuses,
            config,
            _run_values(trace, layer_scores, statuses, points, config),
        )
        for trace in traces
    )
    between = tuple(_point_score(p, traces) for p in points)
    return Score(runs, layer_scores, parameters, between, len(counted), len(names))


def _run_values(
    trace: Trace,
    layers: Sequence[LayerScore],
    statuses: Mapping[str, ParameterStatus],
    points: Sequence[Point],
    config: ScoreConfig,
) -> run_values.RunValues:
    return run_values.RunValues(
        layers=tuple(_layer_value(s, trace) for s in layers),
        tensors=run_values.tensor_values(
            trace.gradients,
            {name: _health(gradient, statuses[name], eps=0.0) for name, gradient in trace.gradients.items()},
            _rows_of_weights(trace, layers),
        ),
        points=tuple(
            run_values.point_value(p, trace.points.get(p.value), trace.sensitivity(p.value)) for p in points
        ),
        kept=config.weights == "keep",
    )


def _layer_value(layer: LayerScore, trace: Trace) -> run_values.LayerValue:
    found = trace.layers.get(layer.layer.name)
    channels = found.channels if found else layer.layer.channels
    positions = _rows(trace, layer) / trace.samples
    return run_values.LayerValue(
        log_ratio=run_values.log_ratio(found),
        status=layer.status,
        channels=channels,
        positions=positions,
        log_corrected=run_values.log_corrected(found),
        kind=layer.layer.kind,
    )


def _rows(trace: Trace, layer: LayerScore) -> int:
    found = trace.layers.get(layer.layer.name)
    return found.rows if found else 0


def _rows_of_weights(trace: Trace, layers: Sequence[LayerScore]) -> dict[str, int]:
    """Rows of the outputs of live layers, by name of their weights."""
    live = (s for s in layers if run_values.is_live(s.status))
    return {w.name: _rows(trace, s) for s in live for w in s.layer.weights}


def _point_score(point: Point, traces: Sequence[Trace]) -> PointScore:
    found = [t.points.get(point.value) for t in traces]
    values = [
        run_values.point_value(point, trace, whole.sensitivity(point.value))
        for trace, whole in zip(found, traces, strict=True)
    ]
    plain = [v.plain for v in values if v.plain is not None]
    sensitivities = [v.sensitivity for v in values if v.sensitivity is not None]
    return PointScore(
        point,
        found[0],
        statistics.fmean(v.standardised for v in values),
        statistics.fmean(plain) if plain else None,
        statistics.fmean(sensitivities) if sensitivities else None,
        _error_of_mean([trace.error for trace in found if trace is not None]),
    )


def _error_of_mean(errors: Sequence[float]) -> float:
    """Standard error of the mean of independent estimates with these errors."""
    return math.hypot(*errors) / len(errors) if errors else 0.0


def _parameter_status(name: str, slot: Slot, layers: LayerMap, traces: Sequence[Trace]) -> ParameterStatus:
    gradients = [t.gradients[name] for t in traces if name in t.gradients]
    if not gradients:
        return "unreached"
    if all(g.max_abs == 0.0 for g in gradients):
        return "zero_gradient"
    layer = next((x for x in layers.layers if x.bias == name), None)
    if slot.role == "bias" and layer is not None:
        references = [
            max((t.gradients[w.name].max_abs for w in layer.weights if w.name in t.gradients), default=0.0)
            for t in traces
            if name in t.gradients
        ]
        if all(g.max_abs < NOISE_FLOOR * r for g, r in zip(gradients, references, strict=True)):
            return "round_off"
    return "measured"


def _layer_score(
    layer: Layer, traces: Sequence[Trace], statuses: Mapping[str, ParameterStatus], config: ScoreConfig
) -> LayerScore:
    found = [t.layers[layer.name] for t in traces if layer.name in t.layers]
    measured = [f.participation for f in found if f.participation is not None]
    ratios = [p.ratio for p in measured if p.ratio is not None]
    status = _layer_status(layer, bool(found), bool(measured), bool(ratios), statuses)
    counted = status != "not_run" and (not config.live_layers_only or status not in ("dead", "unreached"))
    corrected = [p.corrected for p in measured if p.corrected is not None]
    log_ratio = math.fsum(map(math.log, ratios)) / len(found) if found else None
    return LayerScore(
        layer=layer,
        trace=found[0] if found else None,
        ratio=math.exp(log_ratio) if ratios and log_ratio is not None else None,
        corrected=statistics.geometric_mean(corrected) if corrected else None,
        log_ratio=log_ratio,
        error=_error_of_mean([p.error for p in measured]),
        status=status,
        counted=counted,
    )


def _layer_status(
    layer: Layer, run: bool, measured: bool, varies: bool, statuses: Mapping[str, ParameterStatus]
) -> LayerStatus:
    if not run:
        return "not_run"
    weights = {statuses.get(w.name, "unreached") for w in layer.weights}
    if weights <= {"zero_gradient"}:
        return "dead"
    if weights <= {"unreached", "zero_gradient"}:
        return "unreached"
    if not measured:
        return "too_few_rows"
    return "measured" if varies else "collapsed"


def _parameter_score(
    name: str,
    slot: Slot,
    traces: Sequence[Trace],
    status: ParameterStatus,
    config: ScoreConfig,
    of_counted_layer: bool,
    rows: int | None,
) -> ParameterScore:
    gradients = [t.gradients[name] for t in traces if name in t.gradients]
    in_scope = config.health_over == "all" or of_counted_layer
    return ParameterScore(
        name=name,
        slot=slot,
        health=statistics.fmean(_health(g, status, config.eps) for g in gradients) if gradients else None,
        expected=expected_health(rows, gradients[0].size) if gradients and rows is not None else None,
        std=statistics.fmean(g.std for g in gradients) if gradients else None,
        max_abs=statistics.fmean(g.max_abs for g in gradients) if gradients else None,
        status=status,
        counted=in_scope and status != "unreached",
    )


def _health(gradient: GradientStatistics, status: ParameterStatus, eps: float) -> float:
    return 0.0 if status == "round_off" else gradient_health(gradient, eps)


def _run(
    trace: Trace,
    layers: set[str],
    parameters: Sequence[str],
    statuses: Mapping[str, ParameterStatus],
    config: ScoreConfig,
    found: run_values.RunValues,
) -> Run:
    ratios = [
        t.participation.ratio
        for name, t in trace.layers.items()
        if name in layers and t.participation is not None and t.participation.ratio is not None
    ]
    capacity = math.fsum(map(math.log, ratios))
    resilience = math.fsum(
        _health(trace.gradients[n], statuses[n], config.eps) for n in parameters if n in trace.gradients
    )
    return Run(
        trace.seed,
        intrain(capacity, resilience, len(layers)),
        capacity,
        resilience,
        all_of(found),
        found,
    )
