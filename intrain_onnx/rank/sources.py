"""Finds models: folders, globs, manifests, and addresses of remote stores."""

from __future__ import annotations

import csv
import glob
import io
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from intrain_onnx import untrusted
from intrain_onnx.errors import SettingsError

COLUMN = "model"
"""Column of a manifest that holds the path or the address of a model; all others are kept as they are."""

MANIFESTS = (".csv", ".jsonl", ".ndjson")
MODELS = (".onnx",)
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model to be scored.

    Attributes:
        model: path or address, as it is shown and stored.
        given: the other columns of its manifest.
    """

    model: str
    given: Mapping[str, str] = field(default_factory=dict)

    @property
    def remote(self) -> bool:
        """Whether it is an address of a store."""
        return is_address(self.model)


def is_address(text: str) -> bool:
    """Whether a text is an address such as ``s3://bucket/net.onnx`` rather than a path."""
    return _ADDRESS.match(text) is not None


def candidates(sources: Iterable[str]) -> list[Candidate]:
    """All models of the sources, each once: by path, those of a manifest in its order.

    Args:
        sources: folders (searched in depth for ``*.onnx``), files, globs, manifests (CSV with a header, or
            JSON Lines), addresses of files, folders (ending in ``/``) and globs in remote stores.

    Raises:
        SettingsError: a source does not exist, has no model, or is no manifest.
    """
    found: dict[str, Candidate] = {}
    for source in sources:
        before = len(found)
        empty = True
        for candidate in _of(source):
            empty = False
            found.setdefault(_key(candidate.model), candidate)
        if empty and len(found) == before:
            raise SettingsError(f"{source} holds no model", hint="Name a folder with *.onnx files")
    return list(found.values())


def _key(model: str) -> str:
    return model if is_address(model) else os.path.realpath(model)


def _of(source: str) -> Iterator[Candidate]:
    if is_address(source):
        from intrain_onnx.rank import remote  # noqa: PLC0415 - an extra

        yield from (Candidate(address) for address in remote.listed(source, MODELS))
    elif os.path.isdir(source):
        yield from map(Candidate, sorted(_below(source)))
    elif source.endswith(MANIFESTS):
        yield from _manifest(Path(source))
    elif os.path.lexists(source):
        yield Candidate(source)
    elif glob.has_magic(source):
        yield from (Candidate(path) for path in sorted(glob.glob(source, recursive=True)) if _is_model(path))
    else:
        raise SettingsError(f"{source} does not exist", hint="Name a folder, a file, a glob or a manifest")


def _is_model(path: str) -> bool:
    return not os.path.isdir(path) and not path.endswith(MANIFESTS)


def _below(folder: str) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (os.path.join(place, name) for name in files if name.endswith(MODELS))


def _manifest(path: Path) -> Iterator[Candidate]:
    try:
        rows = list(_csv(path) if path.suffix == ".csv" else _json_lines(path))
    except (OSError, csv.Error, ValueError, RecursionError) as error:
        raise SettingsError(
            f"{path} cannot be read: {error}", hint="See docs/rank.md for manifests"
        ) from None
    for number, row in enumerate(rows, start=1):
        model = row.pop(COLUMN, "")
        if not model:
            raise SettingsError(
                f"{path}: row {number} has no {COLUMN!r}", hint=f"Name the column of paths {COLUMN!r}"
            )
        yield Candidate(model if is_address(model) else os.path.join(path.parent, model), row)


def _csv(path: Path) -> Iterator[dict[str, str]]:
    for row in csv.DictReader(io.StringIO(_text(path), newline=""), restval="", restkey="more"):
        yield {str(n): value if isinstance(value, str) else ",".join(value) for n, value in row.items()}


def _json_lines(path: Path) -> Iterator[dict[str, str]]:
    for line in io.StringIO(_text(path)):
        if not line.strip():
            continue
        row = json.loads(line)
        if not isinstance(row, dict):
            raise ValueError(f"{line[:60]!r} is not an object")
        yield {n: value if isinstance(value, str) else json.dumps(value) for n, value in row.items()}


def _text(path: Path) -> str:
    return untrusted.text_of(path, untrusted.DOCUMENT_BYTES)
