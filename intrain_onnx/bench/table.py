"""Reads the table of accuracies of a benchmark. No torch."""

from __future__ import annotations

import csv
import gzip
import io
import random
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from intrain_onnx import untrusted
from intrain_onnx.bench.spaces import Space
from intrain_onnx.errors import SettingsError

Row = Mapping[str, str]

_MOST = 512 * untrusted.MEBIBYTE
"""Bytes of a table, unpacked: that of NAS-Bench-101 with its 423,000 rows is smaller."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An architecture and its accuracies by data set, losses negated; None if missing in the table."""

    architecture: str
    accuracies: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Condition:
    """A row filter: the cell equals a value, or contains it."""

    column: str
    value: str
    contains: bool

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Parse ``COLUMN=VALUE`` (equals) or ``COLUMN~PART`` (contains).

        Raises:
            SettingsError: it is neither.
        """
        for mark in sorted("=~", key=lambda m: text.find(m) % (len(text) + 1)):
            column, found, value = text.partition(mark)
            if found and column:
                return cls(column, value, mark == "~")
        raise SettingsError(f"--where {text!r} is neither COLUMN=VALUE nor COLUMN~PART")

    def __call__(self, row: Row) -> bool:
        """Whether a row is kept."""
        cell = row[self.column]
        return self.value in cell if self.contains else self.value == cell


def read(path: Path) -> list[Row]:
    """The rows of a CSV file, optionally gzip-compressed (``.gz``).

    Raises:
        SettingsError: it cannot be read, or it has no rows.
    """
    try:
        rows: list[Row] = list(csv.DictReader(io.StringIO(_text(path), newline="")))
    except (OSError, EOFError, zlib.error, untrusted.UnreadableError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{path} cannot be read as CSV: {reason}") from error
    if not rows:
        raise SettingsError(f"{path} has no rows")
    return rows


def _text(path: Path) -> str:
    if path.suffix != ".gz":
        return untrusted.text_of(path, _MOST)
    with untrusted.opened(path) as (file, _), gzip.GzipFile(fileobj=file) as unpacked:
        data = unpacked.read(_MOST + 1)
    if len(data) > _MOST:
        raise untrusted.UnreadableError(f"it unpacks to over {_MOST:,} bytes")
    return untrusted.decoded(data)


def renamed(rows: Sequence[Row], names: Mapping[str, str]) -> list[Row]:
    """The rows with columns under other names as well.

    Args:
        rows: of a table.
        names: what the table calls a column, by what the space calls it.

    Raises:
        SettingsError: the table has no such column.
    """
    require_columns(rows, names.values())
    return [{**row, **{ours: row[theirs] for ours, theirs in names.items()}} for row in rows]


def require_columns(rows: Sequence[Row], names: Iterable[str]) -> None:
    """Raise SettingsError if the table lacks one of the columns."""
    for name in names:
        if name not in rows[0]:
            raise SettingsError(f"the table has no column {name!r}", hint=_columns(rows))


def entries(
    rows: Sequence[Row],
    space: Space,
    *,
    where: Sequence[Condition] = (),
    sample: int | None = None,
    seed: int = 0,
) -> list[Entry]:
    """Distinct architectures of a table, shuffled by the seed.

    For equal seeds, a larger sample contains every smaller one.

    Raises:
        SettingsError: a column is missing, a row is not of the space, or no row is left.
    """
    require_columns(rows, (condition.column for condition in where))
    columns = {title: column for title, column in space.accuracies.items() if column in rows[0]}
    if not columns:
        wanted = ", ".join(map(repr, space.accuracies.values()))
        raise SettingsError(
            f"the table has none of the columns {wanted}",
            hint=f"{_columns(rows)}: say which with --accuracy-column",
        )
    kept = [row for row in rows if all(condition(row) for condition in where)]
    kept = [row for row in kept if space.keep is None or space.keep(row)]
    random.Random(seed).shuffle(kept)  # noqa: S311 - a sample, not a secret
    found: dict[str, Entry] = {}
    for row in kept:
        if sample is not None and len(found) == sample:
            break
        name = space.describe(row)
        found.setdefault(
            name, Entry(name, {t: _accuracy(row[c], c, t in space.losses) for t, c in columns.items()})
        )
    if not found:
        raise SettingsError("no row of the table is left", hint="Look at --where")
    return list(found.values())


def _columns(rows: Sequence[Row]) -> str:
    return f"It has {', '.join(map(repr, rows[0]))}"


def _accuracy(text: str, column: str, loss: bool) -> float | None:
    if not text:
        return None
    try:
        return -float(text) if loss else float(text)
    except ValueError:
        raise SettingsError(f"column {column!r} holds {text!r}, which is no accuracy") from None
