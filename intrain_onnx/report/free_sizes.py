"""Sizes of the dimensions that a file leaves open, with their sources."""

from __future__ import annotations

from collections.abc import Iterator

from intrain_onnx.config import ScoreConfig
from intrain_onnx.network.input_shapes import InputSpec, Signature
from intrain_onnx.report import rows
from intrain_onnx.rewrites.solve_sizes import Solved
from intrain_onnx.vocabulary import SizeSource


def free_sizes(used: Signature, solved: Solved, config: ScoreConfig) -> Iterator[rows.FreeSize]:
    """One row for each free axis of each input, in graph order."""
    for spec in used.inputs:
        for axis, name in enumerate(spec.declared):
            if not isinstance(name, int):
                source, reason = _source(spec, axis, used, solved, config)
                yield rows.FreeSize(spec.name, axis, name, spec.shape[axis], source, reason)


def _source(
    spec: InputSpec, axis: int, used: Signature, solved: Solved, config: ScoreConfig
) -> tuple[SizeSource, str | None]:
    name = spec.declared[axis]
    batch = {s.declared[s.batch_axis] for s in used.inputs if s.batch_axis is not None}
    if axis == spec.batch_axis or (name is not None and name in batch):
        return "samples", None
    key = name if isinstance(name, str) else f"{spec.name}[{axis}]"
    if key in solved.why:
        return solved.why[key]
    if key in used.free:
        return ("operator", used.why[key]) if key in used.why else ("usual", None)
    same = [s.name for s in used.inputs if s is spec or (name is not None and name in s.declared)]
    if any(one in config.input_shapes for one in same):
        return "option", None
    if any(one in used.given for one in same):
        return "given", None
    return "arithmetic", None
