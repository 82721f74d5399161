"""Converts reports into the view models of the template: text sanitised, numbers formatted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET

from intrain_onnx.errors import printable
from intrain_onnx.report.comparison import different_settings
from intrain_onnx.report.context.inputs import in_words, mixed_inputs
from intrain_onnx.report.context.overlap import overlaps
from intrain_onnx.report.context.standing import in_words as standing_in_words
from intrain_onnx.report.decode import decode
from intrain_onnx.report.derived import (
    KINDS,
    MEASURED_ON,
    NOT_MEASURED,
    Figure,
    figures,
    file_labels,
    is_void,
    largest_ratio,
    layer_gradient,
    layer_health,
    leading,
    mixed_kinds,
    ranked,
    relative_ratio,
    value_of,
)
from intrain_onnx.report.document import Report
from intrain_onnx.report.numbers import count, decimal, percent, power, quantity, shape, span, tally
from intrain_onnx.report.page import analysis, network, plots, shown, tables
from intrain_onnx.report.page.beside import beside
from intrain_onnx.report.page.charts import intervals
from intrain_onnx.report.page.findings import findings
from intrain_onnx.report.rows import Document, Layer, Parameter, Score
from intrain_onnx.scores.baselines import BASELINES
from intrain_onnx.vocabulary import LEADING

BINS = 10
HEALTH_TOP = 0.5
"""Gradient health at which the colour scale ends: real tensors stay below it."""
_LOST = frozenset({"dead", "collapsed", "unreached", "not_run"})
_TEXT = 400
IntervalRow = tuple[float, tuple[float, float] | None, list[float]]
"""Mean, interval and runs of a score."""

_PARTS: tuple[tuple[Figure, str, str], ...] = (
    ("intrain", "InTrain", ""),
    ("geometric_capacity", "Geometric capacity", "sum of log participation ratios, nats"),
    ("optimization_resilience", "Optimisation resilience", "sum of gradient healths"),
)


def clean(value: Any) -> Any:
    """A JSON value with all texts, keys included, sanitised (see ``errors.printable``)."""
    if isinstance(value, str):
        return printable(value, _TEXT)
    if isinstance(value, Mapping):
        return {printable(k, _TEXT): clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(v) for v in value]
    return value


def page(reports: Sequence[Report]) -> shown.Page:
    """View model of the page for these reports, highest score first."""
    ordered = ranked(decode(clean(r.data)) for r in reports)
    labels = file_labels([r.model.path or "model in memory" for r in ordered])
    views = [
        _report(f"r{i}", label, r) for i, (label, r) in enumerate(zip(labels, ordered, strict=True), start=1)
    ]
    return shown.Page(
        title=f"{labels[0]}: InTrain report" if len(views) == 1 else f"{len(views)} InTrain reports",
        reports=views,
        ranking=_ranking(ordered, views) if len(views) > 1 else [],
        baselines=[baseline.title for baseline in BASELINES.values()],
        different=different_settings([r.settings for r in ordered]),
        mixed=mixed_kinds(ordered),
        beside=_beside(ordered, labels) if len(views) > 1 else None,
        spread=_spread(ordered),
    )


def _beside(ordered: Sequence[Document], labels: Sequence[str]) -> shown.Beside:
    names = dict.fromkeys(name for r in ordered for name in r.scores)
    return beside(
        LEADING,
        [
            (r.baselines.get("parameters"), leading(r), label)
            for r, label in zip(ordered, labels, strict=True)
        ],
        overlaps(names, len(ordered), lambda index, name: value_of(ordered[index], name)),
        mixed_inputs(in_words(r.settings.inputs_fed) for r in ordered),
    )


def _relative_rows(ordered: Sequence[Document]) -> list[IntervalRow | None]:
    """Of each report InTrain's interval and runs less the mean, in per cent of it; None for a single run.

    The means themselves are in the columns: on an axis that holds them all, no interval could be seen.
    """
    rows = [_interval_row(r.score, "intrain") for r in ordered]
    return [_relative(row) if row[1] is not None and row[0] else None for row in rows]


def _relative(row: IntervalRow) -> IntervalRow:
    mean, ci, runs = row
    low, high = ci or (mean, mean)

    def share(value: float) -> float:
        return 100 * (value / mean - 1)

    return 0.0, (share(low), share(high)), [share(run) for run in runs]


def _spread(ordered: Sequence[Document]) -> str:
    ends = [v for row in _relative_rows(ordered) if row is not None for v in (*(row[1] or ()), *row[2])]
    return f"{min(ends):.2g} % to +{max(ends):.2g} %" if ends else ""


def _ranking(ordered: Sequence[Document], views: Sequence[shown.Report]) -> list[shown.Ranked]:
    relative = _relative_rows(ordered)
    plots = iter(intervals([row for row in relative if row is not None], 200))
    return [
        shown.Ranked(
            rank=rank,
            id=view.id,
            label=view.label,
            leading=decimal(leading(r)),
            intrain=decimal(r.score.intrain),
            whole=r.coverage.share == 1,
            void=is_void(LEADING, leading(r)),
            interval=span(analysis.interval(r.score, "intrain")),
            drawn=None if row is None else next(plots),
            capacity=decimal(r.score.geometric_capacity),
            resilience=decimal(r.score.optimization_resilience),
            width_depth=decimal(r.scores["width_depth"].value if "width_depth" in r.scores else None),
            baselines=[(tally(value), value) for value in map(r.baselines.get, BASELINES)],
            warnings=len(r.warnings),
        )
        for rank, (r, view, row) in enumerate(zip(ordered, views, relative, strict=True), start=1)
    ]


def _interval_row(score: Score, part: Figure) -> IntervalRow:
    return figures(score)[part], analysis.interval(score, part), [figures(run)[part] for run in score.runs]


def _report(identity: str, label: str, report: Document) -> shown.Report:
    parameters = {p.name: p for p in report.parameters}
    layers = [_layer(f"{identity}-l{i}", x, parameters) for i, x in enumerate(report.layers, start=1)]
    identities = {x.name: x.id for x in layers}
    return shown.Report(
        id=identity,
        label=label,
        model=tables.model(report),
        score=_score(report),
        findings=findings(report),
        falls=[_fall(f, identities) for f in analysis.bottlenecks(report.layers)],
        missing=_missing(report.layers),
        charts=plots.charts(report, parameters),
        lines=network.lines(layers),
        layers=layers,
        statuses=sorted({x.status for x in report.layers}),
        extras=[
            ("Scores by variant", tables.scores(report.scores)),
            *([("To beat", tables.baselines(report.baselines))] if report.baselines else []),
            *([("Other zero-cost proxies", tables.proxies(report.proxies))] if report.proxies else []),
        ],
        facts=tables.facts(report),
        warnings=report.warnings,
    )


def _score(report: Document) -> shown.Score:
    score = report.score
    several = len(score.runs) > 1
    return shown.Score(
        parts=[
            *_leading(report),
            *(
                shown.Part(
                    name=name,
                    meaning=meaning,
                    value=decimal(figures(score)[part]),
                    interval=span(analysis.interval(score, part)),
                    drawn=intervals([_interval_row(score, part)])[0] if several else None,
                )
                for part, name, meaning in _PARTS
            ),
        ],
        runs=len(score.runs),
        layers=score.layers,
        tensors=score.parameter_tensors,
        seeds=[[str(run.seed), *map(decimal, figures(run).values())] for run in score.runs],
    )


def _leading(report: Document) -> list[shown.Part]:
    """The card of the score by which networks are ranked; none in reports of versions without it."""
    found = report.scores.get(LEADING)
    if found is None:
        return []
    error = "" if found.standard_error is None else f"standard error {quantity(found.standard_error)}; "
    twin = "" if found.static is None else f"by counting alone {decimal(found.static)}"
    kind = "" if report.kind is None else f"; a {KINDS[report.kind]}"
    known = MEASURED_ON.get(report.kind, "") if report.kind is not None else ""
    where = (
        "" if report.standing is None else f"; among reference networks: {standing_in_words(report.standing)}"
    )
    meaning = f"{error}{twin}{kind}{'; ' if known else ''}{known}{where}"
    return [shown.Part(name=LEADING, meaning=meaning, value=decimal(found.value), interval="", drawn=None)]


def _bin(share: float | None) -> int | None:
    return None if share is None else min(int(share * BINS), BINS - 1)


def _layer(identity: str, x: Layer, parameters: Mapping[str, Parameter]) -> shown.Layer:
    share = relative_ratio(x)
    health = layer_health(x, parameters)
    gradient = layer_gradient(x, parameters)
    ratio = x.participation_ratio
    return shown.Layer(
        id=identity,
        name=x.name,
        module=x.label,
        depth=x.depth,
        inputs=() if x.inputs is UNSET else x.inputs,
        kind=x.kind,
        status=x.status,
        meaning=NOT_MEASURED.get(x.status, ""),
        lost=x.status in _LOST,
        counted=x.counted,
        ratio_bin=_bin(share),
        health_bin=_bin(None if health is None else health / HEALTH_TOP),
        label=_tile_label(x, share, health),
        cells=[
            (x.op, None),
            (shape(x.weight_shape), None),
            (decimal(ratio, 2), ratio),
            (str(largest_ratio(x)), largest_ratio(x)),
            (percent(share), share),
            (decimal(health, 3), health),
            (power(gradient), gradient),
            (count(x.macs) if x.macs is not None else "", x.macs),
        ],
    )


def _tile_label(x: Layer, share: float | None, health: float | None) -> str:
    measured = f"participation ratio {quantity(x.participation_ratio)} of {largest_ratio(x)}"
    words = [
        f"{x.label[: plots.LONGEST_NAME]}, {x.op} at depth {x.depth}",
        f"{measured}, {percent(share)}" if share is not None else x.status.replace("_", " "),
        f"health {decimal(health, 2)}" if health is not None else "",
    ]
    return ", ".join(filter(None, words))


def _fall(fall: analysis.Fall, identities: Mapping[str, str]) -> shown.Fall:
    largest = largest_ratio(fall.layer)
    return shown.Fall(
        id=identities[fall.layer.name],
        name=fall.layer.label,
        depth=fall.layer.depth,
        ratio=f"{quantity(fall.before)} → {quantity(fall.after)}",
        factor=f"÷ {quantity(fall.factor)}",
        share=f"{percent(fall.before / fall.largest_before)} → {percent(fall.after / largest)}",
        why="narrower layer" if fall.narrows else "less of its width used",
    )


def _missing(layers: Sequence[Layer]) -> list[tuple[str, str, list[str]]]:
    return [
        (status.replace("_", " "), meaning, names)
        for status, meaning in NOT_MEASURED.items()
        if (names := [x.label for x in layers if x.status == status])
    ]
