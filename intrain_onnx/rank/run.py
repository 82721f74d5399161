"""Scores the candidates that have no row yet; each row is on disk before its worker begins another model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import msgspec

from intrain_onnx.engine.log import Log
from intrain_onnx.engine.outcomes import Engine
from intrain_onnx.engine.outcomes import Lost as LostProcess
from intrain_onnx.engine.retries import Queue, with_retries
from intrain_onnx.errors import IntrainError
from intrain_onnx.failure import Failure
from intrain_onnx.rank import content, remote, results, rows
from intrain_onnx.rank.job import RankOne, Task
from intrain_onnx.rank.results import Found
from intrain_onnx.rank.rows import Row
from intrain_onnx.rank.sources import Candidate

Progress = Callable[[int, int], None]


def run(
    job: RankOne,
    candidates: Sequence[Candidate],
    folder: Path,
    engine: Engine,
    *,
    resume: bool = False,
    retry_failed: bool = False,
    progress: Progress = lambda done, total: None,
    keep: Callable[[Row], None] = lambda row: None,
) -> None:
    """Score models and log them; identical files are scored once.

    Args:
        job: what is measured.
        candidates: distinct models.
        folder: of the results; it exists.
        engine: runs the job.
        resume: go on with the log of the folder.
        retry_failed: score those again that failed before, as after a limit was raised.
        progress: called with the number of models done, and of all.
        keep: called with each row, those of earlier runs among them.

    Raises:
        SettingsError: the log cannot be gone on with.
        LimitError: the log cannot be written.
    """
    with results.opened(folder, job.config, resume=resume) as log:
        _Run(job, candidates, results.read(folder), log, engine, retry_failed, progress, keep).run()


class _Run:
    def __init__(
        self,
        job: RankOne,
        candidates: Sequence[Candidate],
        found: Found,
        log: Log,
        engine: Engine,
        retry_failed: bool,
        progress: Progress,
        keep: Callable[[Row], None],
    ) -> None:
        self.job, self.candidates, self.log, self.engine = job, candidates, log, engine
        self.progress, self.keep = progress, keep
        self.known = {
            model: row for model, row in found.rows.items() if row.status == "scored" or not retry_failed
        }
        self.losses = {} if retry_failed else found.losses
        self.by_content: dict[str, Row] = {}
        for row in self.known.values():
            if row.sha256 is not None and row.same_as is None:
                self.by_content.setdefault(row.sha256, row)
        self.running: dict[str, list[Task]] = {}
        self.queue: Queue[Task] = Queue(self._tasks())
        self.done = 0

    def run(self) -> None:
        """Score all that has no row."""
        self.progress(0, len(self.candidates))
        outcomes = with_retries(
            self.engine,
            self.job,
            self.queue,
            name=lambda task: (task.model, task.sha256),
            lost_before=self.losses,
            on_loss=self._lost,
        )
        with closing(outcomes):
            for outcome in outcomes:
                task, found = outcome.item, outcome.result
                if isinstance(found, LostProcess):
                    found = rows.of_loss(task.model, task.given, found, task.sha256)
                self._finish(task, found)

    def _tasks(self) -> Iterator[Task]:
        """What is to be scored; the rest is finished on the way."""
        for candidate in self.candidates:
            task = Task(candidate.model, None, candidate.given)
            row = self.known.get(candidate.model)
            if candidate.remote:
                if row is not None and remote.version_of(candidate.model) == row.source_version:
                    self._tell(row)
                else:
                    yield task
                continue
            try:
                sha = content.digest(candidate.model)
            except IntrainError as error:
                failure = Failure.of(error, candidate.model)
                self._write(rows.of_failure(candidate.model, candidate.given, failure, None))
                continue
            if (
                row is not None
                and row.sha256 == sha
                and content.same_external(task.model, row.external_sha256)
            ):
                self._tell(row)
                continue
            task = Task(candidate.model, sha, candidate.given)
            if sha in self.running:
                self.running[sha].append(task)  # decided when the first of them is done
            elif not self._is_twin(task):
                self.running[sha] = []
                yield task

    def _is_twin(self, task: Task) -> bool:
        """Finish a model whose file, and external data, are those of one with a row."""
        assert task.sha256 is not None
        first = self.by_content.get(task.sha256)
        if first is None or not content.same_external(task.model, first.external_sha256):
            return False
        error = first.error
        if error is not None:
            error = msgspec.structs.replace(error, message=error.message.replace(first.model, task.model))
        self._write(
            msgspec.structs.replace(
                first, model=task.model, given=task.given, error=error, same_as=first.model
            )
        )
        return True

    def _lost(self, task: Task, lost: LostProcess) -> None:
        self.log.append(results.line_of(rows.Lost(task.model, task.sha256, f"{lost.reason}: {lost.detail}")))

    def _finish(self, task: Task, row: Row) -> None:
        self._write(row)
        if task.sha256 is None:
            return
        self.by_content.setdefault(task.sha256, row)
        for waiting in self.running.pop(task.sha256, ()):
            if not self._is_twin(waiting):
                self.queue.put_back(waiting)

    def _write(self, row: Row) -> None:
        self.log.append(results.line_of(row))
        self._tell(row)

    def _tell(self, row: Row) -> None:
        self.done += 1
        self.keep(row)
        self.progress(self.done, len(self.candidates))
