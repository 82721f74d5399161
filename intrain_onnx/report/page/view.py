"""A report as the template shows it: every text made safe to show, every number made words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from intrain_onnx.errors import printable
from intrain_onnx.report.derived import (
    NOT_MEASURED,
    count,
    covered_share,
    file_labels,
    largest_ratio,
    layer_gradient,
    layer_health,
    relative_ratio,
)
from intrain_onnx.report.page import analysis, network, tables
from intrain_onnx.report.page.charts import Chart, Sample, curves, intervals, scatter
from intrain_onnx.report.page.numbers import decimal, percent, power, quantity, shape, span

Row = Mapping[str, Any]

BINS = 10
HEALTH_TOP = 0.5
"""Health of the last colour and above: the gradients of real tensors stay below it."""
_LOST = frozenset({"dead", "collapsed", "unreached", "not_run"})
_TEXT = 400
_IN_CHART = 60
_PARTS = (
    ("geometric_capacity", "Geometric capacity", "sum of log participation ratios, nats"),
    ("optimization_resilience", "Optimisation resilience", "sum of gradient healths"),
)
_VERDICTS = {
    "steady": "keep their size",
    "shrink": "shrink",
    "vanish": "vanish",
    "grow": "grow",
    "explode": "explode",
}


def clean(value: Any) -> Any:
    """A JSON value with every text in it, keys included, safe to show (see ``errors.printable``)."""
    if isinstance(value, str):
        return printable(value, _TEXT)
    if isinstance(value, Mapping):
        return {printable(k, _TEXT): clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    return value


def page(reports: Sequence[Row]) -> dict[str, Any]:
    """All that the template needs for these reports, best first."""
    cleaned = [clean(r) for r in reports]
    ordered = sorted(cleaned, key=lambda r: (-r["score"]["intrain"], str(r["model"]["path"])))
    labels = file_labels([r["model"]["path"] or "model in memory" for r in ordered])
    shown = [
        _report(f"r{i}", label, r) for i, (label, r) in enumerate(zip(labels, ordered, strict=True), start=1)
    ]
    return {
        "title": f"{labels[0]}: InTrain report" if len(shown) == 1 else f"{len(shown)} InTrain reports",
        "reports": shown,
        "ranking": _ranking(ordered, shown) if len(shown) > 1 else [],
        "different": analysis.different_settings(ordered),
        "bins": range(BINS),
        "health_top": HEALTH_TOP,
    }


def _ranking(ordered: Sequence[Row], shown: Sequence[Row]) -> list[dict[str, Any]]:
    drawn = intervals([_interval_row(r["score"], "intrain") for r in ordered], 200)
    return [
        {
            "rank": rank,
            "id": view["id"],
            "label": view["label"],
            "intrain": decimal(r["score"]["intrain"]),
            "whole": covered_share(r) == 1,
            "interval": span(analysis.interval(r["score"], "intrain")),
            "drawn": plot,
            "capacity": decimal(r["score"]["geometric_capacity"]),
            "resilience": decimal(r["score"]["optimization_resilience"]),
            "layers": r["score"]["layers"],
            "parameters": (count(r["model"]["parameters"]), r["model"]["parameters"]),
            "macs": (count(r["model"]["macs"]), r["model"]["macs"]),
            "warnings": len(r["warnings"]),
        }
        for rank, (r, view, plot) in enumerate(zip(ordered, shown, drawn, strict=True), start=1)
    ]


def _interval_row(score: Row, part: str) -> tuple[float, tuple[float, float] | None, list[float]]:
    return score[part], analysis.interval(score, part), [run[part] for run in score["runs"]]


def _report(identity: str, label: str, data: Row) -> dict[str, Any]:
    parameters = {p["name"]: p for p in data["parameters"]}
    layers = [_layer(f"{identity}-l{i}", x, parameters) for i, x in enumerate(data["layers"], start=1)]
    falls = analysis.bottlenecks(data["layers"])
    identities = {x["name"]: view["id"] for x, view in zip(data["layers"], layers, strict=True)}
    return {
        "id": identity,
        "label": label,
        "model": tables.model(data),
        "score": _score(data["score"]),
        "findings": _findings(data),
        "falls": [_fall(f, identities) for f in falls],
        "missing": _missing(data["layers"]),
        "charts": _charts(data, parameters),
        "lines": network.lines(layers),
        "layers": layers,
        "statuses": sorted({x["status"] for x in data["layers"]}),
        "extras": [
            (title, tables.generic(data[name]))
            for name, title in (("scores", "Scores by variant"), ("proxies", "Other zero-cost proxies"))
            if data.get(name)
        ],
        "facts": tables.facts(data),
        "warnings": data["warnings"],
    }


def _score(score: Row) -> dict[str, Any]:
    parts = []
    for key, name, meaning in (("intrain", "InTrain", ""), *_PARTS):
        [drawn] = intervals([_interval_row(score, key)])
        parts.append(
            {
                "name": name,
                "meaning": meaning,
                "value": decimal(score[key]),
                "interval": span(analysis.interval(score, key)),
                "drawn": drawn if len(score["runs"]) > 1 else None,
            }
        )
    return {
        "parts": parts,
        "runs": len(score["runs"]),
        "layers": score["layers"],
        "tensors": score["parameter_tensors"],
        "seeds": [
            (
                r["seed"],
                *(decimal(r[k]) for k in ("intrain", "geometric_capacity", "optimization_resilience")),
            )
            for r in score["runs"]
        ],
    }


def _bin(share: float | None) -> int | None:
    return None if share is None else min(int(share * BINS), BINS - 1)


def _layer(identity: str, x: Row, parameters: Mapping[str, Row]) -> dict[str, Any]:
    share = relative_ratio(x)
    health = layer_health(x, parameters)
    gradient = layer_gradient(x, parameters)
    ratio = x["participation_ratio"]
    return {
        "id": identity,
        "name": x["name"],
        "kind": x["kind"],
        "depth": x["depth"],
        "inputs": x.get("inputs", []),
        "status": x["status"],
        "meaning": NOT_MEASURED.get(x["status"], ""),
        "lost": x["status"] in _LOST,
        "counted": x["counted"],
        "ratio_bin": _bin(share),
        "health_bin": _bin(None if health is None else health / HEALTH_TOP),
        "label": _tile_label(x, share, health),
        "cells": [
            (x["op"], None),
            (shape(x["weight_shape"]), None),
            (decimal(ratio, 2), ratio),
            (str(largest_ratio(x)), largest_ratio(x)),
            (percent(share), share),
            (decimal(health, 3), health),
            (power(gradient), gradient),
            (count(x["macs"]) if x["macs"] is not None else "", x["macs"]),
        ],
    }


def _tile_label(x: Row, share: float | None, health: float | None) -> str:
    measured = f"participation ratio {quantity(x['participation_ratio'])} of {largest_ratio(x)}"
    words = [
        f"{x['name'][:_IN_CHART]}, {x['op']} at depth {x['depth']}",
        f"{measured}, {percent(share)}" if share is not None else x["status"].replace("_", " "),
        f"health {decimal(health, 2)}" if health is not None else "",
    ]
    return ", ".join(filter(None, words))


def _fall(fall: analysis.Fall, identities: Mapping[str, str]) -> dict[str, Any]:
    largest = largest_ratio(fall.layer)
    return {
        "id": identities[fall.layer["name"]],
        "name": fall.layer["name"],
        "depth": fall.layer["depth"],
        "ratio": f"{quantity(fall.before)} → {quantity(fall.after)}",
        "factor": f"÷ {quantity(fall.factor)}",
        "share": f"{percent(fall.before / fall.largest_before)} → {percent(fall.after / largest)}",
        "why": "narrower layer" if fall.narrows else "less of its width used",
    }


def _missing(layers: Sequence[Row]) -> list[tuple[str, str, list[str]]]:
    return [
        (status.replace("_", " "), meaning, names)
        for status, meaning in NOT_MEASURED.items()
        if (names := [x["name"] for x in layers if x["status"] == status])
    ]


def _findings(data: Row) -> list[tuple[str, str]]:
    """What a reader should know first, each ``good`` or ``bad`` or a plain ``note``."""
    found = []
    statuses = Counter(x["status"] for x in data["layers"])
    share = covered_share(data)
    if share < 1:
        found.append(
            ("bad", f"{percent(1 - share)} of the weights are in no layer, and so not in the score.")
        )
    for status, meaning in NOT_MEASURED.items():
        if statuses[status]:
            found.append(("bad", f"{statuses[status]} of {len(data['layers'])} layers {status} ({meaning})."))
    if statuses["measured"] == len(data["layers"]):
        found.append(("good", f"All {len(data['layers'])} layers were measured."))
    found.append(_trend_finding(data["parameters"]))
    reach = data["gradient_reach"]
    if reach["share"] < 1:
        stops = ", ".join(f"{s['op']} {s['node']}" for s in reach["stopped_by"][:3] if s["node"])
        by = f", stopped by {stops}" if stops else ""
        found.append(
            ("bad", f"No gradient reaches {percent(1 - reach['share'])} of the trainable elements{by}.")
        )
    else:
        found.append(("good", "The gradient reaches every trainable element."))
    parity = data["parity"]
    if parity is None:
        found.append(("note", "The converted model was not compared with onnxruntime."))
    elif parity["ok"] is None:
        found.append(("note", f"Not compared with onnxruntime: {parity['reason']}"))
    elif parity["ok"]:
        found.append(("good", f"Outputs agree with onnxruntime (relative {power(parity['max_rel_diff'])})."))
    else:
        found.append(("bad", f"Outputs differ from onnxruntime (relative {power(parity['max_rel_diff'])})."))
    return found


def _trend_finding(parameters: Sequence[Row]) -> tuple[str, str]:
    trend = analysis.gradient_trend(parameters)
    if trend is None:
        return "note", "Too few depths for a trend of the gradients."
    kind = {"steady": "good", "vanish": "bad", "explode": "bad"}.get(trend.verdict, "note")
    change = trend.change if trend.change >= 1 else 1 / trend.change
    size = f"{quantity(change)} times {'larger' if trend.change >= 1 else 'smaller'}"
    return kind, f"Gradients {_VERDICTS[trend.verdict]} from the output to the input: {size} at the input."


def _charts(data: Row, parameters: Mapping[str, Row]) -> list[Chart]:
    layers, weights = data["layers"], analysis.weights_of(data["parameters"])
    ratios = [
        Sample(
            x["depth"],
            x["participation_ratio"],
            f"{x['name'][:_IN_CHART]}: {quantity(x['participation_ratio'])} of {largest_ratio(x)}",
            float(largest_ratio(x)),
        )
        for x in layers
        if x["participation_ratio"] is not None
    ]
    healths = [
        Sample(x["depth"], h, f"{x['name'][:_IN_CHART]}: {h:.3f}")
        for x in layers
        if (h := layer_health(x, parameters)) is not None
    ]
    gradients = [
        Sample(p["depth"], p["grad_std"], f"{p['name'][:_IN_CHART]}: {power(p['grad_std'])}") for p in weights
    ]
    trend = analysis.gradient_trend(data["parameters"])
    line = [(trend.first, 10**trend.start), (trend.last, 10**trend.end)] if trend else []
    profile = data["depth_profile"]
    sums = curves(
        "Where the score comes from",
        "Cumulative log participation ratio and cumulative gradient health, in per cent of their totals, "
        f"from depth {profile[0]['depth']} to {profile[-1]['depth']}."
        if profile
        else "",
        [p["depth"] for p in profile],
        [
            ("line a", "capacity", [p["cumulative_log_participation_ratio"] for p in profile]),
            ("line b", "resilience", [p["cumulative_health"] for p in profile]),
        ],
    )
    made = [
        scatter(
            "Participation ratio",
            _range_words("Participation ratio of each layer", [s.value for s in ratios]),
            ratios,
            log=True,
            legend=[("dot", "layer"), ("limit", "largest possible")],
        ),
        scatter(
            "Gradient health",
            _range_words("Gradient health of each layer's weights", [s.value for s in healths]),
            healths,
            legend=[("dot", "layer")],
        ),
        scatter(
            "Gradient size",
            _range_words("Standard deviation of each weight's gradient", [g.value for g in gradients]),
            gradients,
            log=True,
            line=line,
            legend=[("dot", "weight"), *([("trend", "trend")] if line else [])],
        ),
        sums,
    ]
    return [c for c in made if c is not None]


def _range_words(what: str, values: Sequence[float]) -> str:
    return f"{what} against depth, from {quantity(min(values))} to {quantity(max(values))}." if values else ""
