"""Inputs of the score formulas from a saved report, so that a new formula needs no new run."""

from __future__ import annotations

import math

from intrain_onnx.report.rows import Document, Layer, Parameter, Point
from intrain_onnx.scores.run_values import LayerValue, PointValue, RunValues, TensorValue


def saved_values(report: Document) -> RunValues:
    """Values of layers, parameters and points of a report, as means over its runs."""
    layers = tuple(_layer(x, report.settings.samples) for x in report.layers)
    live = {n for x, value in zip(report.layers, layers, strict=True) if value.live for n in x.weights}
    return RunValues(
        layers=layers,
        tensors=tuple(
            _tensor(p, p.health, p.name in live) for p in report.parameters if p.health is not None
        ),
        points=tuple(map(_point, report.points)),
        kept=report.settings.weights == "keep",
    )


def _layer(x: Layer, samples: int) -> LayerValue:
    corrected = x.participation_ratio_corrected or x.participation_ratio
    return LayerValue(
        log_ratio=x.log_participation_ratio or 0.0,
        status=x.status,
        channels=x.channels,
        positions=(x.rows or 0) / samples,
        log_corrected=math.log(corrected) if corrected else 0.0,
        kind=x.kind,
    )


def _tensor(p: Parameter, health: float, weight: bool) -> TensorValue:
    return TensorValue(
        health=health,
        max_abs=p.grad_max_abs or 0.0,
        size=math.prod(p.shape),
        weight=weight,
        live=health > 0.0,
        expected=p.expected_health or 0.0,
    )


def _point(p: Point) -> PointValue:
    return PointValue(
        standardised=p.log_participation_ratio_standardised,
        plain=p.log_participation_ratio,
        read=p.read,
        join=p.join,
        cut=p.cut,
        channels=p.channels or 0,
        sensitivity=p.log_sensitivity,
        states=p.states,
    )
