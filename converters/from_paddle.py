#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "paddlepaddle>=3.0", "paddle2onnx>=2.0", "onnx>=1.17", "onnxruntime>=1.22", "numpy", "setuptools",
# ]
# ///
"""Export a PaddlePaddle model to ONNX with paddle2onnx.

The model is a saved inference model (``model.json`` or ``model.pdmodel``, and ``model.pdiparams`` beside it),
or what a factory returns, a ``paddle.nn.Layer``:

    from_paddle.py inference/model.json --input x=1x3x48x320 -o recognition.onnx
    from_paddle.py --factory paddle.vision.models:resnet18 --input 1x3x64x64 -o resnet18.onnx

An input is ``[NAME=]SHAPE`` for float32 noise, or ``[NAME=]SHAPE:N`` for int64 ids below N; give ``--input``
once for each argument. The first dimension is the batch; for a factory it is free in the exported file
unless ``--fixed-batch`` is given, a saved model keeps what it has. BatchNorm stays.

The ONNX file is compared on random inputs (onnxruntime, CPU) with what the
layer computed before anything touched it. ``--warm-up N`` passes noise through in training mode first, and
keeps what that did to the statistics of BatchNorms that are still the initial ones; those that were trained,
and all other weights, stay. The file is then compared with the layer after it, and the line that is printed
says how far the outputs moved.

Safe by default: an inference model holds a program of Paddle's operators and tensors. Weights of a factory
(``.pdparams``) are a pickle, which can run code: they are refused unless ``--allow-pickle`` is given. The
factory is code that you name, and it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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


@dataclass(frozen=True)
class InputSpec:
    """One argument of ``forward``: float32 noise, or int64 ids below ``high``."""

    name: str
    shape: tuple[int, ...]
    high: int | None

    @classmethod
    def parse(cls, text: str) -> InputSpec:
        """Read ``[NAME=]SHAPE[:HIGH]``; a missing name becomes "" and is filled in later."""
        match = re.fullmatch(r"(?:(\w+)=)?(\d+(?:x\d+)*)(?::(\d+))?", text)
        if not match:
            raise argparse.ArgumentTypeError(f"{text!r} is not [NAME=]1x3x64x64 or [NAME=]1x16:1000")
        name, shape, high = match.groups()
        return cls(name or "", tuple(int(d) for d in shape.split("x")), int(high) if high else None)

    def sample(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """Draw an input of ``batch`` samples."""
        shape = (batch, *self.shape[1:])
        if self.high is None:
            return rng.standard_normal(shape, dtype=np.float32)
        return rng.integers(self.high, size=shape, dtype=np.int64)

    def declare(self, *, fixed: bool) -> paddle.static.InputSpec:
        """Describe the input to Paddle."""
        shape = [self.shape[0] if fixed else None, *self.shape[1:]]
        return paddle.static.InputSpec(shape, "float32" if self.high is None else "int64", self.name)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("model", nargs="?", help="model.json or model.pdmodel of a saved inference model")
    source.add_argument("--factory", metavar="MODULE:CALLABLE", help="or FILE.py:CALLABLE; makes the layer")
    add = parser.add_argument
    add("--kwargs", type=json_object, default={}, metavar="JSON", help="keyword arguments of the factory")
    add("--input", type=InputSpec.parse, action="append", required=True, metavar="[NAME=]SHAPE[:HIGH]")
    add("-o", "--output", type=output_file, required=True, metavar="FILE.onnx")
    add("--opset", type=int, default=17, help="default: 17")
    add("--fixed-batch", action="store_true", help="bake the batch size of --input into the file")
    add("--seed", type=int, default=0)
    add("--warm-up", type=int, default=0, metavar="N", help="batches of noise for fresh BatchNorms")
    add("--weights", metavar="FILE.pdparams", help="of the factory's layer")
    add("--allow-pickle", action="store_true", help="read --weights with pickle: it can run code")
    add("--debug", action="store_true", help="show the traceback of an error")
    add("--tolerance", type=float, default=1e-3, help="largest relative difference allowed (default 1e-3)")
    args = parser.parse_args(argv)
    names = ["input"] if len(args.input) == 1 else [f"input_{i}" for i in range(len(args.input))]
    args.input = [replace(s, name=s.name or name) for s, name in zip(args.input, names, strict=True)]
    return args


ARGUMENTS = parse_arguments() if __name__ == "__main__" else None
"""Read before the framework loads: help, and what is wrong here, need no framework and take no time."""

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads; it would write into the home folder
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("GLOG_minloglevel", "3")
warnings.filterwarnings("ignore", message="No ccache found")
try:
    import numpy as np
    import onnx
    import onnxruntime as ort
    import paddle
    import paddle2onnx
except ImportError as error:
    if ARGUMENTS is None or ARGUMENTS.debug:
        raise
    raise SystemExit(f"{Path(sys.argv[0]).name}: {error}. {needed()}") from None

WARM_UP_BATCH = 16


@dataclass(frozen=True)
class Example:
    """Inputs, and what the model made of them."""

    inputs: list[np.ndarray]
    outputs: list[np.ndarray]


def differences(want: list[np.ndarray], have: list[np.ndarray]) -> tuple[float, float]:
    """Return the largest difference of outputs, absolute and relative to the largest value of each."""
    absolute = [float(np.abs(a - b).max()) for a, b in zip(want, have, strict=True)]
    relative = [d / max(float(np.abs(a).max()), 1e-12) for a, d in zip(want, absolute, strict=True)]
    return max(absolute), max(relative)


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


def load_factory(reference: str) -> Callable[..., paddle.nn.Layer]:
    """Resolve ``package.module:callable`` or ``path/to/file.py:callable``."""
    source, _, attribute = reference.rpartition(":")
    if not source:
        raise SystemExit(f"--factory {reference!r}: write MODULE:CALLABLE or FILE.py:CALLABLE")
    module = load_file(source) if source.endswith(".py") else importlib.import_module(source)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise SystemExit(f"--factory {reference}: {source} has no callable {attribute}")
    return found


def build(args: argparse.Namespace) -> tuple[paddle.nn.Layer, Path | None]:
    """Make or load the model; return it in evaluation mode, and its program if it is a saved one."""
    if args.model:
        program = Path(args.model)
        if program.suffix not in (".json", ".pdmodel") or not program.is_file():
            raise SystemExit(f"{args.model}: not the .json or .pdmodel of a saved inference model")
        with refused(args.model, debug=args.debug):
            return paddle.jit.load(str(program.with_suffix(""))), program
    if args.weights and not args.allow_pickle:
        raise SystemExit(f"{args.weights}: a pickle, which can run code. If you trust it: --allow-pickle.")
    paddle.seed(args.seed)
    with refused(f"--factory {args.factory}", debug=args.debug):
        layer = load_factory(args.factory)(**args.kwargs)
    if not isinstance(layer, paddle.nn.Layer):
        raise SystemExit(f"--factory {args.factory}: returned {type(layer).__name__}, not a paddle.nn.Layer")
    if args.weights:
        with refused(f"--weights {args.weights}", debug=args.debug):
            layer.set_state_dict(paddle.load(args.weights))
    layer.eval()
    return layer, None


def save(layer: paddle.nn.Layer, args: argparse.Namespace, folder: str) -> Path:
    """Write the layer as an inference model; return its program."""
    prefix = os.path.join(folder, "model")
    specs = [spec.declare(fixed=args.fixed_batch) for spec in args.input]
    paddle.jit.save(layer, prefix, input_spec=specs)
    return next(Path(f"{prefix}{end}") for end in (".json", ".pdmodel") if Path(f"{prefix}{end}").exists())


def leaves(output: Any) -> list[np.ndarray]:
    """Return a model's output as a flat list of arrays."""
    if isinstance(output, paddle.Tensor):
        return [output.numpy()]
    return [array for part in output for array in leaves(part)]


