"""Jobs for the engines' tests: some end well, some take their process down."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
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
