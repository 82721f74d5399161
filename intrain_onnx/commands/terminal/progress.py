"""Progress bars, removed on exit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of

Step = Callable[[str, float], None]


@contextmanager
def progress(stream: TextIO) -> Iterator[Callable[[str], Step]]:
    """Progress bar if the stream is a terminal; removed on exit."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    console = console_of(stream)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def begin(name: str) -> Step:
            for task in bar.task_ids:
                bar.remove_task(task)
            task = bar.add_task(printable(name, 60), total=1.0)
            return lambda step, share: bar.update(
                task, completed=share, description=f"{printable(name, 60)}: {step}"
            )

        yield begin


@contextmanager
def counter(stream: TextIO, what: str) -> Iterator[Callable[[int, int], None]]:
    """The network of eight digits; the first block of a stage has stride 2 and doubles the channels."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = console_of(stream)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)
