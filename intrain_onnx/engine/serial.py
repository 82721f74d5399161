"""Runs items one after the other in this process."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator, Iterable
from typing import Any

from intrain_onnx.engine.outcomes import Item, Job, Lost, Outcome, Result, Tell
from intrain_onnx.errors import described


class Serial:
    """No limits and no isolation: for debuggers, and for what is trusted."""

    def warm(self, job: Job[None, Any]) -> None:
        """Does nothing: this process loads what it needs."""

    def map(
        self, job: Job[Item, Result], items: Iterable[Item], told: Callable[[int, Any], None] | None = None
    ) -> Generator[Outcome[Item, Result], None, None]:
        """See `Engine.map`."""
        for index, item in enumerate(items):
            yield Outcome(index, item, attempt(job, item, teller(index, told)))


def attempt(job: Job[Item, Result], item: Item, tell: Tell) -> Result | Lost:
    """The result of a job, or the exception that it raised."""
    try:
        return job(item, tell)
    except MemoryError:
        return Lost("memory", "an allocation failed")
    except Exception as error:
        return Lost("internal", described(error)[:500], traceback.format_exc())


def teller(index: int, told: Callable[[int, Any], None] | None) -> Tell:
    """What passes the events of one item on."""
    return (lambda event: None) if told is None else (lambda event: told(index, event))
