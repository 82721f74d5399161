"""Measures checkpoints one after the other; each row is on disk before the next is measured. No torch."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, nullcontext
from pathlib import Path

from intrain_onnx.checkpoints import alarms, results
from intrain_onnx.checkpoints.arrivals import Arrivals
from intrain_onnx.checkpoints.job import MeasureCheckpoint
from intrain_onnx.checkpoints.rows import Document, Step
from intrain_onnx.checkpoints.steps import arrived, numbered
from intrain_onnx.checkpoints.tasks import Task, failed
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.log import Log
from intrain_onnx.engine.outcomes import Engine, Lost
from intrain_onnx.engine.retries import TRIES
from intrain_onnx.engine.serial import Serial
from intrain_onnx.errors import IntrainError, SettingsError, path_text
from intrain_onnx.failure import Failure
from intrain_onnx.jobs import failure_of
from intrain_onnx.loading.limits import Limits
from intrain_onnx.progress import Progress, silent
from intrain_onnx.rank import content

BATCH = 64
"""Samples, unless others are asked for: a channel that is awake on 5 % of the samples is silent on all of 16
in 44 of 100 draws, on all of 64 in 4."""


def settings(**changes: object) -> ScoreConfig:
    """The settings of the protocol ``checkpoint`` with one run, and changes to them.

    Raises:
        SettingsError: an unknown setting, or a value out of range.
    """
    own = {"seeds": 1, "batch": BATCH, "parity": False, "proxies": ("grad_norm",)}
    return ScoreConfig.for_protocol("checkpoint", **{**own, **changes})


def series(
    paths: Sequence[str | os.PathLike[str]],
    config: ScoreConfig | None = None,
    *,
    thresholds: Mapping[str, float] | None = None,
    output: str | os.PathLike[str] | None = None,
    limits: Limits | None = None,
) -> Document:
    """Measure checkpoints of one network, in this process.

    Args:
        paths: ONNX files; their steps are the last numbers in their names, or else their order.
        config: by default ``intrain_onnx.checkpoints.run.settings()``.
        thresholds: of alarms, those that differ from the usual ones.
        output: a folder for the log, which is gone on with; None for none.
        limits: on what a file may take.

    Returns:
        Rows by step and alarms; a file that cannot be measured has a row that says why.

    Raises:
        SettingsError: an unknown threshold, or a log that was made with other settings.
    """
    config, chosen = config or settings(), alarms.thresholds(thresholds or {})
    folder = Path(output) if output is not None else None
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    run = Run(MeasureCheckpoint(config, limits or Limits()), Serial(), folder)
    return results.document(run.measure([os.fspath(p) for p in paths]), config, chosen)


class Run:
    """Measures checkpoints that have no row yet.

    Args:
        measure: the job.
        engine: runs it; with one worker, so that a checkpoint is taken when the one before has its row.
        folder: of the log; None for none.
        keep: called with each row, those of earlier runs among them, and whether it is new.
        begins: called with the path of each checkpoint that is measured; its result is told each step.
        retry_failed: measure those again that failed in an earlier run.
    """

    def __init__(
        self,
        measure: MeasureCheckpoint,
        engine: Engine,
        folder: Path | None = None,
        *,
        keep: Callable[[Step, bool], None] = lambda row, new: None,
        begins: Callable[[str], Progress] = lambda path: silent,
        retry_failed: bool = False,
    ) -> None:
        self.job, self.engine, self.folder = measure, engine, folder
        self.keep, self.begins, self.retry_failed = keep, begins, retry_failed
        self.rows: dict[str, Step] = {}
        self._files: dict[str, str] = {}
        self._retried: set[str] = set()
        self.log: Log | None = None
        self._losses: Counter[str] = Counter()
        self._again: list[Task] = []
        self._tell: Progress = silent

    def measure(self, paths: Sequence[str], watched: Arrivals | None = None) -> list[Step]:
        """The rows of all checkpoints, in the order of their steps.

        Args:
            paths: of files.
            watched: a folder whose files are measured after them, as they appear.

        Raises:
            SettingsError: the log cannot be gone on with.
            LimitError: the log cannot be written.
        """
        with self._opened() as log:
            self.log = log
            self._begin(results.read(self.folder) if self.folder is not None else {})
            source = self._tasks(paths, watched)
            with closing(self.engine.map(self.job, source, lambda _, event: self._tell(*event))) as outcomes:
                for outcome in outcomes:
                    self._take(outcome.item, outcome.result)
        return results.in_order(list(self.rows.values()))

    def _opened(self) -> Log | nullcontext[None]:
        return results.opened(self.folder, self.job.config) if self.folder is not None else nullcontext()

    def _begin(self, known: Mapping[str, Step]) -> None:
        """Take over the rows of earlier runs: a training may have deleted their files."""
        for path, row in known.items():
            self.rows[path] = row
            self.keep(row, False)
            if self.retry_failed and row.status == "failed":
                self._retried.add(path)

    def _tasks(self, paths: Sequence[str], watched: Arrivals | None) -> Iterator[Task]:
        """What is to be measured, each when its turn has come; the rest is finished on the way."""
        self._files.update({path_text(path): path for path in _distinct(paths)})
        given = list(self._files)
        steps = numbered(given, {path: row.step for path, row in self.rows.items()})
        for shown in sorted(given, key=lambda path: steps[path]):
            yield from self._task(shown, steps[shown])
        for found in watched or ():
            shown = path_text(found)
            self._files[shown] = str(found)
            if shown not in steps:
                steps[shown] = arrived(shown, steps.values())
            yield from self._task(shown, steps[shown])

    def _task(self, shown: str, step: int) -> Iterator[Task]:
        path, row = self._files[shown], self.rows.get(shown)
        try:
            sha = content.digest(path)
        except IntrainError as error:
            if row is None or row.status != "scored":
                self._finish(failed(Task(path, step), Failure.of(error, path)))
            return
        if row is not None and shown not in self._retried and self._still(row, path, sha):
            return
        self._retried.discard(shown)
        self._tell = self.begins(path)
        yield self._of(path, step, sha)
        while self._again:
            yield self._again.pop()

    def _still(self, row: Step, path: str, sha: str) -> bool:
        """Whether a row is that of the file as it is now."""
        return row.sha256 == sha and content.same_external(path, row.external_sha256)

    def _of(self, path: str, step: int, sha: str) -> Task:
        """The task, with the first checkpoint and the last before it that is still there."""
        earlier = sorted((r.step, p) for p, r in self.rows.items() if r.status == "scored" and r.step < step)
        if not earlier:
            return Task(path, step, sha)
        there = [(at, self._files.get(p, p)) for at, p in earlier]
        before, previous = next((x for x in reversed(there) if os.path.exists(x[1])), there[-1])
        return Task(path, step, sha, there[0][1], previous, before)

    def _take(self, task: Task, found: Step | Lost) -> None:
        if not isinstance(found, Lost):
            self._finish(found)
            return
        self._losses[task.path] += 1
        if found.may_pass and self._losses[task.path] < TRIES:
            self._again.append(task)
        else:
            self._finish(failed(task, failure_of(found, task.path)))

    def _finish(self, row: Step) -> None:
        if self.log is not None:
            self.log.append(results.line_of(row))
        self.rows[row.path] = row
        self.keep(row, True)


def _distinct(paths: Iterable[str]) -> list[str]:
    """The paths, each file once."""
    return list({os.path.realpath(path): path for path in paths}.values())


def require_checkpoints(paths: Sequence[str], watched: Path | None, folder: Path | None) -> None:
    """Refuse a command that names nothing: neither files, nor a folder to watch, nor one with a log.

    Raises:
        SettingsError: it names nothing, or what it watches is no folder.
    """
    if watched is not None and not watched.is_dir():
        raise SettingsError(f"--watch {watched} is no folder", hint="Make it, or name another")
    logged = folder is not None and (folder / results.LOG).is_file()
    if not paths and watched is None and not logged:
        raise SettingsError("no checkpoint is named", hint="Name ONNX files, or a folder with --watch")
