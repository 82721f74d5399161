"""Runs jobs in a process that may die, and says of each what became of it."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from intrain_onnx.errors import IntrainError


@dataclass(frozen=True)
class Verdict:
    """What became of one job.

    Attributes:
        job: its number.
        kind: ``ok``, the name of an `IntrainError`, ``INTERNAL``, ``CRASH`` or ``TIMEOUT``.
        text: the message, or the place that raised.
        seconds: how long it took.
    """

    job: int
    kind: str
    text: str
    seconds: float

    @property
    def is_broken(self) -> bool:
        """Whether no file may end so."""
        return self.kind in ("INTERNAL", "CRASH", "TIMEOUT")


def judged(function: Callable[[], object]) -> tuple[str, str]:
    """Call a function; its verdict, and the message or the place that raised."""
    try:
        function()
    except IntrainError as error:
        return type(error).__name__, str(error)
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if "/intrain_onnx/" in f.filename] or list(frames)
        place = f"{Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}"
        reason = str(error).splitlines()[0][:150] if str(error) else ""
        return "INTERNAL", f"{place} {type(error).__name__}: {reason}"
    return "ok", ""


def run(
    work: Callable[[int], tuple[str, str]],
    jobs: Sequence[int],
    *,
    seconds: float = 60.0,
    cap: int = 6 * 2**30,
) -> Iterator[Verdict]:
    """Run jobs one after the other in a forked child, and in a new one where it died or hung.

    Args:
        work: called with a number, in the child.
        jobs: the numbers.
        seconds: wall clock of one job.
        cap: bytes of address space on top of what this process has.
    """
    at = 0
    while at < len(jobs):
        child, lines = _start(work, jobs[at:], cap)
        try:
            while at < len(jobs):
                before = time.perf_counter()
                line = lines.read(seconds)
                took = time.perf_counter() - before
                if line is None:
                    yield Verdict(jobs[at], "TIMEOUT", f"over {seconds} s", took)
                    at += 1
                    break
                if not line:
                    _, status = os.waitpid(child, 0)
                    child = 0
                    yield Verdict(jobs[at], "CRASH", _how(status), took)
                    at += 1
                    break
                kind, text = json.loads(line)
                yield Verdict(jobs[at], kind, text, took)
                at += 1
        finally:
            lines.close()
            if child:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


class _Lines:
    """Lines of a pipe, with a deadline."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.held = b""

    def read(self, seconds: float) -> str | None:
        """A line; empty at the end of the file, None after the deadline."""
        deadline = time.monotonic() + seconds
        while b"\n" not in self.held:
            ready, _, _ = select.select([self.fd], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            more = os.read(self.fd, 65536)
            if not more:
                return ""
            self.held += more
        line, self.held = self.held.split(b"\n", 1)
        return line.decode()

    def close(self) -> None:
        os.close(self.fd)


def _start(work: Callable[[int], tuple[str, str]], jobs: Sequence[int], cap: int) -> tuple[int, _Lines]:
    receive, send = os.pipe()
    child = os.fork()
    if child:
        os.close(send)
        return child, _Lines(receive)
    os.close(receive)
    code = 1
    try:
        _limit(cap)
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
        for job in jobs:
            os.write(send, (json.dumps(work(job)) + "\n").encode())
        code = 0
    finally:
        os._exit(code)


def _limit(cap: int) -> None:
    held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + cap, held + cap))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _how(status: int) -> str:
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.WEXITSTATUS(status)}"
