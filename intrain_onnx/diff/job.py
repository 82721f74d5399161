"""A comparison of two files as a job of an engine. No torch at import."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intrain_onnx.diff.rows import Document, Expected
from intrain_onnx.engine.outcomes import Tell
from intrain_onnx.failure import Failure
from intrain_onnx.jobs import LoadLibraries
from intrain_onnx.loading.limits import Limits


@dataclass(frozen=True, slots=True)
class DiffFiles:
    """Compares two files.

    Attributes:
        expected: what the second file is.
        thresholds: those that differ from the usual ones.
        scored: measure the scores of both.
        settings: of the runs, as ``ScoreConfig`` has them.
        limits: on what each file may take.
    """

    expected: Expected = "conversion"
    thresholds: Mapping[str, float] = field(default_factory=dict)
    scored: bool = True
    settings: Mapping[str, Any] = field(default_factory=dict)
    limits: Limits = field(default_factory=Limits)

    def __call__(self, item: tuple[Path, Path], tell: Tell) -> Document | Failure:
        """The comparison, or why there is none; tells each step and the share that is done."""
        first, second = item
        try:
            LoadLibraries(parity=False)(None, tell)
            from intrain_onnx.diff.run import DiffSettings, diff  # noqa: PLC0415 - torch

            settings = DiffSettings.of(
                expected=self.expected,
                thresholds=self.thresholds,
                scored=self.scored,
                limits=self.limits,
                **self.settings,
            )
            return diff(first, second, settings, lambda step, share: tell((step, share)))
        except Exception as error:
            return Failure.of(error)
