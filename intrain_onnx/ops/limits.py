"""Limits on the elements that an operator may allocate and on loop iterations, for untrusted files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from intrain_onnx.errors import LimitError

MAX_ELEMENTS = 2**31
"""Most elements of one operator's output, unless set by ``element_limit``."""

_limit: ContextVar[int] = ContextVar("element_limit", default=MAX_ELEMENTS)


@contextmanager
def element_limit(limit: int) -> Iterator[None]:
    """Set the most elements of one operator's output inside the ``with`` block."""
    token = _limit.set(limit)
    try:
        yield
    finally:
        _limit.reset(token)


def check_elements(shape: Iterable[int]) -> None:
    """Refuse a shape before it is allocated.

    Raises:
        LimitError: the shape has more elements than the limit.
    """
    sizes = [int(size) for size in shape]
    count = math.prod(sizes)
    if count > _limit.get():
        raise LimitError(
            f"a tensor of shape {sizes} has {count} elements, over the limit of {_limit.get()}",
            hint="If you trust the file, raise it with intrain_onnx.ops.limits",
        )


MAX_ITERATIONS = 100_000
"""Most iterations of one Loop or Scan, unless set by ``iteration_limit``."""

_iterations: ContextVar[int] = ContextVar("iteration_limit", default=MAX_ITERATIONS)


@contextmanager
def iteration_limit(limit: int) -> Iterator[None]:
    """Set the most iterations of one loop inside the ``with`` block."""
    token = _iterations.set(limit)
    try:
        yield
    finally:
        _iterations.reset(token)


def check_iterations(count: int) -> None:
    """Stop a loop with too many iterations.

    Raises:
        LimitError: the count is over the limit.
    """
    if count > _iterations.get():
        raise LimitError(
            f"a loop asks for iteration {count}, over the limit of {_iterations.get()}",
            hint="If you trust the file, raise it with intrain_onnx.ops.limits",
        )
