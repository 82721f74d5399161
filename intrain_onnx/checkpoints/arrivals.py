"""Follows a folder: gives each checkpoint once it is written in full. No torch."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from intrain_onnx.checkpoints.steps import number_in

Signature = tuple[tuple[str, int, int], ...]
"""Name, bytes and time of change of a file, and of its external data."""


@dataclass
class Arrivals:
    """The checkpoints of a folder, in the order of their steps as far as they are there.

    A file counts as written when it is not empty, and neither it nor its external data (``NAME.onnx.data``,
    ``NAME.data`` and others of its stem) changed for ``settle`` seconds. One that changes later is given
    again.

    Attributes:
        folder: where ``*.onnx`` appear.
        idle: seconds without a change after which there is an end; None for none.
        settle: seconds.
        poll: seconds between two looks.
        clock: of the intervals.
        sleep: waits.
    """

    folder: Path
    idle: float | None = None
    settle: float = 2.0
    poll: float = 0.5
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    given: dict[str, Signature] = field(default_factory=dict)
    seen: dict[str, tuple[Signature, float]] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Path]:
        news = self.clock()
        while True:
            ready, moving = self._look()
            if ready is not None:
                yield ready
                news = self.clock()
                continue
            now = self.clock()
            news = now if moving else news
            if self.idle is not None and now - news >= self.idle:
                return
            self.sleep(self.poll)

    def _look(self) -> tuple[Path | None, bool]:
        """The next file that is whole, and whether another one is being written."""
        now, moving = self.clock(), False
        for path, signature in self._files():
            name = str(path)
            if self.given.get(name) == signature:
                continue
            before = self.seen.get(name)
            if before is None or before[0] != signature:
                self.seen[name] = before = (signature, now)
                moving = True
            old = time.time_ns() - max(change for _, _, change in signature) > self.settle * 1e9
            if old or now - before[1] >= self.settle:
                self.given[name] = signature
                return path, True
            moving = moving or now - before[1] < self.settle
        return None, moving

    def _files(self) -> list[tuple[Path, Signature]]:
        """Regular files ``*.onnx`` that are not empty, with their signatures."""
        try:
            names = sorted(os.listdir(self.folder))
        except OSError:  # it may come later, or come back
            return []
        models = [name for name in names if name.endswith(".onnx")]
        models.sort(key=lambda name: (number_in(name) is None, number_in(name) or 0, name))
        found = []
        for name in models:
            stem = name.removesuffix("onnx")
            parts = [n for n in names if n == name or (n.startswith(stem) and not n.endswith(".onnx"))]
            signature = tuple(s for n in parts if (s := _signature(self.folder / n)) is not None)
            if any(n == name and size for n, size, _ in signature):
                found.append((self.folder / name, signature))
        return found


def _signature(path: Path) -> tuple[str, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (path.name, status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None
