"""Does the converted model compute what onnxruntime computes? The answer goes into the report, never into a score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
import torch
from torch import Tensor

RELATIVE_TOLERANCE = 1e-3
"""Largest difference over the largest magnitude of the same output, for float32 arithmetic."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Comparison of all outputs on one input.

    Attributes:
        reference: what it was compared with.
        samples: number of samples in the input.
        max_abs_diff: largest difference over all floating-point outputs, in units of the output.
        max_rel_diff: largest ratio of an output's largest difference to its largest magnitude.
        ok: within the tolerance, integer outputs equal; None where the comparison could not be made.
        reason: why not, or what differs.
    """

    reference: str
    samples: int
    max_abs_diff: float | None
    max_rel_diff: float | None
    ok: bool | None
    reason: str | None


def providers(device: torch.device) -> list[str]:
    """Execution providers to ask for; CUDA only where it is, since asking for it elsewhere prints errors."""
    cuda = device.type == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    return ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]


def run_onnxruntime(
    model: str | bytes, inputs: Sequence[tuple[str, np.ndarray]], device: torch.device, threads: int
) -> list[np.ndarray]:
    """Run a model file or serialised model in onnxruntime, quietly and without spinning threads."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=providers(device))
    wanted = {i.name for i in session.get_inputs()}
    outputs = session.run(None, {name: array for name, array in inputs if name in wanted})
    return [np.asarray(o) for o in outputs]


def compare(
    ours: Sequence[Tensor], reference: Sequence[np.ndarray], names: Sequence[str], samples: int
) -> Parity:
    """Compare outputs one by one."""
    label = f"onnxruntime {onnxruntime.__version__}"
    max_abs = max_rel = 0.0
    problems = []
    for name, tensor, array in zip(names, ours, reference, strict=True):
        mine = tensor.detach().cpu()
        mine_array = (mine.float() if mine.dtype == torch.bfloat16 else mine).numpy()
        if mine_array.shape != array.shape:
            problems.append(f"{name}: shape {mine_array.shape} instead of {array.shape}")
            continue
        if array.dtype.kind not in "fV":
            if not np.array_equal(mine_array, array):
                problems.append(f"{name}: {int((mine_array != array).sum())} of {array.size} integers differ")
            continue
        a, b = mine_array.astype(np.float64), array.astype(np.float64)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        difference = float(np.where(same, 0.0, np.abs(a - b)).max(initial=0.0))
        scale = float(np.abs(b[np.isfinite(b)]).max(initial=0.0))
        relative = difference / scale if scale else difference
        max_abs, max_rel = max(max_abs, difference), max(max_rel, relative)
        if not relative <= RELATIVE_TOLERANCE:
            problems.append(f"{name}: relative difference {relative:.2g}")
    finite = np.isfinite(max_abs) and np.isfinite(max_rel)
    return Parity(
        label,
        samples,
        max_abs if finite else None,
        max_rel if finite else None,
        not problems,
        "; ".join(problems) or None,
    )


def failed(reason: str, samples: int) -> Parity:
    """A comparison that could not be made."""
    return Parity(f"onnxruntime {onnxruntime.__version__}", samples, None, None, None, reason)
