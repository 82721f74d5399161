"""Progress bars, removed on exit."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

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
    """Count of items with the time left, if the stream is a terminal; removed on exit."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = console_of(stream)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


class _Rate(ProgressColumn):
    """Items a minute since the start of this run."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{60 * speed:.3g}/min" if speed else "")


@contextmanager
def rate(stream: TextIO, what: str) -> Iterator[Callable[[int, int], None]]:
    """Count of items with rate and time left; a line each minute where the stream is no terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
    )
    console = console_of(stream)
    started = last = time.monotonic()

    def plain(done: int, total: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= 60:
            last = now
            left = (total - done) * (now - started) / max(done, 1)
            stream.write(
                f"{done} of {total} {what}, {60 * done / (now - started):.3g} a minute, {left:.0f} s left\n"
            )
            stream.flush()

    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what)

        def count(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)
            if not console.is_terminal:
                plain(done, total)

        yield count
