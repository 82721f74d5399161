"""What one model may still take while it is read, analysed and run: seconds, rounds of loops, memory.

The limits of the model that is being worked on are held in a context variable: what counts is deep inside
operators and rewrites. Whoever reads a model enters `held`; inside, a second one goes on with the first.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from intrain_onnx import memory
from intrain_onnx.errors import IntrainError, LimitError
from intrain_onnx.loading.limits import MORE, Limits, option


@dataclass(slots=True)
class Allowance:
    """The limits of one model, and what it has taken of them.

    Attributes:
        limits: as set.
        started: when, by the monotonic clock; None where nobody counts.
        rounds: of all loops in the run that is going on.
        folded: elements that this run made out of constants.
        frames: values by node, of the graphs that are being run, the outermost first.
        kept: bytes that loops of this run hold besides: their scan outputs.
        countdown: nodes until the memory of the frames is added up again.
        watchful: there are large tensors, so it is added up after every node.
        part_of: what this run is a part of.
    """

    limits: Limits = field(default_factory=Limits)
    started: float | None = None
    rounds: int = 0
    folded: int = 0
    frames: list[dict[Any, Any]] = field(default_factory=list)
    kept: int = 0
    countdown: int = 0
    watchful: bool = False
    part_of: Allowance | None = None
    _room: int | None = None

    def check_time(self) -> None:
        """Raises LimitError if the time is over."""
        if self.started is not None and time.monotonic() - self.started > self.limits.seconds:
            raise LimitError(
                f"this takes longer than {self.limits.seconds:g} s, the limit of seconds",
                limit="seconds",
                hint=option("seconds", MORE * self.limits.seconds),
            )

    def count_rounds(self, number: int = 1) -> None:
        """Count rounds of a loop before they run.

        Raises:
            LimitError: with those of all other loops of this run they are over ``loop_rounds``, or the time
                is over.
        """
        self.rounds += number
        if self.rounds > self.limits.loop_rounds:
            raise LimitError(
                f"the loops ask for round {self.rounds:,}, over the limit "
                f"loop_rounds={self.limits.loop_rounds:,} of all loops in a run",
                limit="loop_rounds",
                hint=option("loop_rounds", self.rounds if number > 1 else MORE * self.limits.loop_rounds),
            )
        self.check_time()

    def room(self, live: int) -> int:
        """Bytes that the values of a run may take: half of those that are free when this is first asked.

        The other half is for what an operator needs besides, and for gradients.
        """
        if self._room is None:
            self._room = live + memory.available() // 2 if self.part_of is None else self.part_of.room(live)
        return self._room

    def elements(self) -> int:
        """Most elements of one tensor that an operator makes; whatever is free where nobody counts."""
        if self.limits.elements:
            return self.limits.elements
        return memory.MOST_ELEMENTS if self.started is None else memory.elements_of_one_tensor()


_current: ContextVar[Allowance | None] = ContextVar("allowance", default=None)


def current() -> Allowance:
    """What the model that is being worked on may take; the defaults, without a clock, outside of blocks."""
    return _current.get() or Allowance()


@contextmanager
def held(limits: Limits | None = None, path: str | None = None) -> Iterator[Allowance]:
    """Work on one model under its limits, and say what goes wrong as one kind of error.

    Args:
        limits: None for those around this block, or the defaults.
        path: of the file, for the errors.

    Raises:
        LimitError: memory ran out, wherever it was.
    """
    around = _current.get()
    own = around if around is not None and limits is None else Allowance(limits or Limits(), time.monotonic())
    token = _current.set(own)
    try:
        with memory.at_most(own.limits.memory):
            yield own
    except IntrainError as error:
        error.at(path=path)
        raise
    except Exception as error:
        if not memory.ran_out(error):
            raise
        raise out_of_memory(error).at(path=path) from error
    finally:
        _current.reset(token)


@contextmanager
def one_run() -> Iterator[Allowance]:
    """One run of a graph, which counts from zero; inside of another one, a part of it."""
    around = _current.get()
    if around is not None and around.frames:
        yield around
        return
    limits, started = (around.limits, around.started) if around is not None else (Limits(), None)
    token = _current.set(Allowance(limits, started, part_of=around))
    try:
        yield current()
    finally:
        _current.reset(token)


def raise_spent(error: IntrainError) -> None:
    """Raise an error that says that time or rounds are over: the next run would only take as long again."""
    if isinstance(error, LimitError) and error.limit in ("seconds", "loop_rounds"):
        raise error


def out_of_memory(error: BaseException, node: str | None = None, op: str | None = None) -> LimitError:
    """The LimitError for an allocation that failed."""
    said = next(iter(str(error).splitlines()), "")[:160]
    most = current().limits.memory
    hint = option("memory", 2 * most) if most else memory.LESS
    return LimitError(f"out of memory{f': {said}' if said else ''}", node=node, op=op, hint=hint)
