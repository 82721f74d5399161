"""Limits on what an operator may make, checked before it is allocated, for untrusted files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from intrain_onnx.errors import LimitError
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import option

_LARGE = 2**22
"""Elements from which on the memory of a run is counted after every node."""

_limit: ContextVar[tuple[int, str] | None] = ContextVar("element_limit", default=None)


@contextmanager
def element_limit(limit: int, name: str = "elements") -> Iterator[None]:
    """Set the most elements of one operator's output inside the ``with`` block, by the limit of that name."""
    token = _limit.set((limit, name))
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
    own = allowance.current()
    limit, name = _limit.get() or (own.elements(), "elements")
    own.watchful |= count > _LARGE
    if count > limit:
        raise LimitError(
            f"a tensor of shape {sizes} has {count} elements, over the limit {name}={limit}",
            limit=name,
            hint=option(name, count),
        )


def check_parts(count: int) -> None:
    """Refuse to cut a tensor into more tensors than a graph may have values.

    Raises:
        LimitError: over ``values``.
    """
    most = allowance.current().limits.values
    if count > most:
        raise LimitError(
            f"a sequence of {count:,} tensors, over the limit values={most:,}",
            limit="values",
            hint=option("values", count),
        )
