"""Scores the architectures of a table in worker processes, and stores each result as it arrives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from intrain_onnx.bench import records
from intrain_onnx.bench.find_space import Found
from intrain_onnx.bench.table import Entry
from intrain_onnx.config import ScoreConfig, most_threads, require
from intrain_onnx.engine import processes
from intrain_onnx.engine.outcomes import Lost, Tell, WorkerLimits
from intrain_onnx.engine.retries import with_retries
from intrain_onnx.versions import version


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured of each architecture, and by how many workers.

    Attributes:
        space: reference of the search space, see `find_space`.
        label: what the log says of it.
        size: height and width of the images.
        configs: one per protocol.
        workers: number of processes.
    """

    space: str
    label: str
    size: int
    configs: tuple[ScoreConfig, ...]
    workers: int

    @classmethod
    def of(
        cls,
        found: Found,
        protocols: Iterable[str],
        *,
        proxies: tuple[str, ...] = (),
        workers: int = 1,
        size: int | None = None,
        **settings: Any,
    ) -> Plan:
        """A plan with the space's image size and batch as defaults, and one thread per process.

        ``proxies`` are measured under the first protocol only; ``settings`` are fields of `ScoreConfig`.
        """
        require("workers", workers, 1, most_threads())
        space = found.space
        size = size or space.size
        shared = {"batch": space.batch, "threads": 1, "parity": False, "points": "all"} | settings
        configs = tuple(
            ScoreConfig.for_protocol(protocol, size=size, proxies=() if index else proxies, **shared)
            for index, protocol in enumerate(dict.fromkeys(protocols))
        )
        return cls(found.reference, found.label, size, configs, workers)

    def settings(self) -> records.Settings:
        """Everything that determines the values; the number of workers does not."""
        return records.Settings(
            version("intrain-onnx"), version("torch"), self.label, self.size, self.configs
        )


def run(
    plan: Plan,
    entries: Sequence[Entry],
    path: Path,
    *,
    resume: bool,
    progress: Callable[[int, int], None],
    limits: WorkerLimits = WorkerLimits(),  # noqa: B008 - it is frozen
) -> list[records.Record]:
    """Score the architectures that have no record yet; returns the records of all entries, in their order.

    Args:
        plan: what is measured, and by how many workers.
        entries: the architectures.
        path: of the log.
        resume: go on with one that exists.
        progress: called with the number of architectures done, and of all.
        limits: of each architecture.

    Raises:
        SettingsError: see `records.opened`.
        LimitError: the results cannot be written.
    """
    with records.opened(path, plan.settings(), resume=resume) as log:
        found = {record.architecture: record for record in records.read(path)}
        wanted = [entry.architecture for entry in entries]
        done = sum(name in found for name in wanted)
        progress(done, len(wanted))
        waiting = [name for name in wanted if name not in found]
        engine = processes.Processes(plan.workers, limits, preload=("intrain_onnx.bench.measure",))
        job = partial(_job, plan)
        with closing(with_retries(engine, job, waiting, name=str)) as outcomes:
            for outcome in outcomes:
                result = outcome.result
                record = _lost(plan, outcome.item, result) if isinstance(result, Lost) else result
                log.append(records.row(record))
                found[record.architecture] = record
                done += 1
                progress(done, len(wanted))
    return [found[name] for name in wanted]


def _job(plan: Plan, architecture: str, tell: Tell) -> records.Record:
    from intrain_onnx.bench.measure import measure  # noqa: PLC0415 - torch stays in the workers

    return measure(plan.space, architecture, plan.size, plan.configs)


def _lost(plan: Plan, architecture: str, lost: Lost) -> records.Record:
    """The record of an architecture that took its process down."""
    failed = records.Failed(str(lost.error()))
    return records.Record(architecture, {config.protocol: failed for config in plan.configs})
