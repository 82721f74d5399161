"""A user's own ONNX files as a space: the rows of a table of accuracies, and the file of each. No torch."""

from __future__ import annotations

import glob
import hashlib
import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from intrain_onnx import untrusted
from intrain_onnx.bench.spaces import Space, column
from intrain_onnx.errors import IntrainError, SettingsError

if TYPE_CHECKING:
    import onnx

COLUMN: Final = "model"
"""Column of a table that names the file, unless another is given."""

_ENDING = ".onnx"
_MARK = " sha256:"
_DIGITS = 16


@dataclass(frozen=True, slots=True)
class Matched:
    """Rows of a table with their files.

    Attributes:
        rows: those that have one.
        column: that names it.
        descriptions: of the models, by what the column has.
        without_model: what rows without a file have in the column.
        without_row: files that no row names.
    """

    rows: Sequence[Mapping[str, str]]
    column: str
    descriptions: Mapping[str, str]
    without_model: Sequence[str]
    without_row: Sequence[str]

    def describe(self, row: Mapping[str, str]) -> str:
        """The description of the model of a row."""
        return self.descriptions[column(row, self.column)]

    def said(self) -> list[str]:
        """A sentence for rows without a file, and one for files without a row."""
        pairs = ((self.without_model, "row", "a model"), (self.without_row, "model", "a row"))
        return [
            f"{len(names)} {what}{'s' if len(names) > 1 else ''} without {other}: {', '.join(names)}"
            for names, what, other in pairs
            if names
        ]


def files(patterns: Sequence[str]) -> list[str]:
    """The files of folders (searched in depth for ``*.onnx``), globs and paths, each once.

    Raises:
        SettingsError: one has none.
    """
    found: dict[str, str] = {}
    for pattern in patterns:
        listed = sorted(_listed(pattern))
        if not listed:
            raise SettingsError(
                f"--models {pattern!r} has no file", hint="Quote a glob such as 'nets/*.onnx'"
            )
        for path in listed:
            found.setdefault(os.path.realpath(path), path)
    return list(found.values())


def _listed(pattern: str) -> Iterator[str]:
    if os.path.isfile(pattern):  # a name may have the characters of a glob
        return iter([pattern])
    wanted = os.path.join(glob.escape(pattern), "**", f"*{_ENDING}") if os.path.isdir(pattern) else pattern
    return filter(os.path.isfile, glob.iglob(wanted, recursive=True))


def matched(rows: Sequence[Mapping[str, str]], paths: Sequence[str], name: str, folder: Path) -> Matched:
    """Find the file of each row: by its path, by the end of its path, or by its name without the ending.

    Args:
        rows: of the table.
        paths: of the models.
        name: column that names them.
        folder: of the table, from which paths may be relative.

    Raises:
        SettingsError: the column is missing, a name is that of several files, or two rows name one file.
    """
    if name not in rows[0]:
        listed = ", ".join(map(repr, rows[0]))
        raise SettingsError(
            f"the table has no column {name!r}", hint=f"It has {listed}: say which with --model-column"
        )
    finder = _Finder(paths, folder)
    owner: dict[str, int] = {}
    kept, descriptions, missing = [], {}, []
    for number, row in enumerate(rows, start=1):
        cell = (row.get(name) or "").strip()
        path = finder.find(cell) if cell else None
        if path is None:
            missing.append(cell or f"row {number}, which names none")
            continue
        if path in owner:
            raise SettingsError(f"rows {owner[path]} and {number} of the table are both of {path}")
        owner[path] = number
        kept.append(row)
        descriptions[cell] = described(path)
    return Matched(kept, name, descriptions, missing, [path for path in paths if path not in owner])


class _Finder:
    """Finds files by what a table calls them."""

    def __init__(self, paths: Sequence[str], folder: Path) -> None:
        self.folder = folder
        self.by_path = {os.path.realpath(path): path for path in paths}
        self.by_name: defaultdict[str, list[str]] = defaultdict(list)
        for path in paths:
            self.by_name[os.path.basename(path)].append(path)

    def find(self, cell: str) -> str | None:
        for path in (cell, self.folder / cell):
            if (found := self.by_path.get(os.path.realpath(path))) is not None:
                return found
        for wanted in (cell, cell + _ENDING):
            ends = [x for x in self.by_name[os.path.basename(wanted)] if f"/{x}".endswith(f"/{wanted}")]
            if len(ends) > 1:
                raise SettingsError(
                    f"{cell!r} is the name of {' and of '.join(ends)}", hint="Name the model by its path"
                )
            if ends:
                return ends[0]
        return None


def described(path: str) -> str:
    """The description of a model: its path, and the digest of what is in it."""
    return f"{path}{_MARK}{_digest(Path(path))[:_DIGITS]}"


def _digest(path: Path) -> str:
    """SHA-256 of a file and its external data; of one that cannot be read, of the reason."""
    from intrain_onnx.loading.load import external_locations  # noqa: PLC0415 - onnx is slow to load

    made = hashlib.sha256()
    try:
        for part in (path, *(path.parent / place for place in external_locations(path))):
            with untrusted.opened(part) as (stream, _):
                made.update(hashlib.file_digest(stream, "sha256").digest())
    except (OSError, untrusted.UnreadableError, IntrainError) as error:
        made.update(str(error).encode(errors="replace"))
    return made.hexdigest()


def path_of(description: str) -> str:
    """The path in a description."""
    return description.rpartition(_MARK)[0]


def build(description: str, *, fold: bool, size: int | None = None) -> onnx.ModelProto | str:
    """The file, as it is."""
    return path_of(description)


SPACE = Space(
    name="models",
    title="Models of one's own",
    describe=lambda row: described(column(row, COLUMN)),
    build=build,
)
"""Of any ONNX files. Sizes that a file leaves open are the setting's."""
