"""Progress and wall-clock time of the steps of a long computation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Progress = Callable[[str, float], None]
"""Called with the name of the step that begins, and the share of the work that is done, 0 to 1."""


def silent(step: str, share: float) -> None:
    """Report no progress."""


@dataclass
class Log:
    """Wall-clock times of the steps of one computation.

    Attributes:
        progress: called when a step begins.
        seconds: wall-clock time by step, summed over repeated steps.
    """

    progress: Progress = silent
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, share: float) -> Iterator[None]:
        """Time a step; ``share`` of the whole work, 0 to 1, is done when it begins."""
        self.progress(name, share)
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
