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

A network whose every bias, scale and statistic is as it was initialised, so that it was never trained, sees
some noise in training mode first: a BatchNorm of fresh statistics shifts by 0, TensorFlow folds that away,
and nothing in the file says that a BatchNorm was there. This moves statistics that are fresh, and nothing
else; a trained model, a saved one among them, is exported as it is. ``--warm-up 0`` turns it off,
``--warm-up N`` asks for it where a model is partly trained.

Custom layers, and other classes or functions that a saved model names, are in the file of ``--import FILE.py``:

    from_keras.py model.keras --import my_layers.py -o model.onnx

The batch dimension stays free. The ONNX file is compared on random inputs (onnxruntime, CPU) with what the
model computed before anything touched it, or after the warm-up if there was one; the line that is printed
says which, and how far the warm-up moved the outputs.

Safe by default: a file with Lambda layers or other stored code is refused unless ``--allow-code`` is given. A
factory, and the file of ``--import``, is code that you name, and it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import json
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
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


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("model", nargs="?", help="a .keras or .h5 file")
    source.add_argument("--application", metavar="NAME", help="a model of keras.applications")
    source.add_argument(
        "--factory", metavar="MODULE:CALLABLE", help="makes the model; FILE.py:CALLABLE works too"
    )
    add = parser.add_argument
    add("--kwargs", type=json_object, default={}, metavar="JSON", help="keyword arguments of either")
    add("--weights", default="none", help="of the application: none (default), imagenet or FILE")
    add("-o", "--output", type=output_file, required=True, metavar="FILE.onnx")
    add("--opset", type=int, help="default: Keras's own")
    add("--seed", type=int, default=0)
    add(
        "--warm-up",
        type=int,
        metavar="N",
        help="batches of noise for BatchNorms of fresh statistics (default: 2 if nothing was trained yet)",
    )
    add("--high", type=int, default=2, help="integer inputs are ids below this (default 2)")
    add(
        "--import",
        "--register",
        dest="import_",
        action="append",
        default=[],
        metavar="FILE.py",
        help="runs first; its classes and functions are those that the saved model names",
    )
    add("--allow-code", action="store_true", help="load Lambda layers, which are code stored in the file")
    add("--debug", action="store_true", help="show the traceback of an error")
    add("--tolerance", type=float, default=1e-3, help="largest relative difference allowed (default 1e-3)")
    return parser.parse_args(argv)


ARGUMENTS = parse_arguments() if __name__ == "__main__" else None
"""Read before the framework loads: help, and what is wrong here, need no framework and take no time."""

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads; it would write into the home folder
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")  # oneDNN sums in an order that depends on the machine
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
warnings.filterwarnings("ignore", message=".*np.object.*", category=FutureWarning)
logging.getLogger("tf2onnx").setLevel(logging.CRITICAL)  # what it lacks, its exception says, too
try:
    import keras
    import numpy as np
    import onnx
    import onnxruntime as ort
    import tf2onnx
    import tf2onnx.handler
except ImportError as error:
    if ARGUMENTS is None or ARGUMENTS.debug:
        raise
    raise SystemExit(f"{Path(sys.argv[0]).name}: {error}. {needed()}") from None

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


def load_factory(reference: str) -> Callable[..., keras.Model]:
    """Resolve ``package.module:callable`` or ``path/to/file.py:callable``."""
    source, _, attribute = reference.rpartition(":")
    if not source:
        raise SystemExit(f"--factory {reference!r}: write MODULE:CALLABLE or FILE.py:CALLABLE")
    module = load_file(source) if source.endswith(".py") else importlib.import_module(source)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise SystemExit(f"--factory {reference}: {source} has no callable {attribute}")
    return found


def build(args: argparse.Namespace) -> keras.Model:
    """Make or load the model, seeded."""
    custom: dict[str, Any] = {}
    for path in args.import_:
        with refused(f"--import {path}", debug=args.debug):
            custom |= defined_in(load_file(path))
    keras.utils.set_random_seed(args.seed)
    if args.model:
        return load(args, custom)
    with refused(f"--factory {args.factory}", debug=args.debug):
        model = load_factory(args.factory)(**args.kwargs) if args.factory else application(args)
    if not isinstance(model, keras.Model):
        raise SystemExit(f"--factory {args.factory}: returned {type(model).__name__}, not a keras.Model")
    return model


