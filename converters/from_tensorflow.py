#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "tensorflow-cpu>=2.20", "tf2onnx>=1.17", "onnx>=1.23.2", "onnxruntime>=1.22", "numpy",
# ]
# ///
"""Export a TensorFlow SavedModel to ONNX with tf2onnx.

    from_tensorflow.py saved_model_folder -o model.onnx
    from_tensorflow.py saved_model_folder --signature score --shape ids=1x16 --high 1000 -o model.onnx

The folder is what ``tf.saved_model.save`` or Keras's ``model.export`` writes. One signature is exported, by
default ``serving_default``. Dimensions that the signature leaves free stay free, the batch among them;
``--shape`` gives the sizes that the check uses for those after the batch, and never changes the file. The
ONNX file is compared with the signature on random inputs (onnxruntime, CPU).

Safe by default: a SavedModel is a program, and loading it runs a part of it. One with an operator that runs
Python, or reads or writes files other than its own variables, is refused unless ``--allow-code`` is given. The
file of ``--import`` is code that you name, and it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn


class Parser(argparse.ArgumentParser):
    """A command line that is refused in one line."""

    def error(self, message: str) -> NoReturn:
        """End with 2."""
        self.exit(2, f"{self.prog}: {message}. --help tells what there is.\n")


def json_object(text: str) -> dict[str, Any]:
    """Read keyword arguments."""
    try:
        found = json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON ({error})") from None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object, such as {{\"width\": 64}}")
    return found


def output_file(text: str) -> str:
    """Refuse a place that nothing can be written to, before anything is made."""
    if not Path(text).absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text}: no such folder")
    return text


def needed() -> str:
    """Tell how to get the packages that the first lines of this file ask for."""
    block = Path(__file__).read_text(encoding="utf-8").split("# ///")[1]
    packages = " ".join(f"'{name}'" for name in re.findall(r'"([a-z][^"]*)"', block))
    alone = f"in an environment of its own: pip install {packages}"
    return f"`uv run {__file__}` brings what it needs, or {alone}"


@contextlib.contextmanager
def refused(what: str, *, debug: bool) -> Iterator[None]:
    """End the program with one line where the framework, or code of the user's, raises."""
    try:
        yield
    except Exception as error:
        if debug:
            raise
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")[:300]
        lacks = isinstance(error, ModuleNotFoundError) and f"'{error.name}" in needed()
        after = f". {needed()}" if lacks else " (--debug shows where)"
        raise SystemExit(f"{what}: {type(error).__name__}: {said}{after}") from None


def named_shape(text: str) -> tuple[str, tuple[int, ...]]:
    """Read ``NAME=1x32x32x3``."""
    match = re.fullmatch(r"(\w+)=(\d+(?:x\d+)*)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=1x32x32x3")
    return match[1], tuple(int(d) for d in match[2].split("x"))


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("model", help="the folder of a SavedModel")
    add("--signature", default="serving_default", metavar="NAME")
    add("--shape", type=named_shape, action="append", default=[], metavar="NAME=SHAPE", help="for the check")
    add("-o", "--output", type=output_file, required=True, metavar="FILE.onnx")
    add("--opset", type=int, default=18, help="18 by default, the newest that tf2onnx writes")
    add("--seed", type=int, default=0, help="of the random inputs")
    add("--high", type=int, default=2, help="integer inputs are ids below this (default 2)")
    add(
        "--import",
        dest="import_",
        action="append",
        default=[],
        metavar="FILE.py",
        help="runs first: loads a library of operators, or tells tf2onnx of one (tf2onnx.handler)",
    )
    add("--allow-code", action="store_true", help="load a model that runs Python or touches files")
    add("--debug", action="store_true", help="show the traceback of an error")
    add("--tolerance", type=float, default=1e-3, help="largest relative difference allowed (default 1e-3)")
    return parser.parse_args(argv)


ARGUMENTS = parse_arguments() if __name__ == "__main__" else None
"""Read before the framework loads: help, and what is wrong here, need no framework and take no time."""

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads; it would write into the home folder
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # oneDNN sums in an order that depends on the machine
warnings.filterwarnings("ignore", message=".*np.object.*", category=FutureWarning)
logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it lacks, its exception says, too
try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    import tensorflow as tf
    import tf2onnx
    import tf2onnx.handler
    from tensorflow.core.protobuf import saved_model_pb2
except ImportError as error:
    if ARGUMENTS is None or ARGUMENTS.debug:
        raise
    raise SystemExit(f"{Path(sys.argv[0]).name}: {error}. {needed()}") from None

FREE_SIZE = 32  # for a free dimension other than the batch, unless --shape says another
CODE = re.compile(r"PyFunc|ReadFile|WriteFile|MatchingFiles|ReaderV?2?$|LineDataset|RecordDataset|Remote|Rpc")
"""Operators that run Python, touch files or call other machines."""


