"""Jobs for the engines' tests: some end well, some take their process down."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from intrain_onnx.engine.outcomes import Tell


def square(item: int, tell: Tell) -> int:
    tell(("half", item))
    return item * item


def where(item: Any, tell: Tell) -> int:
    return os.getpid()


def behave(item: Any, tell: Tell) -> Any:
    """Do what an item asks for."""
    what, value = item
    if what == "signal":
        os.kill(os.getpid(), value)
    elif what == "sleep":
        time.sleep(value)
    elif what == "raise":
        raise value
    elif what == "allocate":
        return len(bytearray(value))
    elif what == "hold":  # Python's lock, in native code
        re.match("(a+)+$", "a" * 60 + "b")
    elif what == "spin":
        while True:
            pass
    elif what == "exit":
        os._exit(value)
    elif what == "unpicklable":
        return lambda: value
    elif what == "print":
        sys.stdout.write(value)
        sys.stdout.flush()
        os.write(1, value.encode())
    elif what == "child":  # one that outlives its parent, and is told by its pid
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(value).write_text(str(child.pid))
        os.kill(os.getpid(), signal.SIGSEGV)
    elif what == "fail until":  # as one whose neighbour took the memory
        count = Path(value[0])
        tried = int(count.read_text()) + 1 if count.exists() else 1
        count.write_text(str(tried))
        if tried < value[1]:
            os.kill(os.getpid(), signal.SIGKILL)
    return what


STUCK = "INTRAIN_TEST_STUCK"
"""Variable of a machine whose first item says by a file that it has begun, and never ends."""


@dataclass(frozen=True)
class Stuck:
    """A job that takes a while, and on a machine with the variable for ever."""

    job: Any
    seconds: float

    @property
    def config(self) -> Any:
        return self.job.config

    def __call__(self, item: Any, tell: Tell) -> Any:
        if STUCK in os.environ:
            Path(os.environ[STUCK]).touch()
            time.sleep(600)
        time.sleep(self.seconds)
        return self.job(item, tell)
