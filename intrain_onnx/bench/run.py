"""Scores the architectures of a table in worker processes, and stores each result as it arrives."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from intrain_onnx import memory
from intrain_onnx.bench import records
from intrain_onnx.bench.spaces import Space
from intrain_onnx.bench.table import Entry
from intrain_onnx.config import ScoreConfig, most_threads, require
from intrain_onnx.errors import LimitError
from intrain_onnx.versions import version


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured of each architecture, and by how many workers.

    Attributes:
        space: name of the search space.
        size: height and width of the images.
        configs: one per protocol.
        workers: number of processes.
    """

    space: str
    size: int
    configs: tuple[ScoreConfig, ...]
    workers: int

    @classmethod
    def of(
        cls,
        space: Space,
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
        size = size or space.size
        shared = {"batch": space.batch, "threads": 1, "parity": False, "points": "all"} | settings
        configs = tuple(
            ScoreConfig.for_protocol(protocol, size=size, proxies=() if index else proxies, **shared)
            for index, protocol in enumerate(dict.fromkeys(protocols))
        )
        return cls(space.name, size, configs, workers)

    def settings(self) -> records.Settings:
        """Everything that determines the values; the number of workers does not."""
        return records.Settings(
            version("intrain-onnx"), version("torch"), self.space, self.size, self.configs
        )


def run(
    plan: Plan, entries: Sequence[Entry], path: Path, *, resume: bool, progress: Callable[[int, int], None]
) -> list[records.Record]:
    """Score the architectures that have no record yet; returns the records of all entries, in their order.

    Raises:
        SettingsError: see `records.start`.
        LimitError: a worker was killed, as happens when memory runs out.
    """
    found = {record.architecture: record for record in records.start(path, plan.settings(), resume=resume)}
    waiting = [entry.architecture for entry in entries if entry.architecture not in found]
    progress(len(entries) - len(waiting), len(entries))
    try:
        for record in _measured(plan, waiting):
            records.append(path, record)
            found[record.architecture] = record
            progress(sum(entry.architecture in found for entry in entries), len(entries))
    except BrokenProcessPool as error:
        raise LimitError(
            "a worker process was ended from outside, probably for want of memory",
            hint="Take fewer --workers and go on with --resume",
        ) from error
    return [found[entry.architecture] for entry in entries]


def _measured(plan: Plan, waiting: Sequence[str]) -> Iterator[records.Record]:
    if not waiting:
        return
    context = multiprocessing.get_context("spawn")  # torch's threads do not survive a fork
    workers = min(plan.workers, len(waiting))
    with ProcessPoolExecutor(workers, mp_context=context, initializer=memory.cap_process) as pool:
        yield from pool.map(partial(_job, plan), waiting)


def _job(plan: Plan, architecture: str) -> records.Record:
    from intrain_onnx.bench.measure import measure  # noqa: PLC0415 - torch stays in the workers

    return measure(plan.space, architecture, plan.size, plan.configs)
