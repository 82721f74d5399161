"""The worker's side: takes items from a pipe, and ends when its parent does. No torch at import."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from intrain_onnx import memory
from intrain_onnx.engine.orphans import end_when_closed
from intrain_onnx.engine.outcomes import Lost, WorkerLimits
from intrain_onnx.engine.serial import attempt

READY, BEGUN, TOLD, DONE = "ready", "begun", "told", "done"


def main(connection: Connection[Any, Any], limits: WorkerLimits, silent: bool) -> None:
    """Run jobs until the pipe is closed."""
    _stand_alone(silent)
    held: int | None = None
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        connection.send((READY, None))
        while True:
            job, item, counted = connection.recv()
            if counted and held is None:
                held = private_bytes(os.getpid())
                memory.cap_process(limits.memory or None)
            _limit_cpu(limits.cpu_seconds)
            connection.send((BEGUN, held))
            found = attempt(job, item, lambda event: connection.send((TOLD, event)))
            _send(connection, found)


def _send(connection: Connection[Any, Any], found: Any) -> None:
    try:
        connection.send((DONE, found))
    except OSError:  # the parent is gone
        raise
    except Exception as error:  # it cannot be pickled, and nothing has been sent
        connection.send((DONE, Lost("internal", f"its result cannot be sent: {error}")))


def _stand_alone(silent: bool) -> None:
    """Make a process group, which is killed as a whole, and watch the parent, which may be killed itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)
    with contextlib.suppress(OSError):  # where memory runs out, the kernel takes a worker
        Path("/proc/self/oom_score_adj").write_text("500", encoding="ascii")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)  # it carries the parent's report
    if silent:  # native libraries write there as they die; the parent says it in one line
        os.dup2(null, 2)
    parent = multiprocessing.parent_process()
    assert parent is not None
    end_when_closed(parent.sentinel)


def end_group(pid: int) -> None:
    """Kill a worker and what it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if hasattr(os, "killpg"):
            os.killpg(pid, signal.SIGKILL)
        else:
            os.kill(pid, signal.SIGTERM)


def _limit_cpu(seconds: float) -> None:
    """Allow so much CPU time from now on: the kernel counts that of the whole life of a process."""
    if resource is None or not seconds:
        return
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    wanted = math.ceil(used.ru_utime + used.ru_stime + seconds)
    resource.setrlimit(
        resource.RLIMIT_CPU, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
    )


def private_bytes(pid: int) -> int:
    """Bytes that a process and its children share with no file, where Linux tells; otherwise 0."""
    lines = _lines(f"/proc/{pid}/status")
    held = sum(int(x.split()[1]) * 1024 for x in lines if x.startswith(("RssAnon:", "RssShmem:")))
    children = _lines(f"/proc/{pid}/task/{pid}/children")
    return held + sum(private_bytes(int(child)) for line in children for child in line.split())


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []
