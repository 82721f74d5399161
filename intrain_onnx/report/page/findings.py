"""Headline findings of a report: coverage, layer statuses, gradient trend and reach, parity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from intrain_onnx.report.derived import NOT_MEASURED, along_depth
from intrain_onnx.report.numbers import percent, power, quantity
from intrain_onnx.report.page import analysis
from intrain_onnx.report.rows import Document, GradientAlongDepth, GradientReach, Layer, Parameter, Parity

Finding = tuple[str, str]
"""Class (``good``, ``bad`` or ``note``) and text."""

_VERDICTS = {
    "steady": "keep their size",
    "shrink": "shrink",
    "vanish": "vanish",
    "grow": "grow",
    "explode": "explode",
}


def findings(report: Document) -> list[Finding]:
    """Findings of one report, most important first."""
    share = report.coverage.share
    left_out = f"{percent(1 - share)} of the weights are in no layer, and so not in the score."
    return [
        *([("bad", left_out)] if share < 1 else []),
        *_of_layers(report.layers),
        *_along_depth(report.gradient, report.layers),
        _of_gradients(report.parameters),
        _of_reach(report.gradient_reach),
        _of_parity(report.parity),
    ]


def _of_layers(layers: Sequence[Layer]) -> Iterator[Finding]:
    statuses = Counter(x.status for x in layers)
    for status, meaning in NOT_MEASURED.items():
        if statuses[status]:
            yield "bad", f"{statuses[status]} of {len(layers)} layers {status} ({meaning})."
    if statuses["measured"] == len(layers):
        yield "good", f"All {len(layers)} layers were measured."


def _along_depth(row: GradientAlongDepth | None, layers: Sequence[Layer]) -> Iterator[Finding]:
    if row is not None and row.log_sensitivity is not None:
        words = along_depth(row, max((x.depth for x in layers), default=0))
        yield "good" if row.direction == "even" else "bad", f"The gradient along depth: {words}."


def _of_gradients(parameters: Sequence[Parameter]) -> Finding:
    trend = analysis.gradient_trend(parameters)
    if trend is None:
        return "note", "Too few depths for a trend of the gradients."
    kind = {"steady": "good", "vanish": "bad", "explode": "bad"}.get(trend.verdict, "note")
    change = trend.change if trend.change >= 1 else 1 / trend.change
    size = f"{quantity(change)} times {'larger' if trend.change >= 1 else 'smaller'}"
    return kind, f"Gradients {_VERDICTS[trend.verdict]} from the output to the input: {size} at the input."


def _of_reach(reach: GradientReach) -> Finding:
    if reach.share == 1:
        return "good", "The gradient reaches every trainable element."
    stops = ", ".join(f"{s.op} {s.node}" for s in reach.stopped_by[:3] if s.node)
    by = f", stopped by {stops}" if stops else ""
    return "bad", f"No gradient reaches {percent(1 - reach.share)} of the trainable elements{by}."


def _of_parity(parity: Parity | None) -> Finding:
    if parity is None:
        return "note", "The converted model was not compared with onnxruntime."
    if parity.ok is None:
        return "note", f"Not compared with onnxruntime: {parity.reason}"
    how, kind = ("agree with", "good") if parity.ok else ("differ from", "bad")
    return kind, f"Outputs {how} onnxruntime (relative {power(parity.max_rel_diff)})."
