"""What an engine takes and gives: jobs, limits of a worker, and the outcome of each item."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

from intrain_onnx.errors import IntrainError, LimitError

Item = TypeVar("Item")
Result = TypeVar("Result")

Tell = Callable[[Any], None]
"""Passes an event, such as a step of the progress, to whoever called ``map``."""

Job = Callable[[Item, Tell], Result]
"""Measures one item. Picklable, as item and result are; what it raises becomes `Lost`."""

Reason = Literal["crashed", "killed", "timeout", "cpu_time", "memory", "internal"]
"""Why an item has no result. One that ``crashed`` got a signal for a fault of its own, such as SIGFPE."""

_WORDS = {
    "crashed": "its process crashed",
    "killed": "its process was killed",
    "timeout": "it took too long",
    "cpu_time": "it took too much CPU time",
    "memory": "it took too much memory",
    "internal": "internal error",
}
_HINTS = {
    "crashed": "Run it alone with --debug and report it",
    "killed": "Probably for want of memory: take fewer --workers or a smaller --batch",
    "timeout": "Raise the limit with --limit seconds=N",
    "cpu_time": "Raise the limit with --limit cpu_seconds=N",
    "memory": "Raise the limit with --limit memory=N",
    "internal": "Run it alone with --debug and report it",
}


@dataclass(frozen=True, slots=True)
class Lost:
    """Why an item has no result.

    Attributes:
        reason: the kind.
        detail: the signal, the limit, or the exception.
        trace: traceback of an exception in the job; empty otherwise.
    """

    reason: Reason
    detail: str
    trace: str = ""

    @property
    def may_pass(self) -> bool:
        """Whether another try may end otherwise: a neighbour may have taken the memory."""
        return self.reason in ("crashed", "killed")

    def error(self, path: str | None = None) -> IntrainError:
        """The same as an error with its exit code: a `LimitError` where a limit was exceeded."""
        kind = LimitError if self.reason in ("timeout", "cpu_time", "memory", "killed") else IntrainError
        return kind(f"{_WORDS[self.reason]}: {self.detail}", path=path, hint=_HINTS[self.reason])


@dataclass(frozen=True, slots=True)
class Outcome(Generic[Item, Result]):
    """One item and what became of it.

    Attributes:
        index: its place among the items.
        item: as it was given.
        result: of the job, or why there is none.
    """

    index: int
    item: Item
    result: Result | Lost


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one item may take; 0 for no limit.

    Attributes:
        memory: bytes of private memory of the worker and its children, beyond what a fresh worker has.
        seconds: wall clock, from when the job begins.
        cpu_seconds: of all threads of the worker together.
    """

    memory: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0


class Engine(Protocol):
    """Runs a job on items."""

    def warm(self, job: Job[None, Any]) -> None:
        """Start a worker, and let it run a job whose result nobody reads, while this process goes on."""
        ...

    def map(
        self, job: Job[Item, Result], items: Iterable[Item], told: Callable[[int, Any], None] | None = None
    ) -> Generator[Outcome[Item, Result], None, None]:
        """Outcomes as they come; each is given before its worker begins another item.

        Items are taken when a worker is free, never in advance. Closing the iterator ends the workers.

        Args:
            job: run on each item.
            items: read lazily.
            told: called with the place of an item and each event that its job tells.
        """
        ...
