"""The lists of a report as tables: a row for each layer, parameter tensor, measured point or depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import UNSET, Struct

from intrain_onnx.errors import SettingsError, printable
from intrain_onnx.report.derived import layer_gradient, layer_health, relative_ratio
from intrain_onnx.report.frames.notebook import Card, shown
from intrain_onnx.report.frames.table import Table
from intrain_onnx.report.rows import Depth, Document, Inspected, InspectedLayer, Layer, Parameter, Point

Part = Literal["layers", "parameters", "points", "depth_profile"]
_ROWS: Final[Mapping[Part, type[Struct]]] = {
    "layers": Layer,
    "parameters": Parameter,
    "points": Point,
    "depth_profile": Depth,
}
PARTS: Final[tuple[Part, ...]] = tuple(_ROWS)
_LONGEST = 4096
"""Characters of a name: it comes from an untrusted file."""


def part(report: Document, name: Part) -> Table:
    """A list of the report; ``layers`` have the share of PR, and health and gradient of their weights, too.

    Raises:
        SettingsError: a report has no list of this name.
    """
    if name not in _ROWS:
        raise SettingsError(f"a report has no table {name!r}", hint=f"It has {', '.join(PARTS)}")
    made = columns(getattr(report, name), _ROWS[name])
    return Table(made | _of_layers(report) if name == "layers" else made)


def parts(reports: Sequence[Document], name: Part) -> Table:
    """The same list of several reports; ``model`` is the path of each row's."""
    made = [(report, part(report, name).columns) for report in reports]
    models = [
        printable(report.model.path or "", _LONGEST)
        for report, lists in made
        for _ in range(len(next(iter(lists.values()))))
    ]
    fields = part(reports[0], name).columns if reports else {}
    return Table({"model": models, **{f: [v for _, lists in made for v in lists[f]] for f in fields}})


def inspected(found: Inspected) -> Table:
    """The layers of an inspection."""
    return Table(columns(found.layers, InspectedLayer))


def columns(rows: Sequence[Struct], kind: type[Struct]) -> dict[str, list[Any]]:
    """The fields of rows, lists and texts as one cell each."""
    return {field: [_cell(getattr(row, field)) for row in rows] for field in kind.__struct_fields__}


_SHOWN: Final = (
    "depth", "label", "op", "weight_shape", "participation_ratio", "relative_participation_ratio",
    "gradient_health", "status",
)  # fmt: skip


def card(report: Document, title: str) -> str:
    """What a notebook shows of a report: its scores, what it warns of, and its layers."""
    scores = {name: _with_error(row.value, row.standard_error) for name, row in report.scores.items()}
    settings = report.settings
    values = {
        **scores,
        "parameters": f"{report.model.parameters:,}",
        "settings": f"{settings.protocol}, {settings.seeds} seeds, batch {settings.batch}",
    }
    layers = {**part(report, "layers").columns, "label": [x.label for x in report.layers]}
    told = [f"{w.code}: {w.message}" for w in report.warnings]
    table = Table({name: layers[name] for name in _SHOWN})
    return shown(Card(title, values, told, {f"{len(report.layers)} layers": table}))


def _with_error(value: float, error: float | None) -> str:
    return f"{value:.5g}" if error is None else f"{value:.5g} ± {error:.2g}"


def _of_layers(report: Document) -> dict[str, list[Any]]:
    parameters = {p.name: p for p in report.parameters}
    return {
        "relative_participation_ratio": [relative_ratio(x) for x in report.layers],
        "gradient_health": [layer_health(x, parameters) for x in report.layers],
        "gradient_std": [layer_gradient(x, parameters) for x in report.layers],
    }


def _cell(value: Any) -> Any:
    """A tuple of sizes as ``64x3x3``, one of names with spaces between them, other values as they are."""
    if value is UNSET:
        return None
    if isinstance(value, Mapping):
        return printable(" ".join(f"{k}={v}" for k, v in value.items()), _LONGEST)
    if isinstance(value, tuple):
        if all(isinstance(v, int) for v in value):
            return "x".join(map(str, value))
        if all(isinstance(v, tuple) for v in value):
            return " + ".join(map(_cell, value))
        return printable(" ".join(map(str, value)), _LONGEST)
    return printable(value, _LONGEST) if isinstance(value, str) else value
