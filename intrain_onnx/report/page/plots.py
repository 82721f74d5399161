"""The charts of a report: measurements against depth, with their titles and text alternatives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from intrain_onnx.report.derived import largest_ratio, layer_health
from intrain_onnx.report.numbers import power, quantity
from intrain_onnx.report.page import analysis
from intrain_onnx.report.page.charts import Chart, Sample, curves, scatter
from intrain_onnx.report.rows import Depth, Document, Layer, Parameter

LONGEST_NAME = 60
"""Characters of a layer name shown in a chart."""


def charts(report: Document, parameters: Mapping[str, Parameter]) -> list[Chart]:
    """The charts that have data; ``parameters`` maps the report's parameter names to rows."""
    made = [
        _ratios(report.layers),
        _healths(report.layers, parameters),
        _gradients(report.parameters),
        _sums(report.depth_profile),
    ]
    return [chart for chart in made if chart is not None]


def _ratios(layers: Sequence[Layer]) -> Chart | None:
    ratios = [
        Sample(
            x.depth,
            x.participation_ratio,
            f"{x.label[:LONGEST_NAME]}: {quantity(x.participation_ratio)} of {largest_ratio(x)}",
            float(largest_ratio(x)),
        )
        for x in layers
        if x.participation_ratio is not None
    ]
    return scatter(
        "Participation ratio",
        _range_words("Participation ratio of each layer", ratios),
        ratios,
        log=True,
        legend=[("dot", "layer"), ("limit", "largest possible")],
        y_label="participation ratio, channels",
    )


def _healths(layers: Sequence[Layer], parameters: Mapping[str, Parameter]) -> Chart | None:
    healths = [
        Sample(x.depth, health, f"{x.label[:LONGEST_NAME]}: {health:.3f}")
        for x in layers
        if (health := layer_health(x, parameters)) is not None
    ]
    return scatter(
        "Gradient health",
        _range_words("Gradient health of each layer's weights", healths),
        healths,
        legend=[("dot", "layer")],
        y_label="standard deviation / maximum",
    )


def _gradients(parameters: Sequence[Parameter]) -> Chart | None:
    gradients = [
        Sample(p.depth, std, f"{p.name[:LONGEST_NAME]}: {power(std)}")
        for p, std in analysis.weights_of(parameters)
    ]
    trend = analysis.gradient_trend(parameters)
    line = [(trend.first, 10**trend.start), (trend.last, 10**trend.end)] if trend else []
    return scatter(
        "Gradient size",
        _range_words("Standard deviation of each weight's gradient", gradients),
        gradients,
        log=True,
        line=line,
        legend=[("dot", "weight"), *([("trend", "trend")] if line else [])],
        y_label="standard deviation",
    )


def _sums(profile: Sequence[Depth]) -> Chart | None:
    if not profile:
        return None
    return curves(
        "Where the score comes from",
        "Cumulative log participation ratio and cumulative gradient health, in per cent of their totals, "
        f"from depth {profile[0].depth} to {profile[-1].depth}.",
        [p.depth for p in profile],
        [
            ("line a", "capacity", [p.cumulative_log_participation_ratio for p in profile]),
            ("line b", "resilience", [p.cumulative_health for p in profile]),
        ],
    )


def _range_words(what: str, samples: Sequence[Sample]) -> str:
    values = [s.value for s in samples]
    return f"{what} against depth, from {quantity(min(values))} to {quantity(max(values))}." if values else ""
