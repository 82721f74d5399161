"""Inputs of the score formulas from a saved report, so that a new formula needs no new run."""

from __future__ import annotations

import math

from intrain_onnx.report.rows import Document
from intrain_onnx.scores.run_values import LayerValue, PointValue, RunValues, TensorValue


def saved_values(report: Document) -> RunValues:
    """Values of layers, parameters and points of a report, as means over its runs."""
    layers = tuple(LayerValue(x.log_participation_ratio or 0.0, x.status) for x in report.layers)
    live = {n for x, value in zip(report.layers, layers, strict=True) if value.live for n in x.weights}
    tensors = tuple(
        TensorValue(
            health=p.health,
            max_abs=p.grad_max_abs or 0.0,
            size=math.prod(p.shape),
            weight=p.name in live,
            live=p.health > 0.0,
        )
        for p in report.parameters
        if p.health is not None
    )
    points = tuple(
        PointValue(
            standardised=p.log_participation_ratio_standardised,
            plain=p.log_participation_ratio,
            read=p.read,
            join=p.join,
            cut=p.cut,
        )
        for p in report.points
    )
    return RunValues(layers, tensors, points)
