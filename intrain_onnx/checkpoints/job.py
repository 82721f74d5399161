"""The measurement of a checkpoint as a job of an engine. No torch at import."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import msgspec

from intrain_onnx import memory
from intrain_onnx.checkpoints.rows import Step
from intrain_onnx.checkpoints.tasks import Task, failed
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.outcomes import Tell
from intrain_onnx.failure import Failure
from intrain_onnx.loading.limits import Limits


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
