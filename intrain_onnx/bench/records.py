"""Results of a benchmark on disk: a header, then one JSON line an architecture, written as it is measured."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError
from intrain_onnx.report import rows
from intrain_onnx.report.document import number
from intrain_onnx.scores.run_values import LayerValue, PointValue, RunValues, TensorValue

FORMAT = "intrain-onnx bench 1"
_DIGITS = 9
_Value = TypeVar("_Value", LayerValue, TensorValue, PointValue)


class Settings(Struct, frozen=True):
    """All that decides the values of a benchmark.

    Attributes:
        tool: version of intrain-onnx.
        torch: version of torch.
        space: name of the search space.
        size: side of the images.
        configs: one a protocol.
    """

    tool: str | None
    torch: str | None
    space: str
    size: int
    configs: tuple[ScoreConfig, ...]


class Header(Struct, frozen=True):
    """The first line of a file of results; its ``settings`` may be those of another version."""

    format: str
    settings: Mapping[str, Any] = {}


class Size(Struct, frozen=True):
    """What the static pass counts in a model."""

    parameters: int
    macs: int | None
    canonical_layers: int


class Factors(Struct, frozen=True):
    """Both factors of the paper's score, and the layers that were counted."""

    geometric_capacity: float
    optimization_resilience: float
    layers: int


class Proxy(rows.Proxy, frozen=True):
    """Another zero-cost proxy as the report has it, and its wall-clock time."""

    seconds: float


class Measured(Struct, frozen=True, kw_only=True):
    """What was measured of an architecture under one protocol.

    Attributes:
        error: None, which tells it from `Failed`.
        seconds: wall-clock time of the score, proxies aside.
        model: its size.
        score: the factors of the paper's score.
        scores: every named score.
        proxies: those that were asked for, by name.
        values: what formulas of a score read, rounded; ``evidence`` on disk.
    """

    error: None = None
    seconds: float
    model: Size
    score: Factors
    scores: Mapping[str, float]
    proxies: Mapping[str, Proxy]
    values: RunValues = field(name="evidence")


class Failed(Struct, frozen=True):
    """Why an architecture has no score under a protocol."""

    error: str


class Record(Struct, frozen=True):
    """One architecture, with the result of each protocol."""

    architecture: str
    protocols: Mapping[str, Measured | Failed]

    def measured(self, protocol: str) -> Measured | None:
        """What was measured under a protocol; None where that failed."""
        found = self.protocols[protocol]
        return found if isinstance(found, Measured) else None


class _Line(Struct):
    """A record before it is known which of its results failed."""

    architecture: str
    protocols: dict[str, msgspec.Raw]


class _Error(Struct):
    error: str | None


def rounded(values: RunValues) -> RunValues:
    """To 9 digits, short enough to keep for thousands of architectures."""
    return RunValues(
        layers=tuple(map(_short, values.layers)),
        tensors=tuple(map(_short, values.tensors)),
        points=tuple(map(_short, values.points)),
    )


def _short(row: _Value) -> _Value:
    values = msgspec.structs.asdict(row).items()
    return msgspec.structs.replace(row, **{n: number(v, _DIGITS) for n, v in values if isinstance(v, float)})


def start(path: Path, settings: Settings, *, resume: bool) -> list[Record]:
    """Open a file of results; returns what is there already.

    Args:
        path: the file.
        settings: all that decides the values.
        resume: go on with the results that are there. A line that was cut off is dropped.

    Raises:
        SettingsError: there are results already and ``resume`` is not set, or they were made otherwise.
    """
    told = Header(FORMAT, as_stored(settings))
    header = json.dumps(msgspec.to_builtins(told), sort_keys=True)
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
        before, after = (msgspec.json.decode(text, type=Header).settings for text in (found, header))
        raise SettingsError(
            f"{path} was made with other settings: {_changes(before, after)}",
            hint="Name another place with -o",
        )
    lines = [header, *(line(record) for record in records)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return records


def as_stored(settings: Settings) -> dict[str, Any]:
    """The settings without given inputs where there are none: results of versions without them go on."""
    told: dict[str, Any] = msgspec.to_builtins(settings)
    for config in told["configs"]:
        if not config["inputs"]:
            del config["inputs"]
    return told


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    keys = [k for k in sorted({*before, *after}) if before.get(k) != after.get(k)]
    return ", ".join(f"{k} was {before.get(k)!r}, is {after.get(k)!r}" for k in keys)[:400]


def line(record: Record) -> str:
    """One record as strict JSON, without a line break."""
    return json.dumps(msgspec.to_builtins(record), allow_nan=False, ensure_ascii=False)


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
        if msgspec.json.decode(lines[0], type=Header).format != FORMAT:
            raise SettingsError(f"{path} has another format", hint="Name another place with -o")
        return [_record(text) for text in lines[1:-1]]
    except msgspec.DecodeError as error:
        raise SettingsError(f"{path} holds no results of a benchmark: {error}") from error


def _record(text: str) -> Record:
    found = msgspec.json.decode(text, type=_Line)
    return Record(found.architecture, dict(_results(found)))


def _results(found: _Line) -> Iterator[tuple[str, Measured | Failed]]:
    for protocol, raw in found.protocols.items():
        if msgspec.json.decode(raw, type=_Error).error is not None:
            yield protocol, msgspec.json.decode(raw, type=Failed)
        else:
            yield protocol, msgspec.json.decode(raw, type=Measured)
