"""Comparison, logic and bits."""

from __future__ import annotations

import torch
from torch import Tensor

from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import on_int64

op("And", 7)(torch.logical_and)
op("Or", 7)(torch.logical_or)
op("Xor", 7)(torch.logical_xor)
op("Not", 1)(torch.logical_not)


@op("Equal", 7, 11, 13, 19)
@on_int64
def equal(a: Tensor, b: Tensor) -> Tensor:
    """``a == b``."""
    return torch.eq(a, b)


@op("Greater", 7, 9, 13)
@on_int64
def greater(a: Tensor, b: Tensor) -> Tensor:
    """``a > b``."""
    return torch.gt(a, b)


@op("GreaterOrEqual", 12, 16)
@on_int64
def greater_or_equal(a: Tensor, b: Tensor) -> Tensor:
    """``a >= b``."""
    return torch.ge(a, b)


@op("Less", 7, 9, 13)
@on_int64
def less(a: Tensor, b: Tensor) -> Tensor:
    """``a < b``."""
    return torch.lt(a, b)


@op("LessOrEqual", 12, 16)
@on_int64
def less_or_equal(a: Tensor, b: Tensor) -> Tensor:
    """``a <= b``."""
    return torch.le(a, b)


@op("IsNaN", 9, 13, 20)
def is_nan(x: Tensor) -> Tensor:
    """Where x is not a number."""
    return torch.isnan(x if x.element_size() > 1 else x.float())


@op("IsInf", 10, 20)
def is_inf(x: Tensor, *, detect_negative: int = 1, detect_positive: int = 1) -> Tensor:
    """Where x is infinite, of the detected signs."""
    wide = x if x.element_size() > 1 else x.float()
    if detect_negative and detect_positive:
        return torch.isinf(wide)
    if detect_positive:
        return torch.isposinf(wide)
    return torch.isneginf(wide) if detect_negative else torch.zeros_like(wide, dtype=torch.bool)


@op("Where", 9, 16)
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """``x`` where the condition holds, y elsewhere."""
    return torch.where(condition, x, y)


@op("BitwiseAnd", 18)
@on_int64
def bitwise_and(a: Tensor, b: Tensor) -> Tensor:
    """``a & b``."""
    return torch.bitwise_and(a, b)


@op("BitwiseOr", 18)
@on_int64
def bitwise_or(a: Tensor, b: Tensor) -> Tensor:
    """``a | b``."""
    return torch.bitwise_or(a, b)


@op("BitwiseXor", 18)
@on_int64
def bitwise_xor(a: Tensor, b: Tensor) -> Tensor:
    """``a ^ b``."""
    return torch.bitwise_xor(a, b)


@op("BitwiseNot", 18)
@on_int64
def bitwise_not(x: Tensor) -> Tensor:
    """~x."""
    return torch.bitwise_not(x)


@op("BitShift", 11, 28)
def bit_shift(x: Tensor, y: Tensor, *, direction: str) -> Tensor:
    """``x`` shifted by y bits; a shift past the width leaves only the sign extension."""
    width = 8 * x.element_size()
    bits, shift = x.to(torch.int64), y.to(torch.int64)
    inside = (shift >= 0) & (shift < width)
    shift = torch.where(inside, shift, 0)
    if direction == "LEFT":
        return torch.where(inside, bits << shift, 0).to(x.dtype)
    sign = torch.where(bits < 0, -1, 0)
    if x.dtype != torch.uint64:
        return torch.where(inside, bits >> shift, sign).to(x.dtype)
    kept = (1 << (64 - shift).clamp(max=62)) - 1  # int64 has no unsigned shift: clear the copies of the sign
    return torch.where(
        inside, torch.where(shift > 1, (bits >> shift) & kept, _shift_once(bits, shift)), 0
    ).to(x.dtype)


def _shift_once(bits: Tensor, shift: Tensor) -> Tensor:
    return torch.where(shift == 1, (bits >> 1) & (2**63 - 1), bits)
