"""Sub-byte element types and 8-bit floats, which torch stores but does not compute on.

A tensor of int4, uint4, int2, uint2 or float4 stores one element per byte under torch's dtype, so views,
reshapes and permutations work; ``decode`` and ``encode`` convert to a type that torch computes on and back.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def _dtype(name: str) -> torch.dtype | None:
    return getattr(torch, name, None)


INT4, UINT4, INT2, UINT2 = (_dtype(name) for name in ("int4", "uint4", "int2", "uint2"))
FLOAT4 = _dtype("float4_e2m1fn_x2")  # since torch 2.8
FLOAT8_E8M0 = _dtype("float8_e8m0fnu")  # since torch 2.7

_SMALL_INTS = {INT4: 4, UINT4: 4, INT2: 2, UINT2: 2}
_SIGNED = {INT4, INT2}
_FLOAT8 = {torch.float8_e4m3fn, torch.float8_e4m3fnuz, torch.float8_e5m2, torch.float8_e5m2fnuz}
_FLOAT4_VALUES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
_FLOAT4_TIES_DOWN = (0.25, 1.25, 2.5, 5.0)  # halfway values whose lower neighbour has the even code
_FLOAT4_TIES_UP = (0.75, 1.75, 3.5)


def decode(x: Tensor) -> Tensor:
    """The values as int8, uint8 or float32; a tensor of any other type is returned unchanged."""
    if x.dtype in _SMALL_INTS:
        return x.view(torch.int8 if x.dtype in _SIGNED else torch.uint8)
    if x.dtype == FLOAT4:
        codes = x.view(torch.uint8).to(torch.int64)
        magnitude = torch.tensor(_FLOAT4_VALUES, device=x.device)[codes & 7]
        return torch.where(codes & 8 != 0, -magnitude, magnitude)
    return x.float() if x.dtype in _FLOAT8 or x.dtype == FLOAT8_E8M0 else x


def encode(x: Tensor, dtype: torch.dtype, *, saturate: bool = True, round_mode: str = "up") -> Tensor:
    """Values as ``dtype``, by the rules of ONNX's Cast.

    Sub-byte integers keep the low bits. Floats round to nearest, ties to even; with ``saturate``, values out
    of range become the largest finite one. ``round_mode`` (up, down, nearest) is for float8e8m0 only.
    """
    if dtype in _SMALL_INTS:
        return _encode_integer(x, dtype)
    if dtype == FLOAT4:
        return _encode_float4(x.float())
    if dtype == FLOAT8_E8M0:
        return _encode_e8m0(x.float(), saturate, round_mode).view(dtype)
    if dtype in _FLOAT8:
        return _encode_float8(x if x.is_floating_point() else x.float(), dtype, saturate)
    return x.to(dtype)


def _encode_float8(x: Tensor, dtype: torch.dtype, saturate: bool) -> Tensor:
    limit = torch.finfo(dtype).max
    if saturate:
        return x.clamp(-limit, limit).to(dtype)
    if (
        dtype == torch.float8_e4m3fn
    ):  # some versions of torch saturate it; from halfway to the next, it is NaN
        x = torch.where(x.abs() > limit + 16, math.nan, x)
    return x.to(dtype)


def _encode_integer(x: Tensor, dtype: torch.dtype) -> Tensor:
    width = _SMALL_INTS[dtype]
    low = x.to(torch.int64) & ((1 << width) - 1)
    if dtype not in _SIGNED:
        return low.to(torch.uint8).view(dtype)
    sign = 1 << (width - 1)
    return ((low ^ sign) - sign).to(torch.int8).view(dtype)


def _encode_float4(x: Tensor) -> Tensor:
    size = x.abs().unsqueeze(-1)
    above = (size > torch.tensor(_FLOAT4_TIES_DOWN, device=x.device)).sum(-1)
    codes = above + (size >= torch.tensor(_FLOAT4_TIES_UP, device=x.device)).sum(-1)
    assert FLOAT4 is not None
    return torch.where(torch.signbit(x), codes + 8, codes).to(torch.uint8).view(FLOAT4)


def _encode_e8m0(x: Tensor, saturate: bool, round_mode: str) -> Tensor:
    """The exponent byte of each float32, rounded by its fraction; 255 is NaN."""
    bits = x.contiguous().view(torch.int32).to(torch.int64)
    exponent, fraction = (bits >> 23) & 0xFF, bits & 0x7FFFFF
    up = _rounds_up(exponent, fraction, round_mode) & (exponent < (254 if saturate else 255))
    return torch.where(up, exponent + 1, exponent).to(torch.uint8)


def _rounds_up(exponent: Tensor, fraction: Tensor, round_mode: str) -> Tensor:
    if round_mode == "down":
        return torch.zeros_like(fraction, dtype=torch.bool)
    if round_mode == "up":
        return fraction > 0
    half = 0x400000
    return (fraction > half) | ((fraction == half) & (exponent > 0))
