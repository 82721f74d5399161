"""A comparison of two files as one self-contained HTML page. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from intrain_onnx.diff.rows import Compared, Document, FindingRow, LayerRow, OutputRow, Side
from intrain_onnx.errors import printable
from intrain_onnx.report.numbers import count, decimal, percent, quantity
from intrain_onnx.report.page.charts import Chart, Sample, scatter
from intrain_onnx.report.page.document import rendered
from intrain_onnx.report.page.shown import Cell, Pairs

_TEXT = 200
_FEW = 3
"""Points below which a profile shows nothing."""

COLUMNS = (
    "depth", "layer", "in the second file", "weight, dB", "activation, dB", "correlation", "log PR",
    "log PR there", "health", "health there",
)  # fmt: skip


@dataclass(frozen=True)
class Shown:
    """What the page shows; all texts are safe to print.

    Attributes:
        findings: rule, place and message of each.
        sides: what is known of each file, under its letter.
        outputs: name and figures of each.
        charts: along depth.
        rows: cells in the order of ``COLUMNS``; the second says that a layer is gone, new or changed.
    """

    title: str
    passed: bool
    headline: str
    summary: str
    parts_at: str
    findings: Sequence[tuple[str, str, str]]
    sides: Sequence[tuple[str, Pairs]]
    outputs: Sequence[tuple[str, str]]
    charts: Sequence[Chart]
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    notes: Sequence[str]


def page(found: Document) -> str:
    """One HTML document, self-contained and deterministic."""
    return rendered("diff.html", page=_shown(found))


def _shown(found: Document) -> Shown:
    names = [printable(side.path.rsplit("/", 1)[-1], _TEXT) for side in (found.first, found.second)]
    many = len(found.findings)
    return Shown(
        title=f"{names[0]} and {names[1]}",
        passed=found.passed,
        headline="The same network" if found.passed else "Not the same network",
        summary=_summary(found) + ("" if found.passed else f" {many} finding{'s' if many > 1 else ''}."),
        parts_at=printable(found.parts_at, _TEXT) if found.parts_at is not None else "",
        findings=[_finding(row) for row in found.findings],
        sides=[("Reference", _side(found.first)), ("Second file", _side(found.second))],
        outputs=[(printable(o.first, _TEXT), _output(o)) for o in found.outputs],
        charts=charts(found.layers),
        columns=COLUMNS,
        rows=[_row(layer) for layer in found.layers],
        notes=[printable(note, 500) for note in found.notes],
    )


def _summary(found: Document) -> str:
    what = "a conversion" if found.expected == "conversion" else "a later checkpoint"
    fed = ", ".join(found.inputs.given)
    on = f"samples of {printable(fed, _TEXT)}" if fed else "samples of noise"
    told = f"both were run on {found.inputs.samples} {on}"
    return f"The second file is expected to be {what} of the reference; {told}."


def _finding(row: FindingRow) -> tuple[str, str, str]:
    return row.rule, printable(row.place, _TEXT) if row.place is not None else "", printable(row.message, 500)


def _side(side: Side) -> Pairs:
    facts = [
        ("File", printable(side.path, _TEXT)),
        ("Precision", ", ".join([side.precision, *side.quantisation])),
    ]
    facts += [("Parameters", count(side.parameters)), ("Layers", count(side.layers))]
    facts += [("InTrain", decimal(side.intrain))] if side.intrain is not None else []
    return [*facts, ("Producer", printable(side.producer or "not said", _TEXT))]


def _output(row: OutputRow) -> str:
    if row.difference is None:
        return row.unseen or "not compared"
    if row.difference.equal:
        return "equal"
    error = quantity(row.difference.relative_error)
    told = f"{_decibels(row.difference)} of signal to noise, relative error {error}"
    return told + (f", top class agrees in {percent(row.agreement)}" if row.agreement is not None else "")


def _decibels(difference: Compared | None) -> str:
    if difference is None:
        return "—"
    if difference.equal:
        return "equal"
    return f"{difference.snr_db:.1f} dB" if difference.snr_db is not None else "no signal"


def _row(layer: LayerRow) -> list[Cell]:
    weight = next((w.difference for w in layer.weights if w.role == "weight"), None)
    acts = layer.activation
    name, other = (printable(n, _TEXT) if n is not None else "—" for n in (layer.first, layer.second))
    status = "" if layer.status == "same" else f" ({layer.status})"
    return [
        (str(layer.depth), layer.depth),
        (name + status, None),
        (other if other != name else "same name", None),
        *((_decibels(d), d.snr_db if d is not None else None) for d in (weight, acts)),
        (f"{acts.correlation:.4f}", acts.correlation)
        if acts is not None and acts.correlation is not None
        else ("—", None),
        *((decimal(v), v) for v in (*layer.log_participation_ratio, *layer.health)),
    ]


def charts(layers: Sequence[LayerRow]) -> list[Chart]:
    """The profiles along depth that have data: errors of activations and of weights."""
    acts = [(x, x.activation) for x in layers if x.activation is not None]
    weights = [(x, w.difference) for x in layers for w in x.weights[:1] if w.difference is not None]
    made = [
        _errors("Error of the activations", "behind normalisation and activation function", acts),
        _errors("Error of the weights", "with what normalises the output folded in", weights),
        _correlations(acts),
    ]
    return [chart for chart in made if chart is not None]


def _errors(title: str, what: str, found: Sequence[tuple[LayerRow, Compared]]) -> Chart | None:
    samples = [
        Sample(x.depth, d.relative_error, f"{_name(x)}: {quantity(d.relative_error)}, {_decibels(d)}")
        for x, d in found
        if d.relative_error
    ]
    equal = sum(d.equal for _, d in found)
    told = f" {equal} of {len(found)} are equal." if equal else ""
    if len(samples) < _FEW:
        return None
    largest = quantity(max(s.value for s in samples))
    return scatter(
        title,
        f"Relative error of each layer along depth, {what}, up to {largest}.{told}",
        samples,
        log=True,
        y_label="relative error",
    )


def _correlations(found: Sequence[tuple[LayerRow, Compared]]) -> Chart | None:
    samples = [
        Sample(x.depth, max(d.correlation, 0.0), f"{_name(x)}: {d.correlation:.4f}")
        for x, d in found
        if d.correlation is not None
    ]
    if not samples or all(s.value > 0.999 for s in samples):
        return None
    least = min(s.value for s in samples)
    return scatter(
        "Correlation of the activations",
        f"Of each layer along depth, from {least:.2f}; negative ones are drawn at 0.",
        samples,
        top=1.0,
        y_label="correlation",
    )


def _name(layer: LayerRow) -> str:
    return printable(layer.first or layer.second or "", 60)
