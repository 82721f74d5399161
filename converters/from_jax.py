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

An NNX factory is called with ``rngs=nnx.Rngs(seed)`` if it takes ``rngs``. A Linen module holds no weights: it
is initialised from the seed, unless the factory returns it bound to its variables (``module.bind(variables)``)
or as a pair ``(module, variables)``.

An input is ``[NAME=]SHAPE`` for float32 noise, or ``[NAME=]SHAPE:N`` for int32 ids below N; give ``--input``
once for each argument of the call. The first dimension is the batch; it is free in the exported
file (named ``B``) unless ``--fixed-batch`` is given.

The ONNX file is compared on random inputs (onnxruntime, CPU) with what the
module computed before anything touched it. ``--warm-up N`` (NNX) passes noise through in training mode first,
and keeps what that did to the statistics of BatchNorms that are still the initial ones; those that were trained,
and all other weights, stay. The file is then compared with the module after it, and the line that is printed
says how far the outputs moved.

Safe by default: weights are read from Flax's msgpack format, which holds data only. The factory is code that
you name, and it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import inspect
import json
import os
import re
import sys
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
    """One argument of the call: float32 noise, or int32 ids below ``high``."""

    name: str
    shape: tuple[int, ...]
    high: int | None

    @classmethod
    def parse(cls, text: str) -> InputSpec:
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


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--factory", required=True, metavar="MODULE:CALLABLE", help="or FILE.py:CALLABLE; makes the module")
    add("--kwargs", type=json_object, default={}, metavar="JSON", help="keyword arguments of the factory")
    add("--call-kwargs", type=json_object, default={}, metavar="JSON", help='like {"train": false}')
    add("--input", type=InputSpec.parse, action="append", required=True, metavar="[NAME=]SHAPE[:HIGH]")
    add("--output-name", action="append", metavar="NAME", help="once for each output (default: output)")
    add("-o", "--output", type=output_file, required=True, metavar="FILE.onnx")
    add("--opset", type=int, help="default: jax2onnx's own")
    add("--fixed-batch", action="store_true", help="bake the batch size of --input into the file")
    add("--seed", type=int, default=0)
    add(
        "--warm-up",
        type=int,
        default=0,
        metavar="N",
        help="batches of noise for fresh BatchNorms (NNX)",
    )
    add("--weights", metavar="FILE.msgpack", help="written by flax.serialization.to_bytes")
    add("--debug", action="store_true", help="show the traceback of an error")
    add("--tolerance", type=float, default=1e-3, help="largest relative difference allowed (default 1e-3)")
    args = parser.parse_args(argv)
    names = ["input"] if len(args.input) == 1 else [f"input_{i}" for i in range(len(args.input))]
    args.input = [replace(s, name=s.name or name) for s, name in zip(args.input, names, strict=True)]
    args.output_name = args.output_name or ["output"]
    return args


ARGUMENTS = parse_arguments() if __name__ == "__main__" else None
"""Read before the framework loads: help, and what is wrong here, need no framework and take no time."""

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads; it would write into the home folder
os.environ.setdefault("JAX_PLATFORMS", "cpu")
try:
    import flax
    import jax
    import jax2onnx
    import numpy as np
    import onnx
    import onnxruntime as ort
    from flax import linen, nnx, serialization
except ImportError as error:
    if ARGUMENTS is None or ARGUMENTS.debug:
        raise
    raise SystemExit(f"{Path(sys.argv[0]).name}: {error}. {needed()}") from None

WARM_UP_BATCH = 16
Function = Callable[..., Any]


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


def load_factory(reference: str) -> Callable[..., Function]:
    """Resolve ``package.module:callable`` or ``path/to/file.py:callable``."""
    source, _, attribute = reference.rpartition(":")
    if not source:
        raise SystemExit(f"--factory {reference!r}: write MODULE:CALLABLE or FILE.py:CALLABLE")
    module = load_file(source) if source.endswith(".py") else importlib.import_module(source)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise SystemExit(f"--factory {reference}: {source} has no callable {attribute}")
    return found


