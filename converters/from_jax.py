#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "jax>=0.6", "flax>=0.10", "jax2onnx>=0.10", "onnx>=1.23.2", "onnxruntime>=1.22", "numpy",
# ]
# ///
"""Export a Flax model (NNX or Linen) to ONNX with jax2onnx.

The model comes from a factory, a callable that returns a module:

    from_jax.py --factory my_nets.py:Mixer --kwargs '{"width": 64}' --input image=1x32x32x3 -o mixer.onnx

An NNX factory is called with ``rngs=nnx.Rngs(seed)`` if it takes ``rngs``; a Linen module is initialised from
the seed. An input is ``[NAME=]SHAPE`` for float32 noise, or ``[NAME=]SHAPE:N`` for int32 ids below N; give
``--input`` once for each argument of the call. The first dimension is the batch; it is free in the exported
file (named ``B``) unless ``--fixed-batch`` is given. The ONNX file is compared with the module on random
inputs (onnxruntime, CPU).

Safe by default: weights are read from Flax's msgpack format, which holds data only. The factory is code that
you name, and it runs.
"""

import argparse
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads; it would write into the home folder
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import flax
import jax
import jax2onnx
import numpy as np
import onnx
import onnxruntime as ort
from flax import linen, nnx, serialization

WARM_UP_BATCH = 16
Function = Callable[..., Any]


@dataclass(frozen=True)
class InputSpec:
    """One argument of the call: float32 noise, or int32 ids below ``high``."""

    name: str
    shape: tuple[int, ...]
    high: int | None

    @classmethod
    def parse(cls, text: str) -> "InputSpec":
        """Read ``[NAME=]SHAPE[:HIGH]``; a missing name becomes "" and is filled in later."""
        match = re.fullmatch(r"(?:(\w+)=)?(\d+(?:x\d+)*)(?::(\d+))?", text)
        if not match:
            raise argparse.ArgumentTypeError(f"{text!r} is not [NAME=]1x32x32x3 or [NAME=]1x16:1000")
        name, shape, high = match.groups()
        return cls(name or "", tuple(int(d) for d in shape.split("x")), int(high) if high else None)

    def sample(self, batch: int, rng: np.random.Generator) -> np.ndarray:
        """Draw an input of ``batch`` samples."""
        shape = (batch, *self.shape[1:])
        if self.high is None:
            return rng.standard_normal(shape, dtype=np.float32)
        return rng.integers(self.high, size=shape, dtype=np.int32)

    def abstract(self, batch: int | str) -> jax.ShapeDtypeStruct:
        """Describe the input to jax2onnx; a batch given as a name is free."""
        return jax.ShapeDtypeStruct((batch, *self.shape[1:]), np.float32 if self.high is None else np.int32)


def load_factory(reference: str) -> Function:
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


def build(args: argparse.Namespace) -> tuple[Function, int]:
    """Make the seeded model; return it as a function of its inputs, and its number of parameters."""
    factory = load_factory(args.factory)
    # NNX's metaclass hides the signature of the class.
    maker = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
    seeded = {"rngs": nnx.Rngs(args.seed)} if "rngs" in inspect.signature(maker).parameters else {}
    module = factory(**args.kwargs, **seeded)
    if isinstance(module, nnx.Module):
        return prepare_nnx(module, args)
    if isinstance(module, linen.Module):
        return prepare_linen(module, args)
    raise SystemExit(f"--factory {args.factory}: returned {type(module).__name__}, not a Flax module")


def prepare_nnx(module: nnx.Module, args: argparse.Namespace) -> tuple[Function, int]:
    """Load weights, pass noise through in training mode if asked, and switch to evaluation mode."""
    if args.weights:
        state = nnx.state(module, nnx.Not(nnx.RngState))
        pure = serialization.from_bytes(nnx.to_pure_dict(state), Path(args.weights).read_bytes())
        nnx.replace_by_pure_dict(state, pure)
        nnx.update(module, state)
    rng = np.random.default_rng(args.seed)
    module.train()
    for _ in range(args.warm_up):
        module(*(spec.sample(WARM_UP_BATCH, rng) for spec in args.input), **args.call_kwargs)
    module.eval()

    def call(*inputs: Any) -> Any:
        return module(*inputs, **args.call_kwargs)

    return call, sum(x.size for x in jax.tree.leaves(nnx.state(module, nnx.Param)))