@tf2onnx.handler.tf_op("Erfc")
class Erfc:
    """What tf2onnx lacks: the exact GELU of TensorFlow is written with 1 - erf."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **kwargs: Any) -> None:
        """Write Erfc as 1 - Erf."""
        shape, dtype = ctx.get_shape(node.output[0]), ctx.get_dtype(node.output[0])
        ctx.remove_node(node.name)
        one = ctx.make_const(f"{node.name}_one", np.ones((), np.float32))
        erf = ctx.make_node("Erf", node.input, name=f"{node.name}_erf", shapes=[shape], dtypes=[dtype])
        ctx.make_node(
            "Sub",
            [one.output[0], erf.output[0]],
            outputs=node.output,
            name=node.name,
            shapes=[shape],
            dtypes=[dtype],
        )


def load_file(path: str) -> ModuleType:
    """Run a Python file as a module; what lies beside it can be imported."""
    spec = importlib.util.spec_from_file_location(Path(path).stem, path)
    if spec is None or spec.loader is None or not Path(path).is_file():
        raise SystemExit(f"{path}: not a Python file that can be imported")
    sys.path.append(str(Path(path).resolve().parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def refuse_code(folder: str) -> None:
    """Read the program without running it; end where it has an operator that does more than arithmetic."""
    path = Path(folder) / "saved_model.pb"
    if not path.is_file():
        raise SystemExit(f"{folder}: no SavedModel, it has no saved_model.pb")
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta in saved.meta_graphs:
        functions = (node for f in meta.graph_def.library.function for node in f.node_def)
        nodes: Iterable[tf.compat.v1.NodeDef] = (*meta.graph_def.node, *functions)
        found = sorted({node.op for node in nodes if CODE.search(node.op)})
        if found:
            raise SystemExit(f"{folder}: holds {', '.join(found)}. If you trust what it does: --allow-code.")


def random_inputs(
    specs: Sequence[tf.TensorSpec], batch: int, args: argparse.Namespace, rng: np.random.Generator
) -> list[np.ndarray]:
    """Draw noise, or ids below ``--high``, for each input of the signature."""
    drawn = []
    for spec in specs:
        given = dict(args.shape).get(spec.name)
        known = [None] * len(given) if spec.shape.rank is None and given else list(spec.shape)
        chosen = given or [FREE_SIZE] * len(known)
        shape = [d or c for d, c in zip(known, chosen, strict=True)]
        if known and known[0] is None:
            shape[0] = batch
        dtype = spec.dtype.as_numpy_dtype
        draw = rng.integers(args.high, size=shape) if spec.dtype.is_integer else rng.standard_normal(shape)
        drawn.append(draw.astype(dtype))
    return drawn


def load(args: argparse.Namespace) -> tuple[Callable[..., list[tf.Tensor]], list[tf.TensorSpec], int]:
    """Load one signature; return it as a function of a list, its inputs, and its number of parameters."""
    for path in args.import_:
        with refused(f"--import {path}", debug=args.debug):
            load_file(path)
    with refused(args.model, debug=args.debug):
        if not args.allow_code:
            refuse_code(args.model)
        module = tf.saved_model.load(args.model)
    if args.signature not in module.signatures:
        raise SystemExit(
            f"--signature {args.signature}: the model has {', '.join(module.signatures) or 'none'}"
        )
    signature = module.signatures[args.signature]
    specs = [
        tf.TensorSpec(spec.shape, spec.dtype, name)
        for name, spec in signature.structured_input_signature[1].items()
    ]

    @tf.function(input_signature=specs)
    def function(*inputs: tf.Tensor) -> list[tf.Tensor]:
        outputs = signature(**{spec.name: x for spec, x in zip(specs, inputs, strict=True)})
        return [tf.identity(outputs[name], name) for name in sorted(outputs)]

    function.module = module  # the variables live as long as the module
    parameters = sum(int(np.prod(v.shape)) for v in signature.variables if v.dtype.is_floating)
    return function, specs, parameters


def largest_difference(
    function: Callable[..., list[tf.Tensor]],
    path: str,
    specs: Sequence[tf.TensorSpec],
    args: argparse.Namespace,
) -> tuple[float, float]:
    """Return the largest difference on random inputs, absolute and relative to the largest output."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    wanted = {i.name for i in session.get_inputs()}
    rng = np.random.default_rng(args.seed)
    absolute = relative = 0.0
    for batch in (1, 3):
        inputs = random_inputs(specs, batch, args, rng)
        got = session.run(None, {s.name: x for s, x in zip(specs, inputs, strict=True) if s.name in wanted})
        for want, have in zip(function(*inputs), got, strict=True):
            reference = want.numpy()
            difference = float(np.abs(reference - have).max())
            absolute = max(absolute, difference)
            relative = max(relative, difference / max(float(np.abs(reference).max()), 1e-12))
    return absolute, relative


def convert(args: argparse.Namespace) -> str:
    """Export, check and only then put the file in its place; return the line to print."""
    function, specs, parameters = load(args)
    part = f"{args.output}.part"
    try:
        with refused(f"{args.model}: tf2onnx", debug=args.debug):
            proto, _ = tf2onnx.convert.from_function(function, specs, opset=args.opset, output_path=part)
            onnx.checker.check_model(proto)
        with refused(f"{args.model} on random inputs", debug=args.debug):
            absolute, relative = largest_difference(function, part, specs, args)
        if not relative <= args.tolerance:
            raise SystemExit(f"{args.output}: differs from the model by {relative:.2e} relative; not written")
        os.replace(part, args.output)
    finally:
        Path(part).unlink(missing_ok=True)
    free = all(spec.shape.rank is None or (spec.shape.rank and spec.shape[0] is None) for spec in specs)
    opset = next(o.version for o in proto.opset_import if o.domain == "")
    kept = sum(node.op_type == "BatchNormalization" for node in proto.graph.node)
    return (
        f"{args.output}: {args.model} ({args.signature}) by tf2onnx {tf2onnx.__version__} (tensorflow "
        f"{tf.__version__}), opset {opset}, {parameters:,} parameters, {kept} BatchNorm kept, "
        f"{Path(args.output).stat().st_size:,} bytes, batch {'free' if free else 'as in the signature'}, "
        f"max |difference| to TensorFlow {absolute:.2e} (relative {relative:.2e})"
    )


if ARGUMENTS is not None:
    print(convert(ARGUMENTS))
