"""The step of a checkpoint: the last number of its file's name, or its place."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

_LARGEST = 2**53


def number_in(path: str | Path) -> int | None:
    """The last number in the name of a file, without its ending; None without one.

    >>> number_in("run3/epoch2-step0120.onnx"), number_in("last.onnx")
    (120, None)
    """
    found = re.findall(r"[0-9]+", Path(path).stem)
    number = int(found[-1][:20]) if found else None
    return number if number is not None and number < _LARGEST else None


def numbered(paths: Sequence[str], known: Mapping[str, int]) -> dict[str, int]:
    """The step of each path: by the names if all have a number of their own, else in the order given.

    Args:
        paths: distinct.
        known: the steps of paths of an earlier run, which stay.
    """
    new = [path for path in paths if path not in known]
    numbers = [number_in(path) for path in new]
    taken = set(known.values())
    if None not in numbers and len({*numbers, *taken}) == len(numbers) + len(taken):
        return {**known, **{path: n for path, n in zip(new, numbers, strict=True) if n is not None}}
    start = max(taken, default=-1) + 1
    return {**known, **{path: start + i for i, path in enumerate(new)}}


def arrived(path: str, taken: Collection[int]) -> int:
    """The step of a file that appears in a folder: its number if that is free, else one after the last."""
    number = number_in(path)
    return number if number is not None and number not in taken else max(taken, default=-1) + 1
