#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "tensorflow-cpu>=2.20", "keras>=3.12", "tf2onnx>=1.17", "onnx>=1.23.2", "onnxruntime>=1.22", "numpy",
# ]
# ///
"""Export a Keras model to ONNX with Keras's own exporter, ``model.export`` (tf2onnx inside).

The model is a saved file, a name in ``keras.applications``, or what a factory returns:

    from_keras.py model.keras -o model.onnx
    from_keras.py --application MobileNetV2 --kwargs '{"input_shape": [64, 64, 3]}' --seed 0 -o mobilenet.onnx
    from_keras.py --factory my_nets.py:tiny --seed 0 -o tiny.onnx

A network with fresh weights sees some noise in training mode first: a BatchNorm of fresh statistics shifts by
0, TensorFlow folds that away, and nothing in the file says that a BatchNorm was there.

The batch dimension stays free. The ONNX file is compared with the model on random inputs (onnxruntime, CPU).

Safe by default: a file with Lambda layers or other stored code is refused unless ``--allow-code`` is given. A
factory is code that you name, and it runs.
"""

import argparse
import importlib
import importlib.util
import json
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads; it would write into the home folder
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # oneDNN sums in an order that depends on the machine
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
warnings.filterwarnings("ignore", message=".*np.object.*", category=FutureWarning)

import keras
import numpy as np
import onnx
import onnxruntime as ort
import tf2onnx
import tf2onnx.handler

WARM_UP_BATCH = 16
FREE_SIZE = 32  # for a free dimension other than the batch


@tf2onnx.handler.tf_op("Erfc")
class Erfc:
    """What tf2onnx lacks: the exact GELU of Keras is written with 1 - erf."""

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


def load_factory(reference: str) -> Callable[..., keras.Model]:
    """Resolve ``package.module:callable`` or ``path/to/file.py:callable``."""
    source, _, attribute = reference.rpartition(":")
    if not source:
        raise SystemExit(f"--factory {reference!r}: write MODULE:CALLABLE or FILE.py:CALLABLE")
    if not source.endswith(".py"):
        return getattr(importlib.import_module(source), attribute)
    spec = importlib.util.spec_from_file_location(Path(source).stem, source)
    if spec is None or spec.loader is None:
        raise SystemExit(f"--factory {reference!r}: {source} can't be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, attribute)


def build(args: argparse.Namespace) -> keras.Model:
    """Make or load the model, seeded."""
    keras.utils.set_random_seed(args.seed)
    if args.application:
        weights = None if args.weights == "none" else args.weights
        return getattr(keras.applications, args.application)(weights=weights, **args.kwargs)
    if args.factory:
        return load_factory(args.factory)(**args.kwargs)
    try:
        return keras.saving.load_model(args.model, compile=False, safe_mode=not args.allow_code)
    except ValueError as error:
        raise SystemExit(f"{args.model}: {error}\nIf it holds code that you trust: --allow-code.") from error


def random_inputs(model: keras.Model, batch: int, high: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw float32 noise, or ids below ``high``, for each input of the model."""
    drawn = []
    for tensor in model.inputs:
        shape = (batch, *(d or FREE_SIZE for d in tensor.shape[1:]))
        if "int" in tensor.dtype:
            drawn.append(rng.integers(high, size=shape).astype(tensor.dtype))
        else:
            drawn.append(rng.standard_normal(shape).astype(tensor.dtype))
    return drawn


def call(model: keras.Model, inputs: list[np.ndarray], *, training: bool = False) -> list[np.ndarray]:
    """Run the model on a list of arrays; return its outputs as a flat list of arrays."""
    output = model(inputs if len(inputs) > 1 else inputs[0], training=training)
    return [keras.ops.convert_to_numpy(x) for x in keras.tree.flatten(output)]


def largest_difference(
    model: keras.Model, path: str, batches: Sequence[int], high: int, rng: np.random.Generator
) -> tuple[float, float]:
    """Return the largest difference on random inputs, absolute and relative to the largest output.

    Keras can leave graph inputs behind that nothing reads (its Normalization layer does): they get zeros.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = {tensor.name for tensor in model.inputs}
    left_over = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name not in names}
    absolute = relative = 0.0
    for batch in batches:
        inputs = random_inputs(model, batch, high, rng)
        feeds = {t.name: x for t, x in zip(model.inputs, inputs, strict=True)}
        got = session.run(None, {**feeds, **left_over})
        for reference, have in zip(call(model, inputs), got, strict=True):
            difference = float(np.abs(reference - have).max())
            absolute = max(absolute, difference)
            relative = max(relative, difference / max(float(np.abs(reference).max()), 1e-12))
    return absolute, relative


def convert(args: argparse.Namespace) -> str:
    """Export, check and only then put the file in its place; return the line to print."""
    model = build(args)
    rng = np.random.default_rng(args.seed)
    fresh = not args.model and args.weights == "none"
    for _ in range((2 if fresh else 0) if args.warm_up is None else args.warm_up):
        call(model, random_inputs(model, WARM_UP_BATCH, args.high, rng), training=True)
    call(model, random_inputs(model, 1, args.high, rng))  # Keras exports only a model that was called
    part = f"{args.output}.part"
    options: dict[str, Any] = {"opset_version": args.opset} if args.opset else {}
    try:
        model.export(part, format="onnx", verbose=False, **options)
        proto = onnx.load(part)
        onnx.checker.check_model(proto)
        absolute, relative = largest_difference(model, part, [1, 3], args.high, rng)
        if not relative <= args.tolerance:
            raise SystemExit(f"{args.output}: differs from the model by {relative:.2e} relative; not written")
        os.replace(part, args.output)
    finally:
        Path(part).unlink(missing_ok=True)
    opset = next(o.version for o in proto.opset_import if o.domain == "")
    return (
        f"{args.output}: {args.application or args.factory or args.model} by keras {keras.__version__} and "
        f"tf2onnx {tf2onnx.__version__}, opset {opset}, {model.count_params():,} parameters, "
        f"{Path(args.output).stat().st_size:,} bytes, batch free, "
        f"max |difference| to Keras {absolute:.2e} (relative {relative:.2e})"
    )


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("model", nargs="?", help="a .keras or .h5 file")
    source.add_argument("--application", metavar="NAME", help="a model of keras.applications")
    source.add_argument(
        "--factory", metavar="MODULE:CALLABLE", help="makes the model; FILE.py:CALLABLE works too"
    )
    add = parser.add_argument
    add("--kwargs", type=json.loads, default={}, metavar="JSON", help="keyword arguments of either")
    add("--weights", default="none", help="of the application: none (default), imagenet or FILE")
    add("-o", "--output", required=True, metavar="FILE.onnx")
    add("--opset", type=int, help="default: Keras's own")
    add("--seed", type=int, default=0)
    add(
        "--warm-up",
        type=int,
        metavar="N",
        help="batches of noise for BatchNorm (default: 2 if weights are fresh)",
    )
    add("--high", type=int, default=2, help="integer inputs are ids below this (default 2)")
    add("--allow-code", action="store_true", help="load Lambda layers, which are code stored in the file")
    add("--tolerance", type=float, default=1e-3, help="largest relative difference allowed (default 1e-3)")
    return parser.parse_args(argv)


if __name__ == "__main__":
    print(convert(parse_arguments()))
