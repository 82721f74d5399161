"""What a long computation says of itself while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

Progress = Callable[[str, float], None]
"""Called with the name of the step that begins, and the share of the work that is done, 0 to 1."""


def silent(step: str, share: float) -> None:
    """Say nothing."""


@dataclass
class Log:
    """The steps of one computation.

    Attributes:
        progress: is told of each.
        seconds: wall-clock time by the name of the step.
    """

    progress: Progress = silent
    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str, share: float) -> Iterator[None]:
        """Time a step that begins when a share of the work is done."""
        self.progress(name, share)
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