def examples(
    layer: paddle.nn.Layer, specs: Sequence[InputSpec], batches: Sequence[int], seed: int
) -> list[Example]:
    """Run the layer on random inputs of these batch sizes; the same inputs for the same seed."""
    rng = np.random.default_rng(seed + 1)
    drawn = [[spec.sample(batch, rng) for spec in specs] for batch in batches]
    with paddle.no_grad():
        return [Example(inputs, leaves(layer(*(paddle.to_tensor(x) for x in inputs)))) for inputs in drawn]


def fresh_norms(layer: paddle.nn.Layer) -> list[paddle.nn.Layer]:
    """Return the BatchNorm layers whose statistics are still the initial ones."""
    kinds = (paddle.nn.layer.norm._BatchNormBase, paddle.nn.BatchNorm)
    norms = [x for x in layer.sublayers(include_self=True) if isinstance(x, kinds)]
    return [x for x in norms if not x._mean.numpy().any() and bool((x._variance.numpy() == 1).all())]


def warm_up(
    layer: paddle.nn.Layer,
    norms: Sequence[paddle.nn.Layer],
    specs: Sequence[InputSpec],
    batches: int,
    seed: int,
) -> None:
    """Pass noise through in training mode, and keep what it did to the statistics of ``norms`` alone."""
    moved = {x.name for norm in norms for x in (norm._mean, norm._variance)}
    held = [*layer.parameters(), *layer.buffers()]
    others = [(x, x.numpy().copy()) for x in held if x.name not in moved]
    rng = np.random.default_rng(seed)
    layer.train()
    with paddle.no_grad():
        for _ in range(batches):
            layer(*(paddle.to_tensor(spec.sample(WARM_UP_BATCH, rng)) for spec in specs))
        for tensor, value in others:
            tensor.set_value(value)
    layer.eval()