def application(args: argparse.Namespace) -> keras.Model:
    """Make a model of ``keras.applications``."""
    names = [name for name, found in vars(keras.applications).items() if inspect.isfunction(found)]
    if args.application not in names:
        near = difflib.get_close_matches(args.application, names, 3, 0.3) or ["MobileNetV2", "ResNet50"]
        raise SystemExit(f"--application {args.application}: Keras has none of this name, but {', '.join(near)}")
    with refused(f"--application {args.application}", debug=args.debug):
        weights = None if args.weights == "none" else args.weights
        return getattr(keras.applications, args.application)(weights=weights, **args.kwargs)


def defined_in(module: ModuleType) -> dict[str, Any]:
    """Return the classes and functions of a module by name: layers need not be registered."""
    found = [(name, x) for name, x in vars(module).items() if inspect.isclass(x) or inspect.isfunction(x)]
    return {name: x for name, x in found if x.__module__ == module.__name__}


UNKNOWN = re.compile(
    r"Could not (?:locate (?:class|function)|interpret [\w ]+ identifier:) '?(\w+)"
    r"|Unknown \w+(?: \w+)?: '?(\w+)"
)
"""What Keras says of a class or function that it does not know, from a .keras and from an .h5 file."""


def load(args: argparse.Namespace, custom: dict[str, Any]) -> keras.Model:
    """Read a saved model."""
    if Path(args.model).is_dir():
        raise SystemExit(f"{args.model}: a folder, not a .keras or .h5 file; a SavedModel is TensorFlow's")
    if not Path(args.model).is_file():
        raise SystemExit(f"{args.model}: no such file")
    with refused(args.model, debug=args.debug):
        try:
            return keras.saving.load_model(
                args.model, custom_objects=custom, compile=False, safe_mode=not args.allow_code
            )
        except (TypeError, ValueError) as error:  # of an unknown class, and of stored code
            if unknown := UNKNOWN.search(str(error)):
                name = unknown[1] or unknown[2]
                told = f"holds the custom {name}: name the Python file that has it, with --import FILE.py"
            elif "safe_mode" in str(error) or "Lambda" in str(error):
                told = "holds code, such as a Lambda layer. If you trust what it does: --allow-code"
            else:
                raise
            raise SystemExit(f"{args.model}: {told}.") from None


def is_constant_still(layer: keras.Layer, name: str) -> bool:
    """Whether a variable of a layer has the one value of its initializer; a random one could have any."""
    variable, initializer = getattr(layer, name, None), getattr(layer, f"{name}_initializer", None)
    constant = (keras.initializers.Zeros, keras.initializers.Ones, keras.initializers.Constant)
    if not isinstance(initializer, constant) or not isinstance(variable, keras.Variable):
        return True
    initial = initializer(variable.shape, dtype=variable.dtype)
    return bool(np.array_equal(keras.ops.convert_to_numpy(initial), keras.ops.convert_to_numpy(variable)))


def fresh_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """Return the BatchNorm layers whose moving statistics are still the initial ones."""
    norms = [x for x in model._flatten_layers() if isinstance(x, keras.layers.BatchNormalization) and x.built]
    statistics = ("moving_mean", "moving_variance")
    return [norm for norm in norms if all(is_constant_still(norm, name) for name in statistics)]


def is_untrained(model: keras.Model) -> bool:
    """Whether nothing tells of training: what starts as a constant is still that, and nothing is frozen."""
    optimizer = getattr(model, "optimizer", None)
    if optimizer is not None and int(optimizer.iterations):
        return False
    layers = [layer for layer in model._flatten_layers() if not getattr(layer, "unit_forget_bias", False)]
    names = ("bias", "gamma", "beta", "moving_mean", "moving_variance")
    return all(
        is_constant_still(layer, name) and (layer.trainable or not layer.weights)
        for layer in layers
        for name in names
    )


