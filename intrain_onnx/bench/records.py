"""Benchmark results on disk: a header, then one JSON line per architecture, appended as it is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, field

from intrain_onnx import untrusted
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.log import Log, lines
from intrain_onnx.errors import SettingsError
from intrain_onnx.proxy_table import PROXIES
from intrain_onnx.report import rows
from intrain_onnx.report.document import number
from intrain_onnx.scores.run_values import LayerValue, PointValue, RunValues, TensorValue

FORMAT = "intrain-onnx bench 2"
_DIGITS = 9
_Value = TypeVar("_Value", LayerValue, TensorValue, PointValue)


class Settings(Struct, frozen=True):
    """Everything that determines the values of a benchmark.

    Attributes:
        tool: version of intrain-onnx.
        torch: version of torch.
        space: the search space, and for one of a user its version.
        size: height and width of the images.
        configs: one per protocol.
    """

    tool: str | None
    torch: str | None
    space: str
    size: int
    configs: tuple[ScoreConfig, ...]


class Header(Struct, frozen=True):
    """First line of a results file; its ``settings`` may be of another version."""

    format: str
    settings: Mapping[str, Any] = {}


class Factors(Struct, frozen=True):
    """Both factors of the paper's score, and the number of layers counted."""

    geometric_capacity: float
    optimization_resilience: float
    layers: int


class Proxy(rows.Proxy, frozen=True):
    """A zero-cost proxy as in the report, with its wall-clock time."""

    seconds: float


class Measured(Struct, frozen=True, kw_only=True):
    """Results for an architecture under one protocol.

    Attributes:
        error: None, which distinguishes it from `Failed`.
        seconds: wall-clock time of the score, without proxies.
        baselines: what a score has to beat, by name.
        score: the factors of the paper's score.
        scores: all named scores.
        proxies: the requested proxies, by name.
        values: rounded inputs of the score formulas; ``evidence`` on disk.
    """

    error: None = None
    seconds: float
    baselines: Mapping[str, int | float | None]
    score: Factors
    scores: Mapping[str, float]
    proxies: Mapping[str, Proxy]
    values: RunValues = field(name="evidence")


class Failed(Struct, frozen=True):
    """Why an architecture could not be scored under a protocol."""

    error: str


class Record(Struct, frozen=True):
    """One architecture, with the result of each protocol."""

    architecture: str
    protocols: Mapping[str, Measured | Failed]

    def measured(self, protocol: str) -> Measured | None:
        """The results under a protocol; None if scoring failed."""
        found = self.protocols[protocol]
        return found if isinstance(found, Measured) else None


class _Line(Struct):
    """A record whose results are not yet decoded as `Measured` or `Failed`."""

    architecture: str
    protocols: dict[str, msgspec.Raw]


class _Error(Struct):
    error: str | None


def rounded(values: RunValues) -> RunValues:
    """Values rounded to 9 significant digits, to keep the file small."""
    return msgspec.structs.replace(
        values,
        layers=tuple(map(_short, values.layers)),
        tensors=tuple(map(_short, values.tensors)),
        points=tuple(map(_short, values.points)),
    )


def _short(row: _Value) -> _Value:
    values = msgspec.structs.asdict(row).items()
    return msgspec.structs.replace(row, **{n: number(v, _DIGITS) for n, v in values if isinstance(v, float)})


def opened(path: Path, settings: Settings, *, resume: bool) -> Log:
    """A results file for appending; ``read`` gives the records that it has.

    Args:
        path: the file.
        settings: determine the values; must equal those in the file.
        resume: continue an existing file. An incomplete last line is dropped.

    Raises:
        SettingsError: results exist and ``resume`` is not set, they have other settings, or another run
            writes to them.
    """
    if resume and path.exists() and path.stat().st_size:
        read(path)  # one of another format, or with lines of another, is refused as that
    header = Header(FORMAT, as_stored(settings))
    return Log(path, msgspec.to_builtins(header), resume=resume, changes=_changes)


def as_stored(settings: Settings) -> dict[str, Any]:
    """The settings, without empty later fields: files of versions without them can be resumed."""
    told: dict[str, Any] = msgspec.to_builtins(settings)
    for config in told["configs"]:
        for later in ("inputs", "batch_axes", "max_macs", "max_memory", "projections"):
            if not config.get(later):
                config.pop(later, None)
    return told


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    was, now = before.get("settings", {}), after["settings"]
    keys = [k for k in sorted({*was, *now}) if was.get(k) != now.get(k)]
    return ", ".join(f"{k} was {was.get(k)!r}, is {now.get(k)!r}" for k in keys)[:400]


def row(record: Record) -> dict[str, Any]:
    """One record as JSON values, which are a line of the file."""
    made: dict[str, Any] = msgspec.to_builtins(record)
    return made


def read(path: Path) -> list[Record]:
    """The records of a file; an incomplete last line is ignored.

    Raises:
        SettingsError: not a results file.
    """
    try:
        found = lines(path)
        if msgspec.json.decode(next(found, ""), type=Header).format != FORMAT:
            raise SettingsError(
                f"{path} has another format, as another version wrote", hint="Name another place with -o"
            )
        records = [_record(text) for text in found]
        _require_alike(records)
        return records
    except (OSError, untrusted.UnreadableError, msgspec.DecodeError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"{path} holds no results of a benchmark: {reason}") from error


def _require_alike(records: Sequence[Record]) -> None:
    """Refuse records that cannot stand in one table."""
    protocols = {frozenset(record.protocols) for record in records}
    if len(protocols) > 1 or frozenset() in protocols:
        raise untrusted.UnreadableError("its lines are of other protocols")
    for protocol in next(iter(protocols), ()):
        found = [m for record in records if (m := record.measured(protocol)) is not None]
        if len({(frozenset(m.scores), frozenset(m.proxies)) for m in found}) > 1:
            raise untrusted.UnreadableError("its lines have other scores or proxies")
        if not {name for m in found for name in m.proxies} <= {*PROXIES}:
            raise untrusted.UnreadableError("it has a proxy that is not known")


def _record(text: str) -> Record:
    found = msgspec.json.decode(text, type=_Line)
    return Record(found.architecture, dict(_results(found)))


def _results(found: _Line) -> Iterator[tuple[str, Measured | Failed]]:
    for protocol, raw in found.protocols.items():
        if msgspec.json.decode(raw, type=_Error).error is not None:
            yield protocol, msgspec.json.decode(raw, type=Failed)
        else:
            yield protocol, msgspec.json.decode(raw, type=Measured)
