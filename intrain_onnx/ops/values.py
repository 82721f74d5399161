"""Helpers for integer types, axes and indices, shared by operator families."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor

P = ParamSpec("P")
R = TypeVar("R")

UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})
"""Integer types that few torch operators support."""


def on_int64(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: compute in int64 if the first argument is uint16, uint32 or uint64, and cast back.

    An int64 result is cast to the first argument's type; any other (a comparison's bool) is unchanged.
    Exact modulo 2**64, so ordering and division of uint64 are exact below 2**63.
    """

    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        first: Any = args[0]
        if first.dtype not in UNSIGNED:
            return function(*args, **kwargs)
        wide: Any = [_widen(a) for a in args]
        result: Any = function(*wide, **kwargs)
        return result.to(first.dtype) if result.dtype == torch.int64 else result  # type: ignore[no-any-return]

    return wrapped


def _widen(value: Any) -> Any:
    return value.to(torch.int64) if isinstance(value, Tensor) and value.dtype in UNSIGNED else value


def ints(values: Tensor | Sequence[int]) -> list[int]:
    """The integers of a shape tensor or an attribute."""
    return values.reshape(-1).tolist() if isinstance(values, Tensor) else list(values)


def from_front(axes: Tensor | Sequence[int], rank: int) -> list[int]:
    """Axes counted from the front, each in [0, rank).

    Raises:
        IndexError: an axis is outside [-rank, rank).
    """
    result = [axis + rank if axis < 0 else axis for axis in ints(axes)]
    if any(not 0 <= axis < rank for axis in result):
        raise IndexError(f"axes {ints(axes)} do not fit a tensor of rank {rank}")
    return result


def positions(indices: Tensor, size: int) -> Tensor:
    """Indices as int64, negative ones counted from the end of an axis of the given size.

    Raises:
        IndexError: one is outside of [-size, size). torch would count some of these from the end again, and
            on CUDA an index outside ends the process.
    """
    wide = indices.to(torch.int64)
    if not wide.numel():
        return wide
    least, most = (int(bound) for bound in torch.aminmax(wide))
    if least < -size or most >= size:
        raise IndexError(f"index {most if most >= size else least} is outside of an axis of {size}")
    return torch.where(wide < 0, wide + size, wide) if least < 0 else wide
