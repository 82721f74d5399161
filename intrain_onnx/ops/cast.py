"""Conversion between element types."""

from __future__ import annotations

from torch import Tensor, dtype

from intrain_onnx.ops.narrow import decode, encode
from intrain_onnx.ops.registry import op


@op("Cast", 6, 9, 13, 19, 21, 23, 24, 25, 28)
def cast(x: Tensor, *, to: dtype, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Cast to another element type; floats are truncated towards zero to integers."""
    return encode(decode(x), to, saturate=bool(saturate), round_mode=round_mode)


@op("CastLike", 15, 19, 21, 23, 24, 25)
def cast_like(x: Tensor, target_type: Tensor, *, saturate: int = 1, round_mode: str = "up") -> Tensor:
    """Cast to the element type of another tensor."""
    return cast(x, to=target_type.dtype, saturate=saturate, round_mode=round_mode)


@op("BitCast", 26)
def bit_cast(x: Tensor, *, to: dtype) -> Tensor:
    """Reinterpret the bits as another type of the same width."""
    return x.view(to)
