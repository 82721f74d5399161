"""Dequantisation arithmetic on numpy arrays: per tensor, per axis, per block, and packed 2- to 8-bit weights.

Results are float32 arithmetic, as ONNX specifies. Functions return None if shapes or types do not match: the
caller then leaves the node of the untrusted file unchanged.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def dequantise(x: Array, scale: Array, zero: Array | None, axis: int = 1, block: int = 0) -> Array | None:
    """(x - zero) * scale, with a scale per tensor, per index of an axis, or per block along it.

    Args:
        x: integers, or floats of 8 bits and less.
        scale: a scalar, a vector along ``axis``, or of x's rank with ``axis`` divided by ``block``.
        zero: of the shape of ``scale``; None for zero.
        axis: may be negative.
        block: elements of a block; 0 for no blocks.
    """
    if scale.dtype.kind in "iub" or (scale.size > 1 and not -x.ndim <= axis < x.ndim):
        return None
    factors = _spread(scale, x, axis, block)
    shifts = np.zeros((), np.float32) if zero is None else _spread(zero, x, axis, block)
    if factors is None or shifts is None:
        return None
    exact = np.float64 if x.dtype.itemsize > 2 else np.float32  # biases of 32 bits
    shifted: Array = x.astype(exact) - shifts.astype(exact)
    floats: Array = shifted.astype(np.float32) * factors
    return floats


def _spread(values: Array, x: Array, axis: int, block: int) -> Array | None:
    """Values in float32, shaped to broadcast with x."""
    values = values.astype(np.float32)
    if values.size == 1:
        return values.reshape(())
    size = x.shape[axis]
    if block > 0:
        if values.ndim != x.ndim or values.shape[axis] != -(-size // block):
            return None
        others = [
            (a, b) for i, (a, b) in enumerate(zip(values.shape, x.shape, strict=True)) if i != axis % x.ndim
        ]
        if any(a != b for a, b in others):
            return None
        return np.take(values, np.arange(size) // block, axis)
    if values.size != size:
        return None
    return values.reshape([-1 if i == axis % x.ndim else 1 for i in range(x.ndim)])


def unpack(packed: Array, bits: int) -> Array:
    """Unpack 2-, 4- or 8-bit numbers from the bytes of the last axis, low bits first."""
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    numbers = (packed[..., None] >> shifts) & np.uint8(2**bits - 1)
    return numbers.reshape(*packed.shape[:-1], -1)


def block_weight(
    packed: Array, scales: Array, zeros: Array | None, *, rows: int, columns: int, block: int, bits: int
) -> Array | None:
    """The dequantised (columns, rows) weight of MatMulNBits.

    Args:
        packed: uint8, ``rows`` rows of blocks of ``bits``-bit numbers.
        scales: one for each block.
        zeros: zero points, packed like the numbers, or one float for each block; None for 2**(bits - 1).
        rows: N, the outputs.
        columns: K, the inputs.
        block: numbers that share a scale, a power of two of 16 or more.
        bits: 2, 4 or 8.
    """
    if bits not in (2, 4, 8) or block < 1 or rows < 1 or columns < 1 or packed.dtype != np.uint8:
        return None
    blocks = -(-columns // block)
    fits = packed.size * 8 == rows * blocks * block * bits and scales.size == rows * blocks
    if not fits:
        return None
    values = unpack(packed.reshape(rows, blocks, -1), bits).astype(np.float32)
    middle = _zero_points(zeros, rows, blocks, bits)
    if middle is None:
        return None
    weight = (values - middle) * scales.astype(np.float32).reshape(rows, blocks, 1)
    return np.ascontiguousarray(weight.reshape(rows, -1)[:, :columns].T)


def _zero_points(zeros: Array | None, rows: int, blocks: int, bits: int) -> Array | None:
    if zeros is None:
        return np.full((1, 1, 1), 2.0 ** (bits - 1), np.float32)
    if zeros.dtype != np.uint8:
        return zeros.astype(np.float32).reshape(rows, blocks, 1) if zeros.size == rows * blocks else None
    if zeros.size != rows * math.ceil(blocks * bits / 8):
        return None
    return unpack(zeros.reshape(rows, -1), bits)[:, :blocks].astype(np.float32)[..., None]
