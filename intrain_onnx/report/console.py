"""The console that every text for a terminal is printed on."""

from __future__ import annotations

import os
from typing import TextIO

from rich.console import Console

_PLAIN_WIDTH = 10_000
"""Without a terminal there is no width to keep to: names that another program reads are never folded."""


def console_of(stream: TextIO) -> Console:
    """A console without markup or highlighting.

    If the stream is not a terminal it is as wide as its text, or as the variable ``COLUMNS`` says.
    """
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return (
        console
        if console.is_terminal or "COLUMNS" in os.environ
        else Console(file=stream, highlight=False, markup=False, emoji=False, width=_PLAIN_WIDTH)
    )
