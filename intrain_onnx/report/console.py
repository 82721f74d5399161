"""The console that every text for a terminal is printed on."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console

_PLAIN_WIDTH = 110


def console_of(stream: TextIO) -> Console:
    """A console without markup or highlighting, of fixed width if the stream is not a terminal."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return (
        console
        if console.is_terminal
        else Console(file=stream, highlight=False, markup=False, emoji=False, width=_PLAIN_WIDTH)
    )
