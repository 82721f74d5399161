"""Ends a process when another does, whatever it is doing then."""

from __future__ import annotations

import os
import signal
import threading
from multiprocessing.connection import wait

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def end_when_closed(handle: int) -> None:
    """Kill this process when the last writer of a pipe is gone, to which nothing is ever written.

    On Linux the kernel does it, for which no thread has to run: native code may hold Python's lock for ever.

    Args:
        handle: descriptor of the reading end.
    """
    if fcntl is not None and hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(handle, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(handle, fcntl.F_SETOWN, os.getpid())
        flags = fcntl.fcntl(handle, fcntl.F_GETFL)
        fcntl.fcntl(handle, fcntl.F_SETFL, flags | os.O_ASYNC)
    # The writer may have gone before, and other systems have no such signal.
    threading.Thread(target=_wait, args=(handle,), daemon=True).start()


def _wait(handle: int) -> None:
    wait([handle])
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
