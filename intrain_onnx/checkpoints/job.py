"""The measurement of a checkpoint as a job of an engine. No torch at import."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import msgspec

from intrain_onnx import memory
from intrain_onnx.checkpoints.rows import Error, Step
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.outcomes import Tell
from intrain_onnx.errors import path_text
from intrain_onnx.failure import Failure
from intrain_onnx.loading.limits import Limits


@dataclass(frozen=True, slots=True)
class Task:
    """A checkpoint to be measured.

    Attributes:
        path: of the file.
        step: of the training.
        sha256: of the file.
        first: the first checkpoint; None if it is this one.
        previous: the checkpoint before; None if there is none.
        previous_step: of that.
    """

    path: str
    step: int
    sha256: str | None = None
    first: str | None = None
    previous: str | None = None
    previous_step: int | None = None

    def row(self, **fields: Any) -> Step:
        """A row of this checkpoint."""
        paths = {name: getattr(self, name) for name in ("path", "first", "previous")}
        own = {name: path_text(path) if path is not None else None for name, path in paths.items()}
        kept = {name: getattr(self, name) for name in ("step", "sha256", "previous_step")}
        return Step(**{**own, **kept, **fields})


@dataclass(frozen=True, slots=True)
class MeasureCheckpoint:
    """Measures a checkpoint, and holds it against the first and the one before.

    Attributes:
        config: the settings, of the protocol ``checkpoint``.
        limits: on what a file may take.
    """

    config: ScoreConfig
    limits: Limits = field(default_factory=Limits)

    def __call__(self, task: Task, tell: Tell) -> Step:
        """The row of the checkpoint; a failure is a row too."""
        started = time.perf_counter()
        try:
            from intrain_onnx.checkpoints.measure import measured  # noqa: PLC0415 - torch

            memory.keep_imports()
            row = measured(task, self.config, self.limits, lambda step, share: tell((step, share)))
        except Exception as error:
            row = failed(task, Failure.of(error, task.path))
        return msgspec.structs.replace(row, seconds=round(time.perf_counter() - started, 3))


def failed(task: Task, failure: Failure) -> Step:
    """The row of a checkpoint without a score."""
    return task.row(status="failed", error=Error(failure.kind, failure.message, failure.exit_code))
