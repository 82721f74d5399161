#!/usr/bin/env python3
# /// script
# requires-python = ">=3.11"
# dependencies = [
#     "torch>=2.6", "onnx>=1.23.2", "onnx-ir>=1.1", "onnxscript>=0.5", "onnxruntime>=1.22", "numpy",
# ]
# ///
"""Export a PyTorch model to ONNX with PyTorch's own exporters.

The model comes from a factory, a callable that returns a ``torch.nn.Module``:

    from_pytorch.py --factory torchvision.models:resnet18 --input 1x3x64x64 -o resnet18.onnx
    from_pytorch.py --factory my_nets.py:tiny --kwargs '{"width": 8}' --input ids=1x16:1000 -o tiny.onnx

An input is ``[NAME=]SHAPE`` for float32 noise, or ``[NAME=]SHAPE:N`` for int64 ids below N; give ``--input``
once for each argument of ``forward``. The first dimension is the batch; it is free in the exported file
unless ``--fixed-batch`` is given.

The ONNX file is compared on random inputs (onnxruntime, CPU) with what the
module computed before anything touched it. ``--warm-up N`` passes noise through in training mode first, and
keeps what that did to the statistics of BatchNorms that are still the initial ones; those that were trained,
and all other weights, stay. The file is then compared with the module after it, and the line that is printed
says how far the outputs moved.

Safe by default: weights are read with ``torch.load(weights_only=True)``. The factory is code that you name,
and it runs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import pickle
import re
import sys
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

    def sample(self, batch: int, generator: torch.Generator) -> torch.Tensor:
        """Draw an input of ``batch`` samples."""
        shape = (batch, *self.shape[1:])
        if self.high is None:
            return torch.randn(shape, generator=generator)
        return torch.randint(self.high, shape, generator=generator)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = Parser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--factory", required=True, metavar="MODULE:CALLABLE", help="or FILE.py:CALLABLE; makes the module")
    add("--kwargs", type=json_object, default={}, metavar="JSON", help="keyword arguments of the factory")
    add("--input", type=InputSpec.parse, action="append", required=True, metavar="[NAME=]SHAPE[:HIGH]")
    add("--output-name", action="append", metavar="NAME", help="once for each output (default: output)")
    add("-o", "--output", type=output_file, required=True, metavar="FILE.onnx")
    add("--exporter", choices=["torchscript", "dynamo"], default="dynamo")
    add("--opset", type=int, help="default: the exporter's own")
    add("--training-preserving", action="store_true", help="keep BatchNorm and parameter names")
    add("--fixed-batch", action="store_true", help="bake the batch size of --input into the file")
    add("--seed", type=int, default=0)
    add("--warm-up", type=int, default=0, metavar="N", help="batches of noise for fresh BatchNorms")
    add("--weights", metavar="FILE", help="a state dict")
    add("--allow-pickle", action="store_true", help="read --weights with pickle: it can run code")
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
try:
    import numpy as np
    import onnx
    import onnx_ir
    import onnxruntime as ort
    import torch
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


def load_factory(reference: str) -> Callable[..., torch.nn.Module]:
    """Resolve ``package.module:callable`` or ``path/to/file.py:callable``."""
    source, _, attribute = reference.rpartition(":")
    if not source:
        raise SystemExit(f"--factory {reference!r}: write MODULE:CALLABLE or FILE.py:CALLABLE")
    module = load_file(source) if source.endswith(".py") else importlib.import_module(source)
    found = getattr(module, attribute, None)
    if not callable(found):
        raise SystemExit(f"--factory {reference}: {source} has no callable {attribute}")
    return found


def build(args: argparse.Namespace) -> torch.nn.Module:
    """Make the seeded module, load its weights if a file is given, and put it in evaluation mode."""
    torch.manual_seed(args.seed)
    with refused(f"--factory {args.factory}", debug=args.debug):
        module = load_factory(args.factory)(**args.kwargs)
    if not isinstance(module, torch.nn.Module):
        raise SystemExit(f"--factory {args.factory}: returned {type(module).__name__}, not a torch.nn.Module")
    if args.weights:
        with refused(f"--weights {args.weights}", debug=args.debug):
            module.load_state_dict(read_weights(args))
    return module.eval()


def read_weights(args: argparse.Namespace) -> Any:
    """Read a state dict."""
    try:
        return torch.load(args.weights, map_location="cpu", weights_only=not args.allow_pickle)
    except pickle.UnpicklingError:  # torch's advice for it is of Python
        if args.allow_pickle:
            raise
        raise SystemExit(
            f"--weights {args.weights}: not tensors alone, or no state dict. If you trust it: --allow-pickle."
        ) from None


def flat(output: object) -> list[np.ndarray]:
    """Return a module's output as a flat list of arrays."""
    return [x.numpy() for x in torch.utils._pytree.tree_leaves(output) if isinstance(x, torch.Tensor)]


def examples(
    module: torch.nn.Module, specs: Sequence[InputSpec], batches: Sequence[int], seed: int
) -> list[Example]:
    """Run the module on random inputs of these batch sizes; the same inputs for the same seed."""
    generator = torch.Generator().manual_seed(seed + 1)
    drawn = [[spec.sample(batch, generator) for spec in specs] for batch in batches]
    with torch.no_grad():
        return [Example([x.numpy() for x in inputs], flat(module(*inputs))) for inputs in drawn]


