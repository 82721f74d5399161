"""Runs items on the machines of a Ray cluster: each actor owns one worker process, which can die alone.

What kills a process, native crashes and limits, costs the worker's child and is told as on this machine; Ray
itself never retries. No torch.
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Client
from types import ModuleType
from typing import Any, Generic

from intrain_onnx import memory
from intrain_onnx.engine.outcomes import Item, Job, Lost, Outcome, Result, WorkerLimits
from intrain_onnx.engine.processes import context_for, wait_for_news
from intrain_onnx.engine.worker import PENDING, Worker
from intrain_onnx.errors import LimitError, SettingsError
from intrain_onnx.versions import version

_LOOK = 1.0
"""Seconds between two looks at whether a machine is left."""

_MOST_MACHINES = 3
"""Machines that may be lost under an item before it is suspected itself."""

_MOST_STARTS = 3
"""Actors beyond the first of each slot that may fail to start before the cluster is given up."""

_STORE_BYTES = 100 * 2**20
"""Of Ray's object store, where Ray is started here: items and rows are small."""

_SAME = ("intrain-onnx", "torch")
"""Packages of one version on all machines: rows would differ."""


@dataclass(frozen=True, slots=True)
class Rayed:
    """Actors of a Ray cluster.

    Attributes:
        address: of the cluster, which this machine belongs to; None starts Ray here, for this run.
        workers: most items at a time; as many run as the cluster has room for.
        limits: of each item; memory is by default an even share of what is free on its machine.
        threads: CPUs that Ray sets aside for a worker.
        gpus: share of a GPU that Ray sets aside for a worker.
        preload: modules that an actor loads once, before workers are forked.
        environment: variables set for workers.
        silent: drop what workers write on their standard error.
        patience: seconds without a machine after which the run ends.
    """

    address: str | None = None
    workers: int = 1
    limits: WorkerLimits = field(default_factory=WorkerLimits)
    threads: int = 1
    gpus: float = 0.0
    preload: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    silent: bool = True
    patience: float = 120.0

    def warm(self, job: Job[None, Any]) -> None:
        """Does nothing: Ray starts with the first item."""

    def map(
        self, job: Job[Item, Result], items: Iterable[Item], told: Callable[[int, Any], None] | None = None
    ) -> Generator[Outcome[Item, Result], None, None]:
        """See `Engine.map`; events that jobs tell do not come back from other machines.

        Raises:
            SettingsError: there is no Ray, no cluster, or another version of this package on it.
            LimitError: no machine with room was there for ``patience`` seconds.
        """
        with _connected(self) as (ray, folder):
            run = _Run(ray, self, folder, job, items)
            try:
                yield from run.outcomes()
            finally:
                run.close()


