"""Ends a command at once when it is asked to, with what is done kept: SIGTERM and SIGHUP as exceptions."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


class Ended(KeyboardInterrupt):
    """A signal asked this process to end.

    Attributes:
        exit_code: 128 plus the signal's number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def exit_code_of(error: KeyboardInterrupt) -> int:
    """The exit code that says which signal ended a command."""
    return error.exit_code if isinstance(error, Ended) else 128 + signal.SIGINT


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Raise `Ended` in the main thread on SIGINT, SIGTERM and SIGHUP; restores the handlers on exit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
    wanted = [n for n in numbers if signal.getsignal(n) is not signal.SIG_IGN]  # as nohup sets it
    got: list[int] = []

    def end(number: int, frame: FrameType | None) -> NoReturn:
        got.append(number)
        raise Ended(number)

    before = {n: signal.signal(n, end) for n in wanted}
    try:
        yield
    except KeyboardInterrupt as error:
        if got and not isinstance(error, Ended):  # Ray's native code raises its own in its place
            raise Ended(got[0]) from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
