"""Scores an architecture, and writes a chosen one out: the jobs that engines run."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path

from intrain_onnx import memory
from intrain_onnx.bench.find_space import find
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.outcomes import Tell
from intrain_onnx.errors import printable
from intrain_onnx.failure import Failure
from intrain_onnx.loading.limits import Limits
from intrain_onnx.rank import rows
from intrain_onnx.rank.rows import Row
from intrain_onnx.search.candidates import Candidate
from intrain_onnx.search.rows import Made


@dataclass(frozen=True, slots=True)
class ScoreOne:
    """Scores an architecture by the same steps as a file.

    Attributes:
        space: reference of the space.
        size: of the images, or number of tokens.
        config: the settings.
        limits: on what an architecture may take.
    """

    space: str
    size: int
    config: ScoreConfig
    limits: Limits = field(default_factory=Limits)

    def __call__(self, candidate: Candidate, tell: Tell) -> Row:
        """The row of the architecture; a failure is a row too."""
        from intrain_onnx.pipeline import score  # noqa: PLC0415 - torch

        memory.keep_imports()
        started, name = time.perf_counter(), candidate.architecture
        try:
            fold = self.config.batch_norm == "fold"
            model = find(self.space).space.build(name, fold=fold, size=self.size)
            report = score(model, self.config, limits=self.limits)
            return rows.of_report(name, {}, report, time.perf_counter() - started)
        except Exception as error:
            return rows.of_failure(name, {}, Failure.of(error, name), None)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A chosen architecture, and the stem of its files."""

    architecture: str
    stem: str


@dataclass(frozen=True, slots=True)
class HandOver:
    """Writes a chosen architecture as ONNX with its BatchNorm, checks the file, and reports on it.

    Attributes:
        score: how it was scored; its report is at that size.
        counted_at: size of the images of the file.
        folder: for the files.
    """

    score: ScoreOne
    counted_at: int
    folder: Path

    def __call__(self, item: Chosen, tell: Tell) -> Made:
        """What was made; a failure is said in it."""
        made = Made()
        try:
            made = self._file(item)
            return self._report(item, made)
        except Exception as error:
            return _failed(made, error)

    def _file(self, item: Chosen) -> Made:
        from intrain_onnx.search.hand_over import write  # noqa: PLC0415 - torch

        space = find(self.score.space).space
        model = space.build(item.architecture, fold=False, size=self.counted_at)
        path = self.folder / f"{item.stem}.onnx"
        costs, told = write(model, path, self.counted_at, self.score.config)
        return Made(file=path.name, costs=costs, onnxruntime=told)

    def _report(self, item: Chosen, made: Made) -> Made:
        from intrain_onnx.pipeline import score  # noqa: PLC0415 - torch

        fold = self.score.config.batch_norm == "fold"
        model = find(self.score.space).space.build(item.architecture, fold=fold, size=self.score.size)
        path = self.folder / f"{item.stem}.intrain.json"
        score(model, self.score.config, limits=self.score.limits).save(path)
        return _with(made, report=path.name)


def _failed(made: Made, error: Exception) -> Made:
    return _with(made, error=printable(Failure.of(error).message, 400))


def _with(made: Made, **changes: str) -> Made:
    import msgspec  # noqa: PLC0415

    return msgspec.structs.replace(made, **changes)