@contextlib.contextmanager
def _connected(engine: Rayed) -> Iterator[tuple[ModuleType, str | None]]:
    """Ray, connected, and where all of it writes if it was started here; that is gone on exit."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # before it is loaded: it would report its use
    try:
        import ray  # noqa: PLC0415 - an extra
    except ImportError:
        raise SettingsError("no Ray is installed", hint="Install intrain-onnx[ray]") from None
    if ray.is_initialized():
        raise SettingsError("this process uses Ray already", hint="Call ray.shutdown() first")
    with contextlib.ExitStack() as stack:
        folder: str | None = None
        options: dict[str, Any] = {"address": engine.address}
        if engine.address is None:
            place = tempfile.TemporaryDirectory(prefix="intrain-ray-", ignore_cleanup_errors=True)
            folder = stack.enter_context(place)
            options = _started_here(engine, folder)
        stack.callback(ray.shutdown)
        try:
            _require_listening(engine.address or "")
            with _handlers_kept():
                ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except (OSError, RuntimeError, ValueError, AssertionError, ray.exceptions.RayError) as error:
            raise SettingsError(
                f"cannot use Ray at {engine.address or 'this machine'}: {_line(error)}",
                hint="Start it with `ray start`, as docs/rank.md says, and name its --address",
            ) from error
        yield ray, folder


def _require_listening(address: str) -> None:
    """Look whether anybody is at ``host:port``: Ray tries for two minutes, and no signal ends that."""
    host, _, port = address.rpartition(":")
    if "://" not in address and host and port.isdecimal():
        Client((host, int(port))).close()


def _started_here(engine: Rayed, folder: str) -> dict[str, Any]:
    """Settings of a Ray of this run's own, which writes into a folder alone."""
    if not any(name in os.environ for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")):
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)  # or Ray writes one into the home folder
    return {
        "address": "local",
        "num_cpus": engine.workers * engine.threads,
        "include_dashboard": False,
        "object_store_memory": _STORE_BYTES,
        "_temp_dir": folder,
    }


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Put back the handler of SIGTERM, which Ray replaces: a command ends with a code of its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Run(Generic[Item, Result]):
    """One call of ``map``: an item in flight for each actor, none before an actor has started."""

    def __init__(
        self,
        ray: ModuleType,
        engine: Rayed,
        folder: str | None,
        job: Job[Item, Result],
        items: Iterable[Item],
    ) -> None:
        self.ray, self.engine, self.folder, self.job = ray, engine, folder, job
        self.source = enumerate(items)
        self.again: deque[tuple[int, Item]] = deque()
        self.machines_lost: Counter[int] = Counter()
        self.starting: dict[Any, Any] = {}
        self.busy: dict[Any, tuple[Any, int, Item]] = {}
        self.idle: list[Any] = []
        self.failed_starts = 0
        self.alive_at = time.monotonic()
        for _ in range(engine.workers):
            self._ask()

    def _ask(self) -> None:
        """Ask for an actor; it waits until a machine has room for it."""
        engine = self.engine
        options = {"num_cpus": engine.threads, "num_gpus": engine.gpus}
        kind = self.ray.remote(Slot).options(max_restarts=0, max_task_retries=0, **options)
        actor = kind.remote(engine, os.getcwd(), self.folder)
        self.starting[actor.about.remote()] = actor

    def outcomes(self) -> Iterator[Outcome[Item, Result]]:
        while True:
            while self.idle and (following := self._following()) is not None:
                actor = self.idle.pop()
                self.busy[actor.run.remote(self.job, following[1])] = (actor, *following)
            if self.idle and not self.busy:
                return
            ready, _ = self.ray.wait([*self.busy, *self.starting], timeout=_LOOK)
            self._require_life()
            for reference in ready:
                if reference in self.starting:
                    self._started(reference)
                elif (outcome := self._ended(reference)) is not None:
                    yield outcome

    def _following(self) -> tuple[int, Item] | None:
        return self.again.popleft() if self.again else next(self.source, None)

    def _started(self, reference: Any) -> None:
        actor = self.starting.pop(reference)
        try:
            found = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            self.failed_starts += 1
            if self.failed_starts >= self.engine.workers + _MOST_STARTS:
                raise SettingsError(
                    f"workers of the Ray cluster do not start: {_line(error)}",
                    hint="Install intrain-onnx[ray] in the environment of each machine",
                ) from error
            self._replace(actor)
            return
        if found != versions():
            told = ", ".join(f"{name} {found[name]}, here {own}" for name, own in versions().items())
            raise SettingsError(
                f"a machine of the Ray cluster has {told}", hint="Install the same versions on all machines"
            )
        self.failed_starts = 0
        self.idle.append(actor)

    def _ended(self, reference: Any) -> Outcome[Item, Result] | None:
        """What became of an item; None if its machine was lost, which is not its fault."""
        actor, index, item = self.busy.pop(reference)
        found: Result | Lost
        try:
            found = self.ray.get(reference)
        except self.ray.exceptions.RayTaskError as error:
            found = Lost("internal", _line(error), str(error))
        except self.ray.exceptions.RayError:
            self._replace(actor)
            self.machines_lost[index] += 1
            if self.machines_lost[index] < _MOST_MACHINES:
                self.again.append((index, item))
                return None
            return Outcome(index, item, Lost("killed", f"{_MOST_MACHINES} machines were lost under it"))
        self.idle.append(actor)
        return Outcome(index, item, found)

    def _replace(self, actor: Any) -> None:
        self._end(actor)
        self._ask()

    def _end(self, actor: Any) -> None:
        with contextlib.suppress(self.ray.exceptions.RayError, ValueError):
            self.ray.kill(actor)

    def _require_life(self) -> None:
        if self.busy or self.idle:
            self.alive_at = time.monotonic()
        elif time.monotonic() - self.alive_at > self.engine.patience:
            needs = f"{self.engine.threads} CPUs" + (
                f" and {self.engine.gpus:g} GPUs" if self.engine.gpus else ""
            )
            raise LimitError(
                f"no machine of the Ray cluster had {needs} free for {self.engine.patience:g} s",
                hint="Add machines with `ray start --address=...`, or take fewer --threads or --gpus",
            )

    def close(self) -> None:
        """End all actors, and with them their workers."""
        for actor in (*self.starting.values(), *(actor for actor, *_ in self.busy.values()), *self.idle):
            self._end(actor)


class Slot:
    """The actor: runs one item at a time in a process of its own, which ends with it.

    Args:
        engine: the settings.
        folder: where paths of items start.
        temporary: for temporary files; None for the machine's own place.
    """

    def __init__(self, engine: Rayed, folder: str, temporary: str | None) -> None:
        os.environ.update(engine.environment)
        tempfile.tempdir = temporary or tempfile.tempdir
        with contextlib.suppress(OSError):  # a machine without that folder takes addresses
            os.chdir(folder)
        # A worker would load the script that is run here, which is Ray's own.
        vars(sys.modules["__main__"]).pop("__file__", None)
        limits = replace(engine.limits, memory=engine.limits.memory or memory.available() // _slots(engine))
        self.worker = Worker(context_for(engine.preload), limits, silent=engine.silent)

    def about(self) -> dict[str, str | None]:
        """Versions of what determines a row."""
        return versions()

    def run(self, job: Any, item: Any) -> Any:
        """The result of an item, or `Lost`."""
        self.worker.begin(job, item)
        while (found := self.worker.news(_drop)) is PENDING:
            wait_for_news([self.worker])
        return found


def _drop(event: Any) -> None:
    """Events stay on their machine."""


def _slots(engine: Rayed) -> int:
    """Workers that this machine may get."""
    import ray  # noqa: PLC0415 - an extra

    own = ray.get_runtime_context().get_node_id()
    nodes: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    has: dict[str, float] = next((node["Resources"] for node in nodes if node["NodeID"] == own), {})
    room = [engine.workers, int(has.get("CPU", 1) // engine.threads)]
    if engine.gpus:
        room.append(int(has.get("GPU", 1) // engine.gpus))
    return max(min(room), 1)


def versions() -> dict[str, str | None]:
    """Versions of the packages that determine a row, on this machine."""
    return {name: version(name) for name in _SAME}


def _line(error: BaseException) -> str:
    """The last line of an error's text that says something: Ray puts a traceback before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:500]
