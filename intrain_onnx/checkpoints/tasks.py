"""A checkpoint to be measured, and its row. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from intrain_onnx.checkpoints.rows import Error, Step
from intrain_onnx.errors import path_text
from intrain_onnx.failure import Failure


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


def failed(task: Task, failure: Failure) -> Step:
    """The row of a checkpoint without a score."""
    return task.row(status="failed", error=Error(failure.kind, failure.message, failure.exit_code))
