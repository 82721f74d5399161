"""What others' programs make of a model: optimisers, and ONNX's version converter."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import onnxruntime as ort
from numpy.random import Generator
from onnx import version_converter

from .editing import Function, rewrite

LEVELS = {
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
}


def optimise(proto: onnx.ModelProto, level: str) -> onnx.ModelProto:
    """What onnxruntime's optimiser writes at a level."""
    options = ort.SessionOptions()
    options.graph_optimization_level = LEVELS[level]
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(path)
        ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


def simplify(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnxsim

    result: onnx.ModelProto
    result, good = onnxsim.simplify(proto)
    if not good:
        raise RuntimeError("onnxsim: its own check failed")
    return result


def slim(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnxslim

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    result: onnx.ModelProto = onnxslim.slim(copy)
    return result


def run_passes(proto: onnx.ModelProto) -> onnx.ModelProto:
    import onnxoptimizer

    passes = onnxoptimizer.get_fuse_and_elimination_passes()
    result: onnx.ModelProto = onnxoptimizer.optimize(proto, passes)
    return result


OPTIMISERS: dict[str, tuple[str, Callable[[onnx.ModelProto], onnx.ModelProto]]] = {
    **{f"onnxruntime_{level}": ("onnxruntime", partial(optimise, level=level)) for level in LEVELS},
    "onnxsim": ("onnxsim", simplify),
    "onnxslim": ("onnxslim", slim),
    "onnxoptimizer": ("onnxoptimizer", run_passes),
}
"""Name -> the package, and what it makes of a model."""


def _without_chance(run: Callable[[onnx.ModelProto], onnx.ModelProto]) -> Function:
    return lambda proto, rng: run(proto)


for _name, (_package, _run) in OPTIMISERS.items():
    rewrite(_without_chance(_run), _name, _package)


def _version(proto: onnx.ModelProto) -> int:
    return int(next(o.version for o in proto.opset_import if o.domain in {"", "ai.onnx"}))


def opset_raised(proto: onnx.ModelProto, rng: Generator) -> onnx.ModelProto | None:
    """The version converter to a newer opset."""
    version, newest = _version(proto), onnx.defs.onnx_opset_version()
    if version >= newest - 1:
        return None
    return version_converter.convert_version(proto, int(rng.integers(version + 1, newest)))


def opset_lowered(proto: onnx.ModelProto, rng: Generator) -> onnx.ModelProto | None:
    """The version converter to an older opset."""
    version = _version(proto)
    if version <= 13:
        return None
    return version_converter.convert_version(proto, int(rng.integers(13, version)))


rewrite(opset_raised, tool="onnx")
rewrite(opset_lowered, tool="onnx")
