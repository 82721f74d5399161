"""The parent's side of one worker process: begins an item, waits, and says how it ended."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from typing import Any

from intrain_onnx.engine import worker_process
from intrain_onnx.engine.outcomes import Lost, WorkerLimits
from intrain_onnx.engine.worker_process import BEGUN, DONE, READY
from intrain_onnx.errors import IntrainError

LOOK = 0.25
"""Seconds between two looks at the memory of a worker."""

_START = 600.0
"""Seconds that a process may take to start: it loads libraries, maybe from a slow disk."""

_MOST_STARTS = 3
"""Processes that may die before they begin an item, of which it knows nothing."""

_FAULTS = {"SIGSEGV", "SIGFPE", "SIGABRT", "SIGBUS", "SIGILL", "SIGTRAP", "SIGSYS"}

PENDING = object()
"""There is no outcome yet."""


class Worker:
    """A process that takes one item at a time, started when it is needed.

    Args:
        context: how processes start.
        limits: of one item.
        silent: drop what the process writes on its standard error.
    """

    def __init__(self, context: BaseContext, limits: WorkerLimits, *, silent: bool = True) -> None:
        self.limits = limits
        self._context, self._silent = context, silent
        self._process: BaseProcess | None = None
        self._pipe: Connection[Any, Any] | None = None
        self._deadline = float("inf")
        self._ready = self._begun = False
        self._sent: tuple[Any, Any, bool] = (None, None, False)
        self._starts = 0
        # Bytes before the first item: the libraries. None while it loads them, and no limit holds.
        self._held: int | None = None

    def begin(self, job: Any, item: Any, *, counted: bool = True) -> None:
        """Send an item; starts the process if there is none.

        Args:
            job: run on the item.
            item: its argument.
            counted: whether the limit of memory holds, and what is held before counts no more.
        """
        self._sent, self._starts = (job, item, counted), 0
        self._send()

    def _send(self) -> None:
        self._begun = False
        self._deadline = time.monotonic() + _START
        pipe = self._start()
        # A process that has just died may still take it, or not: `news` tells that it never began.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            pipe.send(self._sent)

    def _start(self) -> Connection[Any, Any]:
        if self._pipe is None or self._process is None or not self._process.is_alive():
            self.kill()
            self._pipe, theirs = self._context.Pipe()
            process = self._context.Process(  # type: ignore[attr-defined]
                target=worker_process.main, args=(theirs, self.limits, self._silent), daemon=False
            )
            process.start()
            self._process, self._ready = process, False
            theirs.close()
        return self._pipe

    def waits_on(self) -> list[Any]:
        """What becomes ready when there is news."""
        assert self._pipe is not None
        assert self._process is not None
        return [self._pipe, self._process.sentinel]

    def patience(self) -> float:
        """Seconds until `news` is to be asked in any case."""
        left = max(self._deadline - time.monotonic(), 0.0)
        return min(left, LOOK) if self.limits.memory else left

    def news(self, told: Callable[[Any], None]) -> Any:
        """The result of the item, `Lost`, or `PENDING`.

        Raises:
            IntrainError: processes end before they are ready for any item.
        """
        assert self._pipe is not None
        try:
            while self._pipe.poll():
                kind, value = self._pipe.recv()
                if kind == DONE:
                    return value
                if kind == READY:
                    self._ready = True
                elif kind == BEGUN:
                    self._begin_clock()
                    self._held = value
                else:
                    told(value)
        except (EOFError, OSError):
            return self._ended()
        except Exception as error:  # half a message, or one that cannot be read
            self.kill()
            return Lost("internal", f"its answer cannot be read: {type(error).__name__}: {error}")
        if self._process is not None and not self._process.is_alive() and not self._pipe.poll():
            return self._ended()
        return self._over_limit()

    def _begin_clock(self) -> None:
        self._begun = True
        self._deadline = time.monotonic() + (self.limits.seconds or float("inf"))

    def _over_limit(self) -> Any:
        if time.monotonic() >= self._deadline:
            self.kill()
            if not self._begun:
                return Lost("internal", f"its process took longer than {_START:.0f} s to start")
            return Lost("timeout", f"longer than {self.limits.seconds:g} s")
        if self.limits.memory and self._begun and self._held is not None and self._process is not None:
            held = worker_process.private_bytes(self._process.pid or 0) - self._held
            if held > self.limits.memory:
                self.kill()
                return Lost("memory", f"more than {self.limits.memory / 2**30:.2g} GiB")
        return PENDING

    def _ended(self) -> Any:
        """Why the process is gone; one that died before it began the item is replaced."""
        process = self._process
        assert process is not None
        process.join(10)
        code, ready = process.exitcode, self._ready
        self.kill()
        if not self._begun and self._starts < _MOST_STARTS:
            self._starts += 1
            self._send()
            return PENDING
        name = _named(code)
        if not ready and (name in _FAULTS or code is None or code >= 0):  # nor for want of memory
            raise IntrainError(
                f"worker processes end before they are ready: {name}, {_MOST_STARTS + 1} times in a row",
                hint="What they wrote stands above. Each imports the script that started it, which has to do "
                'so below `if __name__ == "__main__":`',
            )
        if code is None or code >= 0:
            return Lost("killed", name)
        if name == "SIGXCPU":
            return Lost("cpu_time", f"more than {self.limits.cpu_seconds:g} s")
        return Lost("crashed" if name in _FAULTS else "killed", name)

    def kill(self) -> None:
        """End the process and what it has started; `begin` starts another."""
        if self._process is not None:
            if self._process.pid is not None:
                worker_process.end_group(self._process.pid)
            with contextlib.suppress(AttributeError, OSError):
                self._process.kill()
            self._process.join(10)
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = self._held = None


def _named(code: int | None) -> str:
    """How a process ended: the name of the signal, or its exit code."""
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
