"""Alarms of a series: what a checkpoint's values are against those of the checkpoints before it. No torch."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from intrain_onnx.checkpoints.rows import Alarm, LayerStep, Rule, Step
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading.module_paths import with_module
from intrain_onnx.report.numbers import percent, quantity

DEFAULTS: Mapping[str, float] = MappingProxyType(
    {"collapse": 0.1, "score": 0.5, "death": 0.25, "jump": 4.0, "gradient": 100.0, "window": 5}
)
"""Thresholds by name; docs/series.md says why they are as they are."""

_LEAST_DEAD = 2
"""Channels: the death of one of three is no quarter of a layer."""

_LEAST_CHANNELS = 2.0
"""Participation ratio from which a layer has something to lose."""

_LEAST_MOVE = 0.01
"""Relative distance of a step below which a layer stands still."""

_LOST = ("dead", "collapsed")
_ON_BATCH_STATISTICS = "untrained_batch_norm"
"""Warning of a checkpoint that was measured on another network than its file computes."""


def thresholds(changes: Mapping[str, float]) -> dict[str, float]:
    """The thresholds with changes.

    Raises:
        SettingsError: an unknown name, or a value that is no threshold.
    """
    unknown = sorted(set(changes) - set(DEFAULTS))
    if unknown:
        raise SettingsError(
            f"no threshold is called {', '.join(unknown)}", hint=f"They are {', '.join(DEFAULTS)}"
        )
    for name, value in changes.items():
        if not (math.isfinite(value) and value > 0):
            raise SettingsError(f"the threshold {name} is {value:g}", hint="It must be above 0")
    return {**DEFAULTS, **changes}


@dataclass
class _Past:
    """Values of earlier checkpoints; those under an alarm are left out, so that none becomes usual."""

    values: list[tuple[float, float]] = field(default_factory=list)
    in_alarm: bool = False

    def begins(self, passed: bool, value: float, beside: float = 0.0) -> bool:
        """Take in a value, ``beside`` another one; whether an alarm begins with it."""
        begins, self.in_alarm = passed and not self.in_alarm, passed
        if not passed:
            self.values.append((value, beside))
        return begins

    def last(self, window: float) -> list[tuple[float, float]]:
        """The values of the window; none before it is full, as all changes when a training begins."""
        return self.values[-int(window) :] if len(self.values) >= window else []


def alarms(steps: Iterable[Step], limits: Mapping[str, float]) -> list[Alarm]:
    """All alarms of checkpoints in the order of their steps, each told where it begins."""
    watch = _Watch(limits)
    return [alarm for row in steps for alarm in watch.look(row)]


class _Watch:
    def __init__(self, limits: Mapping[str, float]) -> None:
        self.limits = limits
        self.pasts: dict[tuple[str, str], _Past] = {}
        self.unsettled: set[str] = set()

    def look(self, row: Step) -> Iterator[Alarm]:
        """The alarms that begin with a checkpoint."""
        yield from self._not_finite(row)
        if row.status == "other":
            return
        yield from self._jumps(row)
        if row.status != "scored":
            return
        if _ON_BATCH_STATISTICS in row.warnings:
            self.unsettled.add(row.path)
            return
        yield from self._scores(row)
        yield from self._gradient(row)
        for layer in row.layers:
            yield from self._collapse(row, layer)
            yield from self._death(row, layer)

    def _past(self, rule: str, what: str) -> _Past:
        return self.pasts.setdefault((rule, what), _Past())

    def _told(
        self, rule: Rule, row: Step, layer: str | None, message: str, measured: float, usual: float | None
    ) -> Alarm:
        module = next((x.module for x in row.layers if x.name == layer), None)
        message = with_module(message, layer or "", module)
        return Alarm(rule, row.step, row.path, layer, message, measured, usual, self.limits.get(rule))

    def _not_finite(self, row: Step) -> Iterator[Alarm]:
        by_run = row.error is not None and row.error.kind == "NumericalError"
        count, past = row.not_finite, self._past("not-finite", "")
        if not past.begins(bool(count) or by_run, count):
            return
        where = next((x.name for x in row.layers if x.not_finite), None)
        message = f"{count} weights are NaN or infinite" if count else "an activation or gradient overflows"
        yield self._told("not-finite", row, where, message, count, None)

    def _scores(self, row: Step) -> Iterator[Alarm]:
        for name, value in (("InTrain", row.intrain), ("volume", row.volume)):
            if value is None:
                continue
            past = self._past("score", name)
            usual = _median(past.last(self.limits["window"]))
            passed = usual is not None and usual > 0 and value < self.limits["score"] * usual
            if past.begins(passed, value):
                message = f"{name} fell to {quantity(value)}, from {quantity(usual)}"
                yield self._told("score", row, None, message, value, usual)

    def _gradient(self, row: Step) -> Iterator[Alarm]:
        value, past = row.gradient_norm, self._past("gradient", "")
        if value is None:
            return
        usual = max((v for v, _ in past.last(self.limits["window"])), default=None)
        if past.begins(bool(usual) and value > self.limits["gradient"] * (usual or 0.0), value):
            message = f"the gradient norm rose to {quantity(value)}, {quantity(usual)} at most before"
            yield self._told("gradient", row, None, message, value, usual)

    def _collapse(self, row: Step, layer: LayerStep) -> Iterator[Alarm]:
        ratio = 1.0 if layer.status == "collapsed" else layer.participation_ratio
        if ratio is None:
            return
        past = self._past("collapse", layer.name)
        usual = _median(past.last(self.limits["window"]))
        could = usual is not None and usual >= _LEAST_CHANNELS
        passed = could and ratio - 1 < self.limits["collapse"] * ((usual or 0.0) - 1)
        if past.begins(passed, ratio):
            message = f"participation ratio fell to {quantity(ratio)}, from {quantity(usual)}"
            yield self._told("collapse", row, layer.name, message, ratio, usual)

    def _death(self, row: Step, layer: LayerStep) -> Iterator[Alarm]:
        """Against the least share of dead channels ever: channels that die one by one count too."""
        lost = layer.status in _LOST
        if layer.dead_channels is None and not lost:
            return
        dead = layer.dead_channels or 0
        share = 1.0 if lost else dead / max(layer.channels, 1)
        past = self._past("death", layer.name)
        least = min(past.values, default=None)
        rose = least is not None and share - least[0] >= self.limits["death"]
        passed = rose and (lost or dead - (least or (0.0, 0.0))[1] >= _LEAST_DEAD)
        if past.begins(passed, share, dead):
            usual = (least or (0.0, 0.0))[0]
            yield self._told("death", row, layer.name, _death_words(layer, usual), share, usual)

    def _jumps(self, row: Step) -> Iterator[Alarm]:
        if row.previous is None or row.previous_step is None or row.previous in self.unsettled:
            return
        interval = max(row.step - row.previous_step, 1)
        found = [(x.name, x.distance_to_previous) for x in row.layers]
        for name, distance in (("", row.distance_to_previous), *found):
            if distance is None:
                continue
            past = self._past("jump", name)
            usual = max((_for(interval, *v) for v in past.last(self.limits["window"])), default=None)
            far = distance > max(self.limits["jump"] * (usual or math.inf), _LEAST_MOVE)
            if past.begins(far, distance, interval):
                what = "its weights" if name else "all weights together"
                message = f"{what} moved by {_of_norm(distance)} their norm, {_of_norm(usual)} at most before"
                yield self._told("jump", row, name or None, message, distance, usual)


def _median(values: Sequence[tuple[float, float]]) -> float | None:
    return statistics.median(v for v, _ in values) if values else None


def _for(interval: float, distance: float, its_interval: float) -> float:
    """The most that a distance in another interval lets expect: a straight way, or that of a random walk."""
    ratio = interval / its_interval
    return distance * max(ratio, math.sqrt(ratio))


def _of_norm(distance: float | None) -> str:
    return f"{percent(distance)} of" if distance is None or distance < 10 else f"{quantity(distance)} times"


def _death_words(layer: LayerStep, usual: float) -> str:
    if layer.status == "dead":
        return "no gradient reaches its weights"
    if layer.status == "collapsed":
        return "its output does not vary"
    before = round(usual * layer.channels)
    return f"{layer.dead_channels} of {layer.channels} channels are always zero, {before} before"