def prepare_linen(module: linen.Module, args: argparse.Namespace) -> tuple[Function, int]:
    """Initialise the variables from the seed, or read them from the file."""
    if args.warm_up:
        raise SystemExit("--warm-up needs an NNX module: Linen has no one way to switch to training")
    rng = np.random.default_rng(args.seed)
    example = [spec.sample(2, rng) for spec in args.input]
    variables = module.init(jax.random.key(args.seed), *example, **args.call_kwargs)
    if args.weights:
        variables = serialization.from_bytes(variables, Path(args.weights).read_bytes())

    def call(*inputs: Any) -> Any:
        return module.apply(variables, *inputs, **args.call_kwargs)

    return call, sum(x.size for x in jax.tree.leaves(variables["params"]))


def loads(path: str) -> bool:
    """Whether onnxruntime takes a file."""
    try:
        ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def largest_difference(
    function: Function, path: str, specs: Sequence[InputSpec], batches: Sequence[int], seed: int
) -> tuple[float, float]:
    """Return the largest difference on random inputs, absolute and relative to the largest output."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed + 1)
    absolute = relative = 0.0
    for batch in batches:
        inputs = [spec.sample(batch, rng) for spec in specs]
        expected = jax.tree.leaves(function(*inputs))
        got = session.run(None, {s.name: x for s, x in zip(specs, inputs, strict=True)})
        for want, have in zip(expected, got, strict=True):
            reference = np.asarray(want)
            difference = float(np.abs(reference - have).max())
            absolute = max(absolute, difference)
            relative = max(relative, difference / max(float(np.abs(reference).max()), 1e-12))
    return absolute, relative


def convert(args: argparse.Namespace) -> str:
    """Export, check and only then put the file in its place; return the line to print."""
    function, parameters = build(args)
    first = args.input[0].shape[0]
    model = jax2onnx.to_onnx(
        function,
        [spec.abstract(first if args.fixed_batch else "B") for spec in args.input],
        model_name=args.factory.rpartition(":")[2],
        input_names=[spec.name for spec in args.input],
        output_names=args.output_name,
        **({"opset": args.opset} if args.opset else {}),
    )
    part = f"{args.output}.part"
    try:
        onnx.checker.check_model(model)
        onnx.save(model, part)
        if not loads(part):  # jax2onnx leaves shapes of inner values from before it moved a Transpose
            del model.graph.value_info[:]
            onnx.save(model, part)
        batches = [first] if args.fixed_batch else [first, first + 1]
        absolute, relative = largest_difference(function, part, args.input, batches, args.seed)
        if not relative <= args.tolerance:
            raise SystemExit(f"{args.output}: not written, it differs by {relative:.2e} relative")
        os.replace(part, args.output)
    finally:
        Path(part).unlink(missing_ok=True)
    opset = next(o.version for o in model.opset_import if o.domain == "")
    return (
        f"{args.output}: {args.factory} by jax2onnx {model.producer_version} (jax {jax.__version__}, "
        f"flax {flax.__version__}), opset {opset}, {parameters:,} parameters, "
        f"{Path(args.output).stat().st_size:,} bytes, batch {first if args.fixed_batch else 'free'}, "
        f"max |difference| to JAX {absolute:.2e} (relative {relative:.2e})"
    )


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--factory", required=True, metavar="MODULE:CALLABLE", help="or FILE.py:CALLABLE; makes the module")
    add("--kwargs", type=json.loads, default={}, metavar="JSON", help="keyword arguments of the factory")
    add("--call-kwargs", type=json.loads, default={}, metavar="JSON", help='like {"train": false}')
    add("--input", type=InputSpec.parse, action="append", required=True, metavar="[NAME=]SHAPE[:HIGH]")
    add("--output-name", action="append", metavar="NAME", help="once for each output (default: output)")
    add("-o", "--output", required=True, metavar="FILE.onnx")
    add("--opset", type=int, help="default: jax2onnx's own")
    add("--fixed-batch", action="store_true", help="bake the batch size of --input into the file")
    add("--seed", type=int, default=0)
    add(
        "--warm-up",
        type=int,
        default=0,
        metavar="N",
        help="batches of noise for BatchNorm's statistics (NNX)",
    )
    add("--weights", metavar="FILE.msgpack", help="written by flax.serialization.to_bytes")
    add("--tolerance", type=float, default=1e-3, help="largest relative difference allowed (default 1e-3)")
    args = parser.parse_args(argv)
    names = ["input"] if len(args.input) == 1 else [f"input_{i}" for i in range(len(args.input))]
    args.input = [replace(s, name=s.name or name) for s, name in zip(args.input, names, strict=True)]
    args.output_name = args.output_name or ["output"]
    return args


if __name__ == "__main__":
    print(convert(parse_arguments()))
