"""Standard output and error of the process: closed, full, or read by nobody.

What was to be printed and is lost ends the process: in silence with 141, as of SIGPIPE, where the reader of a
pipe is gone, and else with one line and 2. What is lost of standard error changes nothing. A closed
descriptor is taken by the null device, so that no file that is opened later gets its number and with it what
a library prints.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from intrain_onnx.errors import SettingsError

BROKEN_PIPE = 128 + 13
"""Exit code where nobody reads on: that of SIGPIPE, as a shell tells it."""

_OUT, _ERR = 1, 2


@contextmanager
def guarded() -> Iterator[None]:
    """Watch standard output for as long as the process runs a command.

    Streams that a caller put there, as tests do, are left alone.
    """
    if os.name != "posix" or sys.stdout is not sys.__stdout__:
        yield
        return
    _open_closed()
    sys.stderr = _text(_Lossy(_ERR, "wb", closefd=False), line_buffering=True)
    raw = _Watched(_OUT, "wb", closefd=False)
    sys.stdout = _text(raw, line_buffering=raw.isatty())
    try:
        yield
    finally:
        sys.stdout.flush()


class _Watched(io.FileIO):
    """A descriptor whose first failure ends the process; what comes after it is dropped."""

    _lost = False

    def write(self, data: Any) -> int:
        if self._lost:
            return len(data)
        try:
            return super().write(data)
        except BrokenPipeError:
            self._lost = True
            raise SystemExit(BROKEN_PIPE) from None
        except OSError as error:
            self._lost = True
            reason = error.strerror or str(error)
            sys.stderr.write(f"error: cannot write to standard output: {reason}\n")
            raise SystemExit(SettingsError.exit_code) from None


class _Lossy(io.FileIO):
    """A descriptor whose failures are not told: nobody is left to tell them to."""

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _text(raw: io.FileIO, *, line_buffering: bool) -> io.TextIOWrapper:
    """A text stream that has an escape for what its encoding lacks, instead of an error."""
    told = next((s.encoding for s in (sys.__stdout__, sys.__stderr__) if s is not None), "utf-8")
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=told, errors="backslashreplace", line_buffering=line_buffering
    )


def _open_closed() -> None:
    """Put the null device on closed descriptors; on that of standard output such that writing fails."""
    for descriptor, flags in ((0, os.O_RDONLY), (_OUT, os.O_RDONLY), (_ERR, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            made = os.open(os.devnull, flags)  # the lowest that is free, which is this one
            os.set_inheritable(made, True)  # or it is closed in every process that is started
