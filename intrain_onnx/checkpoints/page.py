"""A series of checkpoints as one self-contained HTML page. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from intrain_onnx.checkpoints.heat import Grid, Heat, dead, distance, health, heat, ratio
from intrain_onnx.checkpoints.rows import Alarm, Document, Rule, Step
from intrain_onnx.errors import printable
from intrain_onnx.report.derived import file_labels
from intrain_onnx.report.numbers import count, decimal, percent, quantity
from intrain_onnx.report.page.charts import Chart, Sample, scatter
from intrain_onnx.report.page.document import rendered
from intrain_onnx.report.page.shown import Cell, Pairs

_TEXT = 200
_MOST_ROWS = 2000
"""Checkpoints of the table."""

COLUMNS = (
    "step", "file", "InTrain", "volume", "gradient norm", "moved", "from the first", "dead", "cloned",
    "alarms",
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """What the page shows; all texts are safe to print.

    Attributes:
        alarms: step, rule, place and message of each.
        charts: of the network, against the step.
        heats: of the layers, by step.
        rows: cells in the order of ``COLUMNS``.
        failures: step, file and message of each without a score.
        settings: of the runs and the alarms.
    """

    title: str
    summary: str
    alarms: Sequence[tuple[int, str, str, str]]
    charts: Sequence[Chart]
    heats: Sequence[Heat]
    left_out: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    failures: Sequence[tuple[int, str, str]]
    settings: Pairs


def page(found: Document, title: str = "", beside: Sequence[Chart] = ()) -> str:
    """One HTML document, self-contained and deterministic.

    Args:
        found: the series.
        title: of the page; by default the number of checkpoints and their steps.
        beside: charts of what else is known of the training, such as its loss.
    """
    return rendered("series.html", page=_shown(found, title, beside))


def _shown(found: Document, title: str, beside: Sequence[Chart]) -> Shown:
    steps = found.steps
    grid = Grid.of(steps, [(a.step, a.layer) for a in found.alarms])
    return Shown(
        title=title or _title(steps),
        summary=_summary(found),
        alarms=[_alarm(alarm) for alarm in found.alarms],
        charts=[*charts(steps, sorted({alarm.step for alarm in found.alarms})), *beside],
        heats=_heats(grid, found.alarms),
        left_out=grid.left_out(steps),
        columns=COLUMNS,
        rows=_rows(steps[:_MOST_ROWS], found.alarms),
        failures=[
            (row.step, printable(row.path, _TEXT), printable(row.error.message, 600))
            for row in steps
            if row.error is not None
        ],
        settings=_settings(found),
    )


def _title(steps: Sequence[Step]) -> str:
    if not steps:
        return "No checkpoint"
    return f"{len(steps)} checkpoints, step {steps[0].step} to {steps[-1].step}"


def _summary(found: Document) -> str:
    scored = sum(row.status == "scored" for row in found.steps)
    many = len(found.alarms)
    told = f"{many} alarm{'s' if many != 1 else ''}" if many else "no alarm"
    return f"{scored} of {len(found.steps)} checkpoints have a score; {told}."


def _alarm(alarm: Alarm) -> tuple[int, str, str, str]:
    place = printable(alarm.layer, _TEXT) if alarm.layer is not None else ""
    return alarm.step, alarm.rule, place, printable(alarm.message, 500)


def charts(steps: Sequence[Step], marked: Sequence[int]) -> list[Chart]:
    """The charts of the whole network that have data; ``marked`` are the steps with alarms."""
    made = [
        chart("InTrain", "score under the protocol checkpoint", steps, marked, lambda r: r.intrain),
        chart("Volume", "score by which networks are ranked", steps, marked, lambda r: r.volume),
        chart("Gradient norm", "on random labels", steps, marked, lambda r: r.gradient_norm, log=True),
        _distances(steps, marked),
        chart("Dead channels", "always zero, of all layers", steps, marked, _dead_share, top=100.0),
    ]
    return [chart for chart in made if chart is not None]


def _dead_share(row: Step) -> float | None:
    known = [x for x in row.layers if x.dead_channels is not None]
    channels = sum(x.channels for x in known)
    return 100 * sum(x.dead_channels or 0 for x in known) / channels if channels else None


def chart(
    title: str,
    what: str,
    steps: Sequence[Step],
    marked: Sequence[int],
    value: Callable[[Step], float | None],
    *,
    log: bool = False,
    top: float | None = None,
) -> Chart | None:
    """A chart of one value of each checkpoint against the step; None where none has it.

    Args:
        title: of the chart.
        what: the axis.
        steps: the checkpoints.
        marked: steps with an upright line.
        value: of a checkpoint.
        log: logarithmic axis.
        top: upper end of an axis in per cent.
    """
    found = [(row, v) for row in steps if (v := value(row)) is not None and (v > 0 or not log)]
    if not found:
        return None
    low, high = (quantity(pick(v for _, v in found)) for pick in (min, max))
    return scatter(
        title,
        f"{title}, {what}, against the step, from {low} to {high}.",
        [Sample(row.step, v, f"{title} {quantity(v)}{' %' if top else ''}") for row, v in found],
        log=log,
        top=top,
        line=[(row.step, v) for row, v in found],
        legend=_legend(marked, ("dot", "checkpoint")),
        x_label="step",
        y_label=f"{what}, %" if top else what,
        marked=marked,
    )


def _distances(steps: Sequence[Step], marked: Sequence[int]) -> Chart | None:
    near = [(r, r.distance_to_previous) for r in steps if r.distance_to_previous is not None]
    far = [(r.step, 100 * r.distance_to_first) for r in steps if r.distance_to_first is not None]
    if not near:
        return None
    return scatter(
        "Distance of the weights",
        f"Relative distance of all weights, up to {quantity(max(v for _, v in far))} % from the first.",
        [
            Sample(
                row.step,
                100 * v,
                f"{percent(v)} from the checkpoint before\n{percent(row.distance_to_first)} from the first",
            )
            for row, v in near
        ],
        line=far,
        legend=_legend(marked, ("dot", "from the checkpoint before"), ("trend", "from the first")),
        x_label="step",
        y_label="% of their norm",
        marked=marked,
    )


def _legend(marked: Sequence[int], *own: tuple[str, str]) -> list[tuple[str, str]]:
    return [*own, *([("alarm", "alarm")] if marked else [])]


def _heats(grid: Grid, alarms: Sequence[Alarm]) -> list[Heat]:
    def of(*rules: Rule) -> dict[tuple[int, str], str]:
        return {(a.step, a.layer): printable(a.message, _TEXT) for a in alarms if a.rule in rules and a.layer}

    made = [
        heat("Participation ratio", grid, ratio, ("1", "all channels"), of("collapse")),
        heat("Dead channels", grid, dead, ("none", "all"), of("death")),
        heat(
            "Distance to the checkpoint before", grid, distance, ("0.1 %", "100 %"), of("jump", "not-finite")
        ),
        heat("Gradient health", grid, health, ("0", "0.5"), {}),
    ]
    return [one for one in made if one is not None]


def _rows(steps: Sequence[Step], alarms: Sequence[Alarm]) -> list[list[Cell]]:
    labels = file_labels([row.path for row in steps])
    told: dict[tuple[int, str], list[str]] = {}
    for alarm in alarms:
        told.setdefault((alarm.step, alarm.path), []).append(alarm.rule)
    return [
        [
            (str(row.step), row.step),
            (printable(label, _TEXT), None),
            *((decimal(v), v) for v in (row.intrain, row.volume)),
            (quantity(row.gradient_norm), row.gradient_norm),
            *((percent(v), v) for v in (row.distance_to_previous, row.distance_to_first)),
            *_counted(row),
            (words(told.get((row.step, row.path), [])), None),
        ]
        for row, label in zip(steps, labels, strict=True)
    ]


def _counted(row: Step) -> list[Cell]:
    cells: list[Cell] = []
    for name in ("dead_channels", "cloned_channels"):
        known = [v for x in row.layers if (v := getattr(x, name)) is not None]
        cells.append((str(sum(known)), sum(known)) if known else ("", None))
    return cells


def words(rules: Sequence[str]) -> str:
    """Names of rules, each once, with how often if more than once.

    >>> words(["jump", "death", "jump"])
    '2 jump, death'
    """
    counts = {rule: rules.count(rule) for rule in dict.fromkeys(rules)}
    return ", ".join(f"{n} {rule}" if n > 1 else rule for rule, n in counts.items())


def _settings(found: Document) -> Pairs:
    told = found.settings
    fed = ", ".join(told.inputs) or "noise"
    facts = [("Samples", f"{count(told.batch)} of {printable(fed, _TEXT)}"), ("Seed", str(told.seed))]
    facts += [("Runs", str(told.seeds)), ("intrain-onnx", found.tool.version or "")]
    return [*facts, *((f"Threshold {name}", f"{value:g}") for name, value in found.thresholds.items())]
