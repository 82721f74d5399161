"""Scores a model of a ranking: the job that engines run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.outcomes import Tell
from intrain_onnx.failure import Failure
from intrain_onnx.loading.limits import Limits
from intrain_onnx.rank import rows
from intrain_onnx.rank.rows import Row
from intrain_onnx.rank.sources import is_address


@dataclass(frozen=True, slots=True)
class Task:
    """One model to be scored.

    Attributes:
        model: path or address.
        sha256: of the file; None for a remote one.
        given: other columns of its manifest.
    """

    model: str
    sha256: str | None
    given: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RankOne:
    """Scores a model file, or one of a remote store.

    Attributes:
        config: the settings.
        limits: on what a model may take.
        reports: folder for the JSON reports; None for none.
        cache: folder for remote files.
        cache_bytes: most that the cache holds.
    """

    config: ScoreConfig
    limits: Limits = field(default_factory=Limits)
    reports: Path | None = None
    cache: Path | None = None
    cache_bytes: int = 0

    def __call__(self, task: Task, tell: Tell) -> Row:
        """The row of the model; a failure is a row too."""
        from intrain_onnx.pipeline import score  # noqa: PLC0415 - torch
        from intrain_onnx.rank import remote  # noqa: PLC0415 - an extra

        memory.keep_imports()
        started, version = time.perf_counter(), None
        try:
            path = task.model
            if is_address(path):
                assert self.cache is not None
                path, version = remote.fetched(path, self.cache, self.cache_bytes)
            report = score(path, self.config, limits=self.limits)
            row = rows.of_report(task.model, task.given, report, time.perf_counter() - started)
            if self.reports is not None:
                report.save(self.reports / f"{row.sha256}.intrain.json")
        except Exception as error:
            row = rows.of_failure(task.model, task.given, Failure.of(error, task.model), task.sha256)
        return row if version is None else msgspec.structs.replace(row, source_version=version)
