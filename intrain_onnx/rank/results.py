"""The results of a ranking on disk: an append-only log, and what was in it when a run begins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.log import Log, decoded
from intrain_onnx.rank.rows import FORMAT, Lost, Row
from intrain_onnx.versions import version

LOG = "results.jsonl"


@dataclass
class Found:
    """What a log holds.

    Attributes:
        rows: the last one of each model.
        losses: how often each model took its process down, by path and digest.
    """

    rows: dict[str, Row] = field(default_factory=dict)
    losses: Counter[tuple[str, str | None]] = field(default_factory=Counter)


def header(config: ScoreConfig) -> dict[str, Any]:
    """First line of the log: everything that determines the values."""
    return {"format": FORMAT, "settings": settings_of(config)}


def settings_of(config: ScoreConfig) -> dict[str, Any]:
    """The settings and versions on which measured values depend."""
    return {
        "tool": version("intrain-onnx"),
        "torch": version("torch"),
        "config": msgspec.to_builtins(config),
    }


def opened(folder: Path, config: ScoreConfig, *, resume: bool) -> Log:
    """The log of a folder for appending; `read` gives what it holds.

    Raises:
        SettingsError: see `Log`.
    """
    return Log(folder / LOG, header(config), resume=resume, changes=changes)


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """How the settings in the header of a log differ from others, in words."""
    was, now = (_flat(each.get("settings", {})) for each in (before, after))
    keys = [k for k in sorted({*was, *now}) if was.get(k) != now.get(k)]
    return ", ".join(f"{k} was {was.get(k)!r}, is {now.get(k)!r}" for k in keys)[:400]


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    config = settings.get("config")
    return {**settings, **config, "config": None} if isinstance(config, dict) else dict(settings)


def read(folder: Path) -> Found:
    """The rows of a log, and the losses of models without one.

    Raises:
        SettingsError: a line is neither.
    """
    found = Found()
    for kind in decoded(folder / LOG, _Kind, "results of a ranking"):
        if kind.lost is not None:
            found.losses[kind.lost.model, kind.lost.sha256] += 1
        elif kind.row is not None:
            found.rows[kind.row.model] = kind.row
    return found


class _Kind(msgspec.Struct):
    row: Row | None = None
    lost: Lost | None = None


def line_of(entry: Row | Lost) -> dict[str, Any]:
    """The line of a row or a loss."""
    return {"lost" if isinstance(entry, Lost) else "row": msgspec.to_builtins(entry)}