def fresh_norms(module: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the modules whose running statistics are still the initial ones."""
    norms = [m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._NormBase)]
    return [
        m
        for m in norms
        if m.running_mean is not None and not m.running_mean.any() and bool((m.running_var == 1).all())
    ]


def warm_up(
    module: torch.nn.Module,
    norms: Sequence[torch.nn.Module],
    specs: Sequence[InputSpec],
    batches: int,
    seed: int,
) -> None:
    """Pass noise through in training mode, and keep what it did to the statistics of ``norms`` alone."""
    moved = {id(buffer) for norm in norms for buffer in norm.buffers(recurse=False)}
    others = [
        (owner, name, tensor, tensor.clone())
        for owner in module.modules()
        for held in (owner._parameters, owner._buffers)
        for name, tensor in held.items()
        if tensor is not None and id(tensor) not in moved
    ]
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        module.train()
        for _ in range(batches):
            module(*(spec.sample(WARM_UP_BATCH, generator) for spec in specs))
        for owner, name, tensor, value in others:
            tensor.copy_(value)
            setattr(owner, name, tensor)
    module.eval()


def prepare(
    module: torch.nn.Module, batches: Sequence[int], args: argparse.Namespace
) -> tuple[list[Example], str]:
    """Warm fresh BatchNorms up if asked; return what the file is held to, and a note on it."""
    given = examples(module, args.input, batches, args.seed)
    norms = fresh_norms(module)
    if not args.warm_up or not norms:
        return given, "as given"
    warm_up(module, norms, args.input, args.warm_up, args.seed)
    warm = examples(module, args.input, batches, args.seed)
    moved = max(differences(a.outputs, b.outputs)[1] for a, b in zip(given, warm, strict=True))
    return warm, (
        f"after {args.warm_up} batches of noise for the fresh statistics of {len(norms)} BatchNorm, "
        f"which moved the outputs by {moved:.1e} relative"
    )


def export_torchscript(
    module: torch.nn.Module, example: tuple[torch.Tensor, ...], args: argparse.Namespace
) -> onnx.ModelProto:
    """Export by tracing (``dynamo=False``); it fuses BatchNorm into convolutions unless told to preserve."""
    names = [spec.name for spec in args.input]
    mode = torch.onnx.TrainingMode
    torch.onnx.export(
        module,
        example,
        args.part,
        dynamo=False,
        input_names=names,
        output_names=args.output_name,
        opset_version=args.opset,
        dynamic_axes=None if args.fixed_batch else {name: {0: "batch"} for name in names + args.output_name},
        training=mode.PRESERVE if args.training_preserving else mode.EVAL,
        do_constant_folding=not args.training_preserving,
    )
    return onnx.load(args.part)


def export_dynamo(
    module: torch.nn.Module, example: tuple[torch.Tensor, ...], args: argparse.Namespace
) -> onnx.ModelProto:
    """Export through ``torch.export``; drop the stack traces, which name files of this machine."""
    batch = torch.export.Dim("batch")
    program = torch.onnx.export(
        module,
        example,
        dynamo=True,
        verbose=False,
        input_names=[spec.name for spec in args.input],
        output_names=args.output_name,
        opset_version=args.opset,
        dynamic_shapes=None if args.fixed_batch else tuple({0: batch} for _ in example),
        optimize=not args.training_preserving,
    )
    assert program is not None
    model = program.model
    if args.training_preserving:
        _fold_all_but_batch_norm(model)
    for node in onnx_ir.traversal.RecursiveGraphIterator(model.graph):
        node.metadata_props.pop("pkg.torch.onnx.stack_trace", None)
    return onnx_ir.to_proto(model)


def _fold_all_but_batch_norm(model: onnx_ir.Model) -> None:
    """Do what the exporter's optimiser does, but for the rules that fuse BatchNorm into its neighbour."""
    from onnx_ir.passes import common
    from onnxscript import optimizer, rewriter
    from onnxscript.rewriter.rules import common as rules

    common.InlinePass()(model)
    for _ in range(2):
        optimizer.fold_constants_ir(model)
        rewriter.rewrite(
            model,
            [
                rules.no_op_expand_rule,
                rules.remove_optional_bias_from_conv_rule,
                rules.remove_optional_bias_from_conv_transpose_rule,
                rules.remove_optional_bias_from_gemm_rule,
            ],
        )
    common.RemoveUnusedNodesPass()(model)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)


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
    module = build(args)
    first = args.input[0].shape[0]
    # torch.export takes a batch of 1 for a constant, so a free batch is traced with 2.
    batch = first if args.fixed_batch else max(first, 2)
    batches = [batch] if args.fixed_batch else [batch, batch + 1]
    with refused("the module on --input", debug=args.debug):
        expected, note = prepare(module, batches, args)
    generator = torch.Generator().manual_seed(args.seed)
    example = tuple(spec.sample(batch, generator) for spec in args.input)
    export = {"torchscript": export_torchscript, "dynamo": export_dynamo}[args.exporter]
    args.part = f"{args.output}.part"
    try:
        with refused(f"--exporter {args.exporter}", debug=args.debug):
            model = export(module, example, args)
            onnx.checker.check_model(model)
            onnx.save(model, args.part)
            absolute, relative = largest_difference(expected, args.part, [spec.name for spec in args.input])
        if not relative <= args.tolerance:
            raise SystemExit(f"{args.output}: not written, it differs by {relative:.2e} relative")
        os.replace(args.part, args.output)
    finally:
        Path(args.part).unlink(missing_ok=True)
    parameters = sum(p.numel() for p in module.parameters())
    opset = next(o.version for o in model.opset_import if o.domain == "")
    return (
        f"{args.output}: {args.factory} by torch {torch.__version__.split('+')[0]} {args.exporter}, "
        f"opset {opset}, {parameters:,} parameters, {Path(args.output).stat().st_size:,} bytes, "
        f"batch {batch if args.fixed_batch else 'free'}, "
        f"max |difference| to PyTorch {absolute:.2e} (relative {relative:.2e}), the module {note}"
    )


if ARGUMENTS is not None:
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"torch\.onnx|__main__")
    print(convert(ARGUMENTS))