def warm_up(
    model: keras.Model,
    norms: list[keras.layers.BatchNormalization],
    batches: int,
    high: int,
    rng: np.random.Generator,
) -> None:
    """Pass noise through in training mode, and keep what it did to the statistics of ``norms`` alone."""
    moved = {id(v) for norm in norms for v in (norm.moving_mean, norm.moving_variance)}
    others = [(v, keras.ops.convert_to_numpy(v).copy()) for v in model.variables if id(v) not in moved]
    for _ in range(batches):
        call(model, random_inputs(model, WARM_UP_BATCH, high, rng), training=True)
    for variable, value in others:
        variable.assign(value)


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


@dataclass(frozen=True)
class Example:
    """Inputs, and what the model made of them."""

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


def examples(model: keras.Model, high: int, seed: int) -> list[Example]:
    """Run the model on random inputs of two batch sizes; the same inputs for the same seed."""
    rng = np.random.default_rng(seed + 1)
    drawn = [random_inputs(model, batch, high, rng) for batch in (1, 3)]
    return [Example(inputs, call(model, inputs)) for inputs in drawn]


def differences(want: list[np.ndarray], have: list[np.ndarray]) -> tuple[float, float]:
    """Return the largest difference of outputs, absolute and relative to the largest value of each."""
    absolute = [float(np.abs(a - b).max()) for a, b in zip(want, have, strict=True)]
    relative = [d / max(float(np.abs(a).max()), 1e-12) for a, d in zip(want, absolute, strict=True)]
    return max(absolute), max(relative)


def largest_difference(model: keras.Model, path: str, expected: Sequence[Example]) -> tuple[float, float]:
    """Return the largest difference of the file from the examples, absolute and relative.

    Keras can leave graph inputs behind that nothing reads (its Normalization layer does): they get zeros.
    """
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = {tensor.name for tensor in model.inputs}
    left_over = {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs() if i.name not in names}
    found = []
    for example in expected:
        feeds = {t.name: x for t, x in zip(model.inputs, example.inputs, strict=True)}
        found.append(differences(example.outputs, session.run(None, {**feeds, **left_over})))
    return max(a for a, _ in found), max(r for _, r in found)


def prepare(model: keras.Model, args: argparse.Namespace) -> tuple[list[Example], str]:
    """Warm fresh BatchNorms up if that is due; return what the file is held to, and a note on it."""
    given = examples(model, args.high, args.seed)  # Keras exports only a model that was called, too
    norms = fresh_norms(model)
    made_here = not args.model and args.weights == "none"
    batches = args.warm_up
    if batches is None:
        batches = 2 if made_here and is_untrained(model) else 0
    if not batches or not norms:
        left = f", {len(norms)} BatchNorm with fresh statistics left as they are" if norms else ""
        return given, f"as given{left}"
    warm_up(model, norms, batches, args.high, np.random.default_rng(args.seed))
    warm = examples(model, args.high, args.seed)
    moved = max(differences(a.outputs, b.outputs)[1] for a, b in zip(given, warm, strict=True))
    return warm, (
        f"after {batches} batches of noise for the fresh statistics of {len(norms)} BatchNorm, "
        f"which moved the outputs by {moved:.1e} relative"
    )


def convert(args: argparse.Namespace) -> str:
    """Export, check and only then put the file in its place; return the line to print."""
    model = build(args)
    with refused("the model on random inputs", debug=args.debug):
        expected, note = prepare(model, args)
    part = f"{args.output}.part"
    options: dict[str, Any] = {"opset_version": args.opset} if args.opset else {}
    try:
        with refused("tf2onnx", debug=args.debug):
            model.export(part, format="onnx", verbose=False, **options)
            proto = onnx.load(part)
            onnx.checker.check_model(proto)
            absolute, relative = largest_difference(model, part, expected)
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
        f"max |difference| to Keras {absolute:.2e} (relative {relative:.2e}), the model {note}"
    )


if ARGUMENTS is not None:
    print(convert(ARGUMENTS))