@dataclass(frozen=True)
class Network:
    """A module as a function of its inputs."""

    call: Function
    parameters: int
    module: nnx.Module | None = None  # of NNX, whose statistics can be warmed up


def build(args: argparse.Namespace) -> Network:
    """Make the seeded model, or take the weights that the factory gave it."""
    with refused(f"--factory {args.factory}", debug=args.debug):
        factory = load_factory(args.factory)
        # NNX's metaclass hides the signature of the class.
        maker = factory.__init__ if isinstance(factory, type) else factory  # type: ignore[misc]
        seeded = {"rngs": nnx.Rngs(args.seed)} if "rngs" in inspect.signature(maker).parameters else {}
        module = factory(**args.kwargs, **seeded)
    if isinstance(module, nnx.Module):
        return build_nnx(module, args)
    variables = None
    if isinstance(module, tuple) and len(module) == 2:
        module, variables = module
    if isinstance(module, linen.Module):
        if module.scope is not None:
            module, variables = module.unbind()
        return build_linen(module, variables, args)
    raise SystemExit(f"--factory {args.factory}: returned {type(module).__name__}, not a Flax module")


def build_nnx(module: nnx.Module, args: argparse.Namespace) -> Network:
    """Load weights, and switch to evaluation mode."""
    if args.weights:
        state = nnx.state(module, nnx.Not(nnx.RngState))
        with refused(f"--weights {args.weights}", debug=args.debug):
            pure = serialization.from_bytes(nnx.to_pure_dict(state), Path(args.weights).read_bytes())
            nnx.replace_by_pure_dict(state, pure)
            nnx.update(module, state)
    module.eval()

    def call(*inputs: Any) -> Any:
        return module(*inputs, **args.call_kwargs)

    return Network(call, sum(x.size for x in jax.tree.leaves(nnx.state(module, nnx.Param))), module)


def build_linen(module: linen.Module, variables: Any, args: argparse.Namespace) -> Network:
    """Take the variables given, or initialise them from the seed; read them from the file if there is one."""
    if args.warm_up:
        raise SystemExit("--warm-up needs an NNX module: Linen has no one way to switch to training")
    if variables is None:
        rng = np.random.default_rng(args.seed)
        example = [spec.sample(2, rng) for spec in args.input]
        with refused("the module on --input", debug=args.debug):
            variables = module.init(jax.random.key(args.seed), *example, **args.call_kwargs)
    if args.weights:
        with refused(f"--weights {args.weights}", debug=args.debug):
            variables = serialization.from_bytes(variables, Path(args.weights).read_bytes())

    def call(*inputs: Any) -> Any:
        return module.apply(variables, *inputs, **args.call_kwargs)

    return Network(call, sum(x.size for x in jax.tree.leaves(variables["params"])))


def examples(
    function: Function, specs: Sequence[InputSpec], batches: Sequence[int], seed: int
) -> list[Example]:
    """Run the module on random inputs of these batch sizes; the same inputs for the same seed."""
    rng = np.random.default_rng(seed + 1)
    drawn = [[spec.sample(batch, rng) for spec in specs] for batch in batches]
    return [Example(x, [np.asarray(y) for y in jax.tree.leaves(function(*x))]) for x in drawn]


def fresh_norms(module: nnx.Module) -> list[nnx.BatchNorm]:
    """Return the BatchNorm modules whose running statistics are still the initial ones."""
    norms = [part for _, part in nnx.iter_graph(module) if isinstance(part, nnx.BatchNorm)]
    return [n for n in norms if not np.any(n.mean[...]) and bool(np.all(np.asarray(n.var[...]) == 1))]


