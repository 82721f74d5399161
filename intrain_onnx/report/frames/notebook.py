"""What notebooks show of a result: a fragment of HTML, without style or script of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from intrain_onnx.errors import printable
from intrain_onnx.report.frames.table import Table

MOST_ROWS = 60
_LONGEST = 200


@dataclass(frozen=True)
class Card:
    """A title, values by name, remarks, and tables by title."""

    title: str
    values: Mapping[str, str] = field(default_factory=dict)
    remarks: Sequence[str] = ()
    tables: Mapping[str, Table] = field(default_factory=dict)


def shown(card: Card) -> str:
    """The fragment; every text is escaped, and tables are cut after ``MOST_ROWS`` rows."""
    from intrain_onnx.report.templates import filled  # noqa: PLC0415 - it loads jinja2

    tables = [
        (printable(title), list(map(printable, table.columns)), _rows(table), _left(table))
        for title, table in card.tables.items()
    ]
    values = [(printable(n), printable(v)) for n, v in card.values.items()]
    remarks = [printable(text, 400) for text in card.remarks]
    title = printable(card.title)
    return filled("notebook.html", title=title, values=values, remarks=remarks, tables=tables)


def _rows(table: Table) -> list[list[tuple[str, bool]]]:
    """Text of each cell, and whether it is a number."""
    rows = list(zip(*table.columns.values(), strict=True))[:MOST_ROWS]
    return [[(_text(v), isinstance(v, int | float) and not isinstance(v, bool)) for v in row] for row in rows]


def _left(table: Table) -> int:
    return max(len(next(iter(table.columns.values()), ())) - MOST_ROWS, 0)


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.5g}" if isinstance(value, float) else printable(value, _LONGEST)
