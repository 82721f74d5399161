"""The results of a search on disk: an append-only log by which a search is gone on with."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from intrain_onnx.engine.log import Log, decoded
from intrain_onnx.rank.results import changes
from intrain_onnx.search.rows import FORMAT, Evaluation, Lost

LOG = "results.jsonl"


@dataclass
class Logged:
    """What a log holds.

    Attributes:
        evaluations: by description.
        losses: how often each architecture took its process down.
    """

    evaluations: dict[str, Evaluation] = field(default_factory=dict)
    losses: Counter[str] = field(default_factory=Counter)


def opened(folder: Path, settings: Mapping[str, Any], *, resume: bool) -> Log:
    """The log of a folder for appending; `read` gives what it holds.

    Raises:
        SettingsError: see `Log`.
    """
    return Log(folder / LOG, {"format": FORMAT, "settings": settings}, resume=resume, changes=changes)


def read(folder: Path) -> Logged:
    """The evaluations of a log, and the losses.

    Raises:
        SettingsError: a line is neither.
    """
    found = Logged()
    for kind in decoded(folder / LOG, _Kind, "results of a search"):
        if kind.lost is not None:
            found.losses[kind.lost.architecture] += 1
        elif kind.evaluation is not None:
            found.evaluations[kind.evaluation.architecture] = kind.evaluation
    return found


class _Kind(msgspec.Struct):
    evaluation: Evaluation | None = None
    lost: Lost | None = None


def line_of(entry: Evaluation | Lost) -> dict[str, Any]:
    """The line of an evaluation or a loss."""
    return {"lost" if isinstance(entry, Lost) else "evaluation": msgspec.to_builtins(entry)}
