"""Runs items in worker processes of this machine, each of which can die alone."""

from __future__ import annotations

import math
import multiprocessing
import os
import tempfile
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from multiprocessing.connection import wait
from multiprocessing.context import BaseContext
from typing import Any

from intrain_onnx import memory
from intrain_onnx.engine.outcomes import Item, Job, Outcome, Result, WorkerLimits
from intrain_onnx.engine.serial import teller
from intrain_onnx.engine.worker import PENDING, Worker

_LONGEST = 60
"""Bytes of the temporary folder's path, with which a socket in a folder of its own there stays below 100."""


class Processes:
    """Workers with limits.

    Args:
        workers: number of processes.
        limits: of each item; memory is by default an even share of what is free.
        preload: modules that are loaded once, before workers are forked.
        silent: drop what workers write on their standard error.
    """

    def __init__(
        self,
        workers: int = 1,
        limits: WorkerLimits = WorkerLimits(),  # noqa: B008 - it is frozen
        *,
        preload: Sequence[str] = (),
        silent: bool = True,
    ) -> None:
        context = context_for(preload)
        limits = replace(limits, memory=limits.memory or memory.available() // workers)
        self.workers = [Worker(context, limits, silent=silent) for _ in range(workers)]
        self._warming: Worker | None = None

    def warm(self, job: Job[None, Any]) -> None:
        """Start a worker, and let it run a job whose result nobody reads, while this process goes on."""
        self._warming = self.workers[0]
        self._warming.begin(job, None, counted=False)

    def map(
        self, job: Job[Item, Result], items: Iterable[Item], told: Callable[[int, Any], None] | None = None
    ) -> Generator[Outcome[Item, Result], None, None]:
        """See `Engine.map`."""
        busy: dict[Worker, tuple[int, Item] | None] = {}
        if self._warming is not None:
            busy[self._warming], self._warming = None, None
        idle = [worker for worker in self.workers if worker not in busy]
        source = enumerate(items)
        try:
            while True:
                while idle and (following := next(source, None)) is not None:
                    busy[idle[-1]] = following
                    idle.pop().begin(job, following[1])
                if not busy:
                    return
                wait_for_news(busy)
                for worker, begun in list(busy.items()):
                    index, item = begun or (-1, None)
                    found = worker.news(teller(index, told))
                    if found is not PENDING:
                        if begun is not None:
                            yield Outcome(index, item, found)  # type: ignore[arg-type]
                        del busy[worker]
                        idle.append(worker)
        finally:
            self.close()

    def close(self) -> None:
        """End all workers."""
        for worker in self.workers:
            worker.kill()


def wait_for_news(busy: Iterable[Worker]) -> None:
    """Wait until one of some workers has news, or is to be looked at."""
    patience = min(worker.patience() for worker in busy)
    wait([x for worker in busy for x in worker.waits_on()], None if math.isinf(patience) else patience)


def context_for(preload: Sequence[str] = ()) -> BaseContext:
    """How workers start: afresh, or forked from a small server of one thread that has loaded what they need.

    The server listens at a socket in the temporary folder, whose path the system allows some 100 bytes.
    """
    known = "forkserver" in multiprocessing.get_all_start_methods()
    if not preload or not known or len(os.fsencode(tempfile.gettempdir())) > _LONGEST:
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    return context
