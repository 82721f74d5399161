"""What a network reads, in words. Scores measured at other inputs or other sizes cannot be compared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final

from intrain_onnx.report.rows import FedInput
from intrain_onnx.vocabulary import InputKind

_AUXILIARY: Final[frozenset[InputKind]] = frozenset(
    {"ones", "zeros", "positions", "length", "sampling_rate", "offsets", "timestep", "size", "control"}
)
"""Masks, positions and settings: they accompany an input, and say nothing of what a network is for."""

_MOST_LISTED = 4


def in_words(fed: Sequence[FedInput]) -> str:
    """The inputs that carry data, without samples and channels, such as ``images of 64x64``."""
    found = [x for x in fed if x.kind not in _AUXILIARY] or list(fed)
    words = " and ".join(map(_one, found))
    return words if len(found) == 1 else f"{len(found)} inputs: {words}"


def _one(row: FedInput) -> str:
    sizes = row.shape[1:]
    if row.kind == "ids":
        return f"ids of {_times(sizes)}" if sizes else "single ids"
    if row.kind == "edge_index":
        return "edges"
    if len(sizes) >= 3:
        return f"{'images' if len(sizes) == 3 else 'volumes'} of {_times(_without_channels(sizes))}"
    return f"arrays of {_times(sizes)}" if len(sizes) == 2 else "vectors"


def _without_channels(sizes: Sequence[int]) -> Sequence[int]:
    """Spatial sizes: channels are the first (NCHW) or the last (NHWC), whichever is smaller."""
    return sizes[1:] if sizes[0] <= sizes[-1] else sizes[:-1]


def _times(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))


def mixed_inputs(words: Iterable[str | None]) -> str:
    """The warning where inputs, or their sizes, are of more than one kind; empty otherwise.

    Args:
        words: of each network, see `in_words`; None where nothing is known, as in old logs.
    """
    found = Counter(filter(None, words))
    if len(found) < 2:
        return ""
    listed = ", ".join(f"{name} ({number})" for name, number in found.most_common(_MOST_LISTED))
    more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
    return f"scores at different inputs cannot be compared: here {listed}{more}"
