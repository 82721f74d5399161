"""Comparison of a converted model's outputs with onnxruntime's. It never changes a score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from intrain_onnx.parity.telemetry import DISTRIBUTIONS, missing
from intrain_onnx.runtime.arrays import to_numpy
from intrain_onnx.versions import version

Array = np.ndarray[Any, Any]

RELATIVE_TOLERANCE = 1e-3
"""Largest allowed difference, relative to the largest magnitude of the output, for float32 arithmetic."""

ABSOLUTE_TOLERANCE = 1e-6
"""onnxruntime's Sigmoid and Softmax have errors of some 1e-7 for outputs close to zero (measured)."""

ROUNDINGS = 16
"""Allowed difference, in unit roundoffs, of a model that computes in float16 or bfloat16 (0.8 % or 6 %): its
values are float32 here."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Comparison of all outputs on one input.

    Attributes:
        reference: name and version of the reference.
        samples: number of samples in the input.
        max_abs_diff: largest difference over all floating-point outputs, in units of the output.
        max_rel_diff: largest ratio of an output's largest difference to its largest magnitude.
        ok: within the tolerance, integer outputs equal; None if the comparison could not be made.
        reason: why not, or what differs.
        round_off: relative change of an output when every operator errs by a round-off of float32, or by one
            rounding to half precision if the model computes in it; only estimated if the outputs
            differ by more than the tolerance.
    """

    reference: str
    samples: int
    max_abs_diff: float | None
    max_rel_diff: float | None
    ok: bool | None
    reason: str | None
    round_off: float | None = None


def label() -> str:
    """Name and version of the reference."""
    if missing() is not None:
        return "onnxruntime, not installed"
    found = (version(name) for name in DISTRIBUTIONS)
    return f"onnxruntime {next(filter(None, found), 'unknown')}"


ALLOWANCE = 4
"""Factor by which a difference may exceed that of equivalent runs (round-off, or onnxruntime itself)."""


Excuse = Callable[[str, bool], "str | None"]
"""From an output's name and whether its shape differs: why correct runs may differ there, or None."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Differences of outputs between equivalent runs of one network.

    Attributes:
        relative: by output, the largest difference over the largest magnitude.
        integers: names of integer outputs that differ.
        what: the cause, as a clause that ends in a verb.
        how: label of the run that differs most.
    """

    relative: Mapping[str, float]
    integers: frozenset[str]
    what: str
    how: str = ""

    @property
    def most(self) -> float:
        """Largest relative difference of any output."""
        return max(self.relative.values(), default=0.0)

    def said(self, name: str) -> str:
        """The difference of an output, in words."""
        size = f" by {self.relative[name]:.2g}" if self.relative.get(name) else " too"
        return f"{self.what}{size}{f' ({self.how})' if self.how else ''}"


def compare(
    ours: Sequence[Tensor],
    reference: Sequence[Array],
    names: Sequence[str],
    samples: int,
    round_off: Callable[[], Spread | None] | None = None,
    steps: Mapping[str, float] | None = None,
    *,
    rounding: float = 0.0,
    how: str = "",
    excuse: Excuse | None = None,
    itself: Callable[[], Spread] | None = None,
) -> Parity:
    """Compare outputs one by one.

    Args:
        ours: outputs of the converted module.
        reference: outputs of onnxruntime, in the same order.
        names: of the outputs.
        samples: number of samples that both were given.
        round_off: called if an output differs by more than the tolerance; returns None if unknown. A model
            that cancels large numbers, such as a variance from two means, amplifies round-off: a difference
            of up to :data:`ALLOWANCE` times its response is no evidence against the conversion.
        steps: quantisation step by output, for outputs computed directly from quantised values. Round-off
            moves values half-way between two steps to either, so a difference of one step is allowed.
        rounding: relative error of one rounding to the type that the model computes in; 0 for float32.
        how: change made to the model for onnxruntime, for the record.
        excuse: returns why a differing output cannot be compared; None if it can.
        itself: for a quantised model; called if an output differs by more than the tolerance.
    """
    tolerance = max(RELATIVE_TOLERANCE, ROUNDINGS * rounding)
    differences = [
        _difference(name, to_numpy(tensor.detach().cpu()), array, (steps or {}).get(name, 0.0), tolerance)
        for name, tensor, array in zip(names, ours, reference, strict=True)
    ]
    unknown, compared = _excused(differences, excuse)
    wrong = [d for d in compared if d.problem]
    amplified = None
    if wrong and itself is not None:
        spread = itself()
        allowed, more, wrong = _beside(wrong, spread)
        unknown += more
        how += f", which differs from itself by {allowed:.2g} ({spread.how})" if allowed else ""
    if round_off is not None and any(not d.other_shape for d in wrong):
        answer = round_off()
        amplified = answer.most if answer is not None else None
        _, more, wrong = _beside(wrong, answer)
        unknown += more
    max_abs, max_rel = (
        max((d.absolute for d in compared), default=None),
        max((d.relative for d in compared), default=None),
    )
    problems = [d.problem for d in wrong if d.problem] or list(dict.fromkeys(unknown))
    finite = max_abs is not None and math.isfinite(max_abs) and math.isfinite(max_rel or 0.0)
    return Parity(
        label() + how,
        samples,
        max_abs if finite else None,
        max_rel if finite else None,
        False if wrong else None if unknown else True,
        "; ".join(problems) or None,
        amplified,
    )


