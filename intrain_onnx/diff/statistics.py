"""Differences of two tensors: relative error, signal to noise, correlation. Sums are kept in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from intrain_onnx.diff.rows import Compared

Array = np.ndarray[Any, Any]

_PART = 2**22
"""Elements processed at a time."""


@dataclass
class Sums:
    """Running sums over pairs of tensors of equal shapes: a of the first file, b of the second.

    Pairs that are not finite in a are left out; ``lost`` counts those that are not finite in b alone.
    """

    count: int = 0
    a: float = 0.0
    b: float = 0.0
    aa: float = 0.0
    bb: float = 0.0
    ab: float = 0.0
    dd: float = 0.0
    most: float = 0.0
    lost: int = 0
    equal: bool = True

    def add(self, a: Array, b: Array) -> None:
        """Take in a pair.

        Raises:
            ValueError: the shapes differ.
        """
        if a.shape != b.shape:
            raise ValueError(f"shapes {a.shape} and {b.shape}")
        a, b = a.reshape(-1), b.reshape(-1)
        for start in range(0, a.size, _PART):
            self._add(a[start : start + _PART], b[start : start + _PART])

    def _add(self, a: Array, b: Array) -> None:
        self.equal = self.equal and bool(np.array_equal(a, b, equal_nan=True))
        a, b = a.astype(np.float64), b.astype(np.float64)
        good = np.isfinite(a)
        self.lost += int(np.count_nonzero(good & ~np.isfinite(b)))
        good &= np.isfinite(b)
        if not good.all():
            a, b = a[good], b[good]
        difference = a - b
        self.count += a.size
        self.a += float(a.sum())
        self.b += float(b.sum())
        self.aa += float(a @ a)
        self.bb += float(b @ b)
        self.ab += float(a @ b)
        self.dd += float(difference @ difference)
        self.most = max(self.most, float(np.abs(difference).max(initial=0.0)))

    def row(self) -> Compared:
        """The figures; signal to noise is null where nothing differs, or where a is zero."""
        relative = math.sqrt(self.dd / self.aa) if self.aa else (0.0 if self.dd == 0 else None)
        return Compared(
            elements=self.count,
            equal=self.equal,
            relative_error=relative,
            snr_db=10 * math.log10(self.aa / self.dd) if self.aa and self.dd else None,
            correlation=self._correlation(),
            max_abs_error=self.most,
            not_finite=self.lost,
        )

    def _correlation(self) -> float | None:
        if not self.count:
            return None
        varying_a = self.aa - self.a**2 / self.count
        varying_b = self.bb - self.b**2 / self.count
        if varying_a <= 1e-12 * self.aa or varying_b <= 1e-12 * self.bb:
            return None
        together = self.ab - self.a * self.b / self.count
        return max(-1.0, min(1.0, together / math.sqrt(varying_a * varying_b)))


def of(a: Array, b: Array) -> Compared:
    """The difference of one pair of tensors of equal shapes."""
    sums = Sums()
    sums.add(a, b)
    return sums.row()
