"""Charts of a model's evidence: activation ranges, dead channels, participation ratios."""

from __future__ import annotations

import math
from collections.abc import Sequence

from intrain_onnx.audit.checks.numerics import FLOAT16_MAX
from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.suspects import channels_of, layers_of
from intrain_onnx.errors import printable
from intrain_onnx.report.numbers import percent, quantity
from intrain_onnx.report.page.charts import Chart, Sample, scatter
from intrain_onnx.report.page.plots import LONGEST_NAME

_MOST = 200
"""Columns of a chart over nodes: of more nodes, the largest of each group of neighbours is shown."""


def charts(evidence: Evidence) -> list[Chart]:
    """The charts that have data."""
    made = [_ranges(evidence), _dead(evidence), _ratios(evidence)]
    return [chart for chart in made if chart is not None]


def _ranges(evidence: Evidence) -> Chart | None:
    """Largest magnitude of each activation, in graph order, against the end of float16."""
    values = evidence.ranges.values.values() if evidence.ranges is not None else ()
    found = [(i, v) for i, v in enumerate(values, start=1) if 0 < v.unmasked < math.inf]
    samples = [
        Sample(i, v.unmasked, f"{_name(v.node)} ({printable(v.op, 40)}): up to {quantity(v.unmasked)}")
        for i, v in found
    ]
    if not samples:
        return None
    most, missing = max(s.value for s in samples), len(values) - len(samples)
    left_out = f" {missing} are zero or not finite." if missing else ""
    return scatter(
        "Activation ranges",
        f"Largest magnitude of each activation in graph order, up to {quantity(most)}; float16 ends at 65504."
        + left_out,
        _largest(samples),
        log=True,
        line=[(samples[0].depth, FLOAT16_MAX), (samples[-1].depth, FLOAT16_MAX)],
        legend=[("dot", "activation"), ("trend", "float16 ends, 65504")],
        x_label="node, in graph order",
        y_label="largest magnitude",
    )


def _largest(samples: Sequence[Sample]) -> list[Sample]:
    size = math.ceil(len(samples) / _MOST)
    groups = [samples[i : i + size] for i in range(0, len(samples), size)]
    return [max(group, key=lambda s: s.value) for group in groups]


def _dead(evidence: Evidence) -> Chart | None:
    """Share of channels that are zero after the activation function, by depth of the layer."""
    depths = {layer.name: layer.depth for layer in layers_of(evidence.checkpoint)}
    found = [(depths[name], c) for name, c in channels_of(evidence).items() if name in depths and c.channels]
    samples = [
        Sample(
            depth,
            100 * c.zero / c.channels,
            f"{_name(c.layer)}: {c.zero} of {c.channels} after {printable(c.after, 40)}",
        )
        for depth, c in found
    ]
    most = max((c.zero / c.channels for _, c in found), default=0.0)
    return scatter(
        "Dead channels",
        f"Share of each layer's channels that are always zero on noise, at most {percent(most)}.",
        samples,
        top=100.0,
        legend=[("dot", "layer")],
        y_label="% of its channels",
    )


def _ratios(evidence: Evidence) -> Chart | None:
    """Participation ratio of each layer, and of the same one at initialisation."""
    initial = {layer.name: layer.participation_ratio for layer in layers_of(evidence.architecture)}
    samples = [
        Sample(
            layer.depth,
            layer.participation_ratio,
            _ratio_words(layer.name, layer.participation_ratio, first),
            first,
        )
        for layer in layers_of(evidence.checkpoint)
        if layer.participation_ratio is not None
        for first in (initial.get(layer.name),)
    ]
    return scatter(
        "Participation ratio",
        "Participation ratio of each layer's output against depth, beside that at initialisation.",
        samples,
        log=True,
        legend=[("dot", "as in the file"), ("limit", "at initialisation")],
        y_label="participation ratio, channels",
    )


def _ratio_words(name: str, ratio: float, first: float | None) -> str:
    beside = f", {quantity(first)} at initialisation" if first is not None else ""
    return f"{_name(name)}: {quantity(ratio)}{beside}"


def _name(name: str) -> str:
    return printable(name, LONGEST_NAME)
