"""Comparison of a converted model's outputs with onnxruntime's. It never changes a score."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from intrain_onnx.runtime.arrays import to_numpy
from intrain_onnx.runtime.interpreter import run
from intrain_onnx.versions import version

RELATIVE_TOLERANCE = 1e-3
"""Largest allowed difference, relative to the largest magnitude of the output, for float32 arithmetic."""

ABSOLUTE_TOLERANCE = 1e-6
"""onnxruntime's Sigmoid and Softmax have errors of some 1e-7 for outputs close to zero (measured)."""

ROUND_OFF = 2.0**-20
"""Relative error of a float32 operator in each element: 8 units in the last place, as for a sum of some
hundred terms in another order."""

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
        round_off: response to round-off (see `response_to_round_off`), estimated only if an output differs by
            more than the tolerance.
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
    found = (version(name) for name in ("onnxruntime-gpu", "onnxruntime"))
    return f"onnxruntime {next(filter(None, found), 'unknown')}"


def compare(
    ours: Sequence[Tensor],
    reference: Sequence[np.ndarray[Any, Any]],
    names: Sequence[str],
    samples: int,
    round_off: Callable[[], float] | None = None,
    steps: Mapping[str, float] | None = None,
    *,
    rounding: float = 0.0,
    how: str = "",
) -> Parity:
    """Compare outputs one by one.

    Args:
        ours: outputs of the converted module.
        reference: outputs of onnxruntime, in the same order.
        names: of the outputs.
        samples: number of samples that both were given.
        round_off: called if an output differs by more than the tolerance. An ill-conditioned model, such as
            one with catastrophic cancellation in a variance, amplifies round-off; a difference of up to four
            times its response is no conversion error.
        steps: quantisation step by output, for outputs that are quantised values. Round-off decides between
            two steps at a tie, so a difference of one step is allowed.
        rounding: unit roundoff of the type that the model computes in; 0 for float32.
        how: appended to the name of the reference: changes of the model for onnxruntime.
    """
    tolerance = max(RELATIVE_TOLERANCE, ROUNDINGS * rounding)
    differences = [
        _difference(name, tensor.detach().cpu(), array, (steps or {}).get(name, 0.0), tolerance)
        for name, tensor, array in zip(names, ours, reference, strict=True)
    ]
    problems = [d.problem for d in differences if d.problem]
    max_abs, max_rel = (
        (max((d.absolute for d in differences), default=0.0)),
        max((d.relative for d in differences), default=0.0),
    )
    amplified = None
    if problems and round_off is not None and all(d.numeric for d in differences if d.problem):
        amplified = round_off()
        if max_rel <= 4 * amplified:
            problems = []
    finite = math.isfinite(max_abs) and math.isfinite(max_rel)
    return Parity(
        label() + how,
        samples,
        max_abs if finite else None,
        max_rel if finite else None,
        not problems,
        "; ".join(problems) or None,
        amplified,
    )


@dataclass(frozen=True, slots=True)
class _Difference:
    absolute: float
    relative: float
    problem: str | None
    numeric: bool


def _difference(
    name: str, tensor: Tensor, array: np.ndarray[Any, Any], step: float, tolerance: float
) -> _Difference:
    mine = to_numpy(tensor)
    if mine.shape != array.shape:
        return _Difference(0.0, 0.0, f"{name}: shape {mine.shape} instead of {array.shape}", False)
    if not tensor.is_floating_point():
        off = np.abs(mine.astype(np.float64) - array.astype(np.float64)) > step if step else mine != array
        different = int(off.sum())
        problem = f"{name}: {different} of {array.size} integers differ" if different else None
        return _Difference(0.0, 0.0, problem, False)
    a, b = mine.astype(np.float64), array.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        absolute = float(np.where(same, 0.0, np.abs(a - b)).max(initial=0.0))
    scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
    relative = absolute / scale if scale else absolute
    within = absolute <= tolerance * max(scale, step) + ABSOLUTE_TOLERANCE + step
    problem = None if within else f"{name}: relative difference {relative:.2g}"
    return _Difference(absolute, relative, problem, math.isfinite(absolute))


def response_to_round_off(
    module: fx.GraphModule, inputs: Sequence[Tensor], rounding: float = 0.0, trials: int = 3
) -> float:
    """Perturbation analysis: the largest relative change of an output over ``trials`` perturbed runs.

    Each element of each float32 value is multiplied by 1 + e N(0, 1), e the larger of :data:`ROUND_OFF` and
    ``rounding``.
    """
    error = max(ROUND_OFF, rounding)
    generator = torch.Generator(device=inputs[0].device if inputs else "cpu").manual_seed(0)

    def disturb(parts: list[Tensor]) -> list[Tensor]:
        return [
            p * (1 + error * torch.randn(p.shape, generator=generator, device=p.device, dtype=torch.float32))
            if p.dtype == torch.float32
            else p
            for p in parts
        ]

    graphs = [m.graph for m in module.modules() if isinstance(m, fx.GraphModule)]
    values = [name for graph in graphs for n in graph.nodes for name in n.meta.get("onnx_outputs", ())]
    with torch.no_grad():
        exact = run(module, inputs)
        largest = 0.0
        for _ in range(trials):
            for a, b in zip(run(module, inputs, dict.fromkeys(values, disturb)), exact, strict=True):
                if b[0].is_floating_point() and b[0].numel():
                    scale = b[0].abs().amax().item()
                    change = (a[0] - b[0]).abs().amax().item()
                    largest = max(largest, change / scale if scale else change)
    return largest if math.isfinite(largest) else 0.0


def failed(reason: str, samples: int) -> Parity:
    """The result of a comparison that could not be made."""
    return Parity(label(), samples, None, None, None, reason)