def warm_up(
    module: nnx.Module, norms: Sequence[nnx.BatchNorm], batches: int, args: argparse.Namespace
) -> None:
    """Pass noise through in training mode, and keep what it did to the statistics of ``norms`` alone."""
    before = jax.tree.map(lambda x: x, nnx.state(module))
    rng = np.random.default_rng(args.seed)
    module.train()
    for _ in range(batches):
        module(*(spec.sample(WARM_UP_BATCH, rng) for spec in args.input), **args.call_kwargs)
    moved = [(norm, norm.mean[...], norm.var[...]) for norm in norms]
    nnx.update(module, before)
    for norm, mean, variance in moved:
        norm.mean[...], norm.var[...] = mean, variance
    module.eval()


def prepare(network: Network, batches: Sequence[int], args: argparse.Namespace) -> tuple[list[Example], str]:
    """Warm fresh BatchNorms up if asked; return what the file is held to, and a note on it."""
    given = examples(network.call, args.input, batches, args.seed)
    norms = fresh_norms(network.module) if args.warm_up and network.module is not None else []
    if network.module is None or not norms:
        return given, "as given"
    warm_up(network.module, norms, args.warm_up, args)
    warm = examples(network.call, args.input, batches, args.seed)
    moved = max(differences(a.outputs, b.outputs)[1] for a, b in zip(given, warm, strict=True))
    return warm, (
        f"after {args.warm_up} batches of noise for the fresh statistics of {len(norms)} BatchNorm, "
        f"which moved the outputs by {moved:.1e} relative"
    )


def loads(path: str) -> bool:
    """Whether onnxruntime takes a file."""
    try:
        ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    return True


def largest_difference(expected: Sequence[Example], path: str, names: Sequence[str]) -> tuple[float, float]:
    """Return the largest difference of the file from the examples, absolute and relative."""
    options = ort.SessionOptions()
    options.log_severity_level = 3  # errors only
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = [dict(zip(names, example.inputs, strict=True)) for example in expected]
    got = [
        differences(example.outputs, session.run(None, feed))
        for example, feed in zip(expected, feeds, strict=True)
    ]
    return max(a for a, _ in got), max(r for _, r in got)


def convert(args: argparse.Namespace) -> str:
    """Export, check and only then put the file in its place; return the line to print."""
    network = build(args)
    first = args.input[0].shape[0]
    with refused("the module on --input", debug=args.debug):
        expected, note = prepare(network, [first] if args.fixed_batch else [first, first + 1], args)
    with refused("jax2onnx", debug=args.debug):
        model = jax2onnx.to_onnx(
            network.call,
            [spec.abstract(first if args.fixed_batch else "B") for spec in args.input],
            model_name=args.factory.rpartition(":")[2],
            input_names=[spec.name for spec in args.input],
            output_names=args.output_name,
            **({"opset": args.opset} if args.opset else {}),
        )
    part = f"{args.output}.part"
    try:
        with refused(f"{args.output}, not written", debug=args.debug):
            onnx.checker.check_model(model)
            onnx.save(model, part)
            if not loads(part):  # jax2onnx leaves shapes of inner values from before it moved a Transpose
                del model.graph.value_info[:]
                onnx.save(model, part)
            absolute, relative = largest_difference(expected, part, [spec.name for spec in args.input])
        if not relative <= args.tolerance:
            raise SystemExit(f"{args.output}: not written, it differs by {relative:.2e} relative")
        os.replace(part, args.output)
    finally:
        Path(part).unlink(missing_ok=True)
    opset = next(o.version for o in model.opset_import if o.domain == "")
    return (
        f"{args.output}: {args.factory} by jax2onnx {model.producer_version} (jax {jax.__version__}, "
        f"flax {flax.__version__}), opset {opset}, {network.parameters:,} parameters, "
        f"{Path(args.output).stat().st_size:,} bytes, batch {first if args.fixed_batch else 'free'}, "
        f"max |difference| to JAX {absolute:.2e} (relative {relative:.2e}), the module {note}"
    )


if ARGUMENTS is not None:
    print(convert(ARGUMENTS))
