"""Geometry of the sliding windows of convolution and pooling: strides, dilations and padding."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from intrain_onnx.errors import UnsupportedError

Ints = Sequence[int]


@dataclass(frozen=True, slots=True)
class Window:
    """A sliding window with all defaults resolved; one entry for each spatial axis."""

    kernel: list[int]
    strides: list[int]
    dilations: list[int]
    begin: list[int]
    end: list[int]

    @property
    def symmetric(self) -> bool:
        """Whether padding is symmetric on every axis, as torch's kernels support."""
        return self.begin == self.end

    @property
    def extents(self) -> list[int]:
        """Extent of the dilated kernel: dilation * (kernel - 1) + 1, for each axis."""
        return [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]


def window(
    x: Tensor,
    kernel: Ints,
    strides: Ints | None,
    dilations: Ints | None,
    pads: Ints | None,
    auto_pad: str,
) -> Window:
    """The window that ONNX's attributes describe for an input of shape (N, C, D1, ..., Dn).

    Raises:
        UnsupportedError: not 1 to 3 spatial axes, or a kernel of another rank.
    """
    rank = x.dim() - 2
    if not 1 <= rank <= 3 or len(kernel) != rank:
        raise UnsupportedError(
            f"1 to 3 spatial axes can run, not a kernel {list(kernel)} on an input {list(x.shape)}"
        )
    strides, dilations = list(strides or [1] * rank), list(dilations or [1] * rank)
    begin, end = _pads(list(x.shape[2:]), list(kernel), strides, dilations, pads, auto_pad)
    return Window(list(kernel), strides, dilations, begin, end)


def _pads(
    sizes: list[int],
    kernel: list[int],
    strides: list[int],
    dilations: list[int],
    pads: Ints | None,
    auto_pad: str,
) -> tuple[list[int], list[int]]:
    rank = len(sizes)
    if auto_pad in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((math.ceil(n / s) - 1) * s + (k - 1) * d + 1 - n, 0)
            for n, k, s, d in zip(sizes, kernel, strides, dilations, strict=True)
        ]
        return split_pads(totals, auto_pad)
    if auto_pad == "VALID" or not pads:
        return [0] * rank, [0] * rank
    return list(pads[:rank]), list(pads[rank:])


def split_pads(totals: Ints, auto_pad: str) -> tuple[list[int], list[int]]:
    """Padding at the beginning and the end of each axis; an odd element goes to the end for SAME_UPPER."""
    small, large = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return (small, large) if auto_pad == "SAME_UPPER" else (large, small)


def pad(x: Tensor, begin: Ints, end: Ints, value: float = 0.0) -> Tensor:
    """Pad the last axes; a negative number crops."""
    amounts = [v for pair in zip(reversed(begin), reversed(end), strict=True) for v in pair]
    return functional.pad(x, amounts, value=value) if any(amounts) else x
