"""Results of a benchmark on disk: a header, then one JSON line an architecture, written as it is measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from intrain_onnx.errors import SettingsError
from intrain_onnx.report.document import number
from intrain_onnx.scores.run_values import Evidence, LayerValue, PointValue, TensorValue

FORMAT = "intrain-onnx bench 1"

Record = dict[str, Any]
"""``architecture``, then by protocol what was measured of it, or why nothing was."""


def pack(evidence: Evidence) -> dict[str, Any]:
    """Evidence as lists, short enough to keep for thousands of architectures."""
    return {
        "layers": [_short(row) for row in evidence.layers],
        "tensors": [_short(row) for row in evidence.tensors],
        "points": [_short(row) for row in evidence.points],
    }


def unpack(data: Mapping[str, Any]) -> Evidence:
    """The inverse of `pack`, to 9 digits."""
    return Evidence(
        layers=tuple(LayerValue(*row) for row in data["layers"]),
        tensors=tuple(TensorValue(*row) for row in data["tensors"]),
        points=tuple(PointValue(*row) for row in data["points"]),
    )


def _short(row: LayerValue | TensorValue | PointValue) -> list[Any]:
    return [number(value, 9) if isinstance(value, float) else value for value in astuple(row)]


def start(path: Path, settings: Mapping[str, Any], *, resume: bool) -> list[Record]:
    """Open a file of results; returns what is there already.

    Args:
        path: the file.
        settings: all that decides the values.
        resume: go on with the results that are there. A line that was cut off is dropped.

    Raises:
        SettingsError: there are results already and ``resume`` is not set, or they were made otherwise.
    """
    header = json.dumps({"format": FORMAT, "settings": settings}, sort_keys=True)
    if not path.exists():
        path.write_text(header + "\n", encoding="utf-8")
        return []
    if not resume:
        raise SettingsError(
            f"{path} is there already", hint="Go on with --resume, or name another place with -o"
        )
    records = read(path)
    found = path.read_text(encoding="utf-8").partition("\n")[0]
    if found != header:
        changed = _changes(json.loads(found)["settings"], settings)
        raise SettingsError(
            f"{path} was made with other settings: {changed}", hint="Name another place with -o"
        )
    lines = [header, *(line(record) for record in records)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return records


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    after = json.loads(json.dumps(after))
    keys = [k for k in sorted({*before, *after}) if before.get(k) != after.get(k)]
    return ", ".join(f"{k} was {before.get(k)!r}, is {after.get(k)!r}" for k in keys)[:400]


def line(record: Record) -> str:
    """One record as strict JSON, without a line break."""
    return json.dumps(record, allow_nan=False, ensure_ascii=False)


def append(path: Path, record: Record) -> None:
    """Add one record."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(line(record) + "\n")


def read(path: Path) -> list[Record]:
    """The records of a file; a last line that was cut off is left out.

    Raises:
        SettingsError: not a file of results.
    """
    lines = path.read_text(encoding="utf-8").split("\n")
    try:
        if json.loads(lines[0])["format"] != FORMAT:
            raise SettingsError(f"{path} has another format", hint="Name another place with -o")
        return [json.loads(text) for text in lines[1:-1]]
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"{path} holds no results of a benchmark: {error}") from error