def _excused(
    differences: Sequence[_Difference], excuse: Excuse | None
) -> tuple[list[str], list[_Difference]]:
    """Reasons why some outputs cannot be compared, and the differences of the others."""
    reasons, compared = [], []
    for d in differences:
        reason = excuse(d.name, d.other_shape) if d.problem and excuse is not None else None
        if reason is None:
            compared.append(d)
        else:
            reasons.append(reason)
    return reasons, compared


def _beside(
    wrong: Sequence[_Difference], spread: Spread | None
) -> tuple[float, list[str], list[_Difference]]:
    """Classify differences against those of equivalent runs: largest allowed, undecidable, wrong."""
    allowed, unknown, left = 0.0, [], []
    for d in wrong:
        own = spread.relative.get(d.name, 0.0) if spread is not None else 0.0
        explained = d.numeric and d.relative <= ALLOWANCE * own
        if d.other_shape:
            left.append(d)
        elif spread is None or d.name in spread.integers or (explained and own * ALLOWANCE >= 1):
            unknown.append(d)
        elif explained:
            allowed = max(allowed, own)
        else:
            left.append(d)
    if not unknown:
        return allowed, [], left
    why = spread.said(unknown[0].name) if spread is not None else "the response to round-off is unknown"
    return allowed, [f"cannot decide: {'; '.join(str(d.problem) for d in unknown)}; {why}"], left


@dataclass(frozen=True, slots=True)
class _Difference:
    name: str
    absolute: float
    relative: float
    problem: str | None
    numeric: bool
    other_shape: bool = False


def _difference(name: str, mine: Array, array: Array, step: float, tolerance: float) -> _Difference:
    if mine.shape != array.shape:
        problem = f"{name}: shape {mine.shape} instead of {array.shape}"
        return _Difference(name, 0.0, 0.0, problem, numeric=False, other_shape=True)
    if not _is_float(mine.dtype):
        off = np.abs(mine.astype(np.float64) - array.astype(np.float64)) > step if step else mine != array
        different = int(off.sum())
        problem = f"{name}: {different} of {array.size} integers differ" if different else ""
        return _Difference(name, 0.0, 0.0, problem or None, numeric=False)
    a, b = mine.astype(np.float64), array.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        absolute = float(np.where(same, 0.0, np.abs(a - b)).max(initial=0.0))
    scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
    relative = absolute / scale if scale else absolute
    within = absolute <= tolerance * max(scale, step) + ABSOLUTE_TOLERANCE + step
    said = "" if within else f"{name}: relative difference {relative:.2g}"
    return _Difference(name, absolute, relative, said or None, math.isfinite(absolute))


def _is_float(dtype: np.dtype[Any]) -> bool:
    return dtype.kind == "f" or (dtype.kind == "V" and "float" in dtype.name)  # those of ml_dtypes


def spread_of(
    names: Sequence[str], expected: Sequence[Array], others: Mapping[str, Sequence[Array]], what: str
) -> Spread:
    """Largest differences between the outputs of one run and those of others, keyed by label."""
    relative, integers, most = dict.fromkeys(names, 0.0), set(), (-1.0, "")
    for how, outputs in others.items():
        for name, a, b in zip(names, outputs, expected, strict=True):
            d = _difference(name, a, b, 0.0, RELATIVE_TOLERANCE)
            size = d.relative if d.numeric else 0.0
            relative[name] = max(relative[name], size)
            most = max(most, (size, how))
            if d.problem and not d.numeric and not d.other_shape:
                integers.add(name)
    return Spread(relative, frozenset(integers), what, most[1])


def failed(reason: str, samples: int) -> Parity:
    """The result of a comparison that could not be made."""
    return Parity(label(), samples, None, None, None, reason)