def prepare(
    layer: paddle.nn.Layer, batches: Sequence[int], args: argparse.Namespace
) -> tuple[list[Example], str]:
    """Warm fresh BatchNorms up if asked; return what the file is held to, and a note on it."""
    given = examples(layer, args.input, batches, args.seed)
    norms = fresh_norms(layer) if args.warm_up else []
    if not norms:
        return given, "as given"
    warm_up(layer, norms, args.input, args.warm_up, args.seed)
    warm = examples(layer, args.input, batches, args.seed)
    moved = max(differences(a.outputs, b.outputs)[1] for a, b in zip(given, warm, strict=True))
    return warm, (
        f"after {args.warm_up} batches of noise for the fresh statistics of {len(norms)} BatchNorm, "
        f"which moved the outputs by {moved:.1e} relative"
    )


def largest_difference(expected: Sequence[Example], path: str) -> tuple[float, float]:
    """Return the largest difference of the file from the examples, absolute and relative."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    feeds = [dict(zip(names, example.inputs, strict=True)) for example in expected]
    got = [
        differences(example.outputs, session.run(None, feed))
        for example, feed in zip(expected, feeds, strict=True)
    ]
    return max(a for a, _ in got), max(r for _, r in got)


def convert(args: argparse.Namespace) -> str:
    """Export, check and only then put the file in its place; return the line to print."""
    part = f"{args.output}.part"
    first = args.input[0].shape[0]
    with tempfile.TemporaryDirectory() as folder:
        layer, program = build(args)
        expected: list[Example] = []
        note = "as saved"
        if program is None:
            with refused("the layer on --input", debug=args.debug):
                expected, note = prepare(layer, [first] if args.fixed_batch else [first, first + 1], args)
                program = save(layer, args, folder)
        try:
            with refused("paddle2onnx", debug=args.debug):
                paddle2onnx.export(
                    str(program),
                    str(program.with_suffix(".pdiparams")),
                    part,
                    opset_version=args.opset,
                    optimize_tool="None",  # it folds constants with Polygraphy otherwise
                )
            if not os.path.exists(part):
                raise SystemExit(f"{args.output}: not written, paddle2onnx failed; it says why above")
            with refused(f"{args.output}, not written: on --input", debug=args.debug):
                model = onnx.load(part)
                onnx.checker.check_model(model)
                free = not model.graph.input[0].type.tensor_type.shape.dim[0].dim_value
                if not expected:  # a saved program: what it computes, nothing here can change
                    expected = examples(layer, args.input, [first, first + 1] if free else [first], args.seed)
                absolute, relative = largest_difference(expected, part)
            if not relative <= args.tolerance:
                raise SystemExit(f"{args.output}: not written, it differs by {relative:.2e} relative")
            os.replace(part, args.output)
        finally:
            Path(part).unlink(missing_ok=True)
        parameters = sum(int(np.prod(p.shape)) for p in layer.parameters())
    opset = next(o.version for o in model.opset_import if o.domain == "")
    return (
        f"{args.output}: {args.factory or args.model} by paddle2onnx {paddle2onnx.__version__} (paddle "
        f"{paddle.__version__}), opset {opset}, {parameters:,} parameters, "
        f"{Path(args.output).stat().st_size:,} bytes, batch {'free' if free else first}, "
        f"max |difference| to Paddle {absolute:.2e} (relative {relative:.2e}), the layer {note}"
    )


if ARGUMENTS is not None:
    print(convert(ARGUMENTS))
