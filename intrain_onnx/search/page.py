"""A search as one self-contained HTML page: its course, the front, what was chosen, what failed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from intrain_onnx.errors import printable
from intrain_onnx.report.numbers import quantity, tally
from intrain_onnx.report.page.charts import Chart, cloud, course
from intrain_onnx.report.page.document import rendered
from intrain_onnx.report.page.shown import Cell, Pairs
from intrain_onnx.search.chosen import front, scored
from intrain_onnx.search.goals import Goals, Objective
from intrain_onnx.search.rows import Evaluation, Made

_TEXT = 200
MOST_FAILURES = 500


@dataclass(frozen=True, slots=True)
class Summary:
    """A search that ended, as the page and the terminal show it.

    Attributes:
        title: of the space.
        goals: objectives and budgets.
        settings: names and values.
        evaluations: in the order of the search.
        picked: what was chosen, best first.
        made: what was written of each.
        exhausted: no architecture was left.
    """

    title: str
    goals: Goals
    settings: Pairs
    evaluations: Sequence[Evaluation]
    picked: Sequence[Evaluation]
    made: Sequence[Made]
    exhausted: bool

    @property
    def headline(self) -> str:
        """How many were evaluated, for what."""
        wanted = ", ".join(map(str, self.goals.objectives))
        return f"{len(self.evaluations)} architectures of {self.title}, for {wanted}"

    def said(self) -> str:
        """What became of the evaluations, in one line."""
        failed = sum(e.row.status != "scored" for e in self.evaluations)
        parts = [f"{len(self.evaluations)} evaluations", f"{failed} without a score"]
        over = sum(e.rejected for e in self.evaluations)
        parts += [f"{over} were over a budget and not scored"] if self.goals.budgets else []
        parts += ["nothing was left to evaluate"] if self.exhausted else []
        return "; ".join(parts) + "."

    def columns(self) -> list[str]:
        """Of the table of what was chosen."""
        names = [o.name for o in self.goals.objectives]
        costs = [name for name in self.counted if name not in names]
        return ["", "architecture", *names, *costs, *(f"% of {n}" for n in self.goals.budgets), "onnxruntime"]

    @property
    def counted(self) -> list[str]:
        """Costs that the table shows: of the file where it was counted, and else of the scored network."""
        return ["macs", "params"]

    def cells(self) -> list[list[Cell]]:
        """Of the table of what was chosen, in the order of `columns`."""
        names = [o.name for o in self.goals.objectives]
        return [
            [
                (str(rank), float(rank)),
                (printable(found.architecture, _TEXT), None),
                *(_cell(found.value(name)) for name in names),
                *(_cell(file.costs.get(name)) for name in self.counted if name not in names),
                *(_share(file.costs.get(name), most) for name, most in self.goals.budgets.items()),
                (printable(file.error or file.onnxruntime, _TEXT), None),
            ]
            for rank, (found, file) in enumerate(zip(self.picked, self.made, strict=True), start=1)
        ]

    def failures(self) -> list[tuple[str, str, str]]:
        """Architecture, reason and message of what has no score."""
        return [
            (printable(e.architecture, _TEXT), e.row.error.kind, printable(e.row.error.message, 600))
            for e in self.evaluations
            if e.row.error is not None
        ]


def _cell(value: float | None) -> Cell:
    return (tally(value) if value is None or isinstance(value, int) else f"{value:.5g}"), value


def _share(cost: int | None, most: int) -> Cell:
    return ("", None) if cost is None else (f"{100 * cost / most:.2f}", cost / most)


@dataclass(frozen=True, slots=True)
class Shown:
    """What the page shows; all texts are safe to print."""

    title: str
    summary: str
    settings: Pairs
    charts: Sequence[Chart]
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    failures: Sequence[tuple[str, str, str]]
    left_out: int


def page(found: Summary) -> str:
    """One HTML document, self-contained and deterministic."""
    failures = found.failures()
    shown = Shown(
        title=printable(found.headline, _TEXT),
        summary=found.said(),
        settings=[(name, printable(value, _TEXT)) for name, value in found.settings],
        charts=[chart for chart in (_course(found), _plane(found)) if chart is not None],
        columns=found.columns(),
        rows=found.cells(),
        failures=failures[:MOST_FAILURES],
        left_out=max(len(failures) - MOST_FAILURES, 0),
    )
    return rendered("search.html", page=shown)


def _course(found: Summary) -> Chart | None:
    """The leading objective against the evaluations."""
    leading = found.goals.objectives[0]
    points = _values(found.evaluations, leading)
    best = list(accumulate((v for _, v, _ in points), max if leading.sign > 0 else min))
    words = f" from {quantity(best[0])} to {quantity(best[-1])}" if best else ""
    return course(
        f"{leading.name} against evaluations",
        f"{leading.name} of {len(points)} architectures in the order of the search; the best goes{words}.",
        points,
        best,
        leading.name,
    )


def _values(evaluations: Sequence[Evaluation], objective: Objective) -> list[tuple[int, float, str]]:
    values = ((e, e.value(objective.name)) for e in scored(evaluations, [objective]))
    return [
        (e.number, v, f"{e.number}: {printable(e.architecture, 80)}\n{objective.name} {quantity(v)}")
        for e, v in values
        if v is not None
    ]


def _plane(found: Summary) -> Chart | None:
    """Two objectives with their front, or the only one against what is counted and not filled to a budget."""
    leading, *others = found.goals.objectives
    across = "macs" if "params" in found.goals.budgets else "parameters"
    across = others[0].name if others else across
    have = [e for e in scored(found.evaluations, found.goals.objectives) if e.value(across)]
    at: Mapping[int, tuple[float, float]] = {
        e.number: (e.value(across) or 0.0, e.value(leading.name) or 0.0) for e in have
    }
    line: list[tuple[float, float]] = []
    if others:
        points = [[v or 0.0 for v in e.losses(found.goals.objectives)] for e in have]
        line = sorted(at[have[i].number] for i in front(points))
    return cloud(
        f"{leading.name} against {across}",
        f"{leading.name} of {len(have)} architectures against their {across}, on a logarithmic axis."
        + (f" {len(line)} are on the front." if line else ""),
        [
            (*at[e.number], f"{e.number}: {printable(e.architecture, 80)}\n{quantity(at[e.number][1])}")
            for e in have
        ],
        x_label=f"{across}, logarithmic",
        y_label=leading.name,
        line=line,
        legend=[("dot", "architecture"), *([("trend", "front")] if line else [])],
    )
