#!/usr/bin/env python3
"""One network, every exporter, every optimiser: is the score the same? Writes docs/optimisers.md.

    pip install -e '.[gpu,test]' torchvision onnxsim onnxslim onnxoptimizer
    python benchmarks/optimisers.py                        # all, some 30 minutes on one core
    python benchmarks/optimisers.py --only llama -o -      # networks whose names hold this, on the terminal

A cell is compared with the network's TorchScript export as it is, or with the file itself where PyTorch did
not write it. Every tool is held to the function of what it was given.
"""

import argparse
import inspect
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from intrain_onnx import IntrainError  # noqa: E402
from intrain_onnx.parity import telemetry  # noqa: E402

os.environ.update(telemetry.SWITCHES)

import onnx  # noqa: E402
import onnx_ir  # noqa: E402
import torch  # noqa: E402
from matrix import NETWORKS as MATRIX  # noqa: E402
from matrix import SAMPLES, UNREACHED, path  # noqa: E402
from optimiser_nets import NETWORKS  # noqa: E402
from rewriting import chains  # noqa: E402
from rewriting.editing import REWRITES  # noqa: E402
from rewriting.tools import OPTIMISERS  # noqa: E402

TOLERANCE = 1e-3
FIGURES = ("intrain", "geometric_capacity", "optimization_resilience")
EXPORTERS = ("torchscript", "dynamo")


@dataclass(frozen=True)
class Measured:
    """A file's score: its figures, how often each layer has which key, and the share of weights covered."""

    figures: tuple[float, ...]
    keys: dict[str, int]
    share: float

    @property
    def layers(self) -> int:
        return sum(self.keys.values())


Cell = Measured | str
"""A score, or why there is none."""


def measure(file: Path) -> Cell:
    """The score of a file, or the refusal."""
    try:
        data = chains.measure(onnx.load(file))
    except IntrainError as error:
        return f"refused: {error}"
    except Exception as error:
        return f"**internal error: {type(error).__name__}: {error}**"
    figures = tuple(data["score"][figure] for figure in FIGURES)
    return Measured(figures, dict(chains.keys(data)), data["coverage"]["share"])


def optimised(file: Path, tool: str, target: Path) -> str:
    """Run an optimiser on a file; why its result is no use, or nothing."""
    before = onnx.load(file)
    try:
        after = OPTIMISERS[tool][1](before)
        onnx.save(after, target)
    except Exception as error:
        return f"the tool fails: {type(error).__name__}: {error}"
    before = onnx.load(file)
    inputs = chains.feeds(before)
    distance = chains.apart(chains.run(before, inputs), chains.run(onnx.load(target), inputs))
    return "" if distance <= 1e-3 else f"the tool moves the outputs by {distance:.1g}"


class Worker:
    """A process that runs functions, and is started again where one of them ends it."""

    def __init__(self) -> None:
        self.pool = self._fresh()

    def _fresh(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(1, get_context("spawn"))

    def __call__(self, function: Callable[..., Cell], *arguments: object) -> Cell:
        """What a function returns, or that its process died."""
        try:
            return self.pool.submit(function, *arguments).result()
        except BrokenProcessPool:
            self.pool = self._fresh()
            return "the process died"


def cell(run: Worker, file: Path, tool: str, folder: Path) -> Cell:
    """The score of what an optimiser makes of a file."""
    if not REWRITES[tool].available:
        return "not installed"
    target = folder / f"{file.stem}-{tool}.onnx"
    fault = run(optimised, file, tool, target)
    found = fault or run(measure, target)
    target.unlink(missing_ok=True)
    return found


def export(name: str, exporter: str, target: Path) -> str:
    """Export a network of `optimiser_nets` with a free batch; why that failed, or nothing."""
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    make, example = NETWORKS[name]
    torch.manual_seed(0)
    module, arguments = make().eval(), example()
    names = list(inspect.signature(module.forward).parameters)[: len(arguments)]
    options: dict[str, Any] = {"input_names": names, "output_names": ["output"], "verbose": False}
    try:
        if exporter == "torchscript":
            axes = {value: {0: "batch"} for value in [*names, "output"]}
            torch.onnx.export(module, arguments, str(target), dynamo=False, dynamic_axes=axes, **options)
        else:
            shapes = tuple({0: torch.export.Dim("batch")} for _ in arguments)
            program = torch.onnx.export(module, arguments, dynamo=True, dynamic_shapes=shapes, **options)
            assert program is not None
            onnx_ir.save(program.model, target)
    except Exception as error:
        return f"the export fails: {type(error).__name__}: {str(error)[:100]}"
    return ""


def sources(run: Worker, folder: Path, only: str) -> Iterator[tuple[str, str, Path | str]]:
    """Network, exporter, and its file or why there is none; TorchScript's first."""
    for sample in sorted(SAMPLES):
        if sample.startswith("pytorch") or only not in sample:
            continue
        yield sample, sample.partition("_")[0], ROOT / "samples" / f"{sample}.onnx"
    for name in ("resnet", "encoder"):
        for exporter in (*EXPORTERS, "training"):
            file = ROOT / "samples" / f"pytorch_{name}_{exporter}.onnx"
            if file.is_file() and only in f"pytorch_{name}":
                yield f"pytorch_{name}", exporter, file
    for name in MATRIX:
        for exporter in EXPORTERS:
            if only in name and (name, exporter) not in UNREACHED:
                yield name, exporter, path(name, exporter)
    for name in NETWORKS:
        for exporter in EXPORTERS:
            if only in name:
                target = folder / f"{name}-{exporter}.onnx"
                fault = run(export, name, exporter, target)
                yield name, exporter, str(fault) if fault else target


def shown(found: Cell, reference: Cell) -> str:
    """Text of a cell: equal, or by how much and in how many layers it differs, or why there is no score."""
    if isinstance(found, str):
        return found.replace("|", "\\|").replace("\n", " ")[:200]
    if isinstance(reference, str):
        return f"{found.figures[0]:.4g}"
    pairs = zip(found.figures, reference.figures, strict=True)
    largest = max(abs(a - b) / max(abs(b), 1e-12) for a, b in pairs)
    covered = "" if found.share == 1 else f", says that {1 - found.share:.1%} of the weights are missing"
    if largest <= TOLERANCE and found.keys == reference.keys:
        return f"equal{covered}"
    layers = f"{reference.layers} → {found.layers}" if found.layers != reference.layers else "other keys"
    same = " (layers alike)" if found.keys == reference.keys else f" ({layers})"
    return f"**{largest:.1%}{same}**{covered}"


def versions() -> str:
    packages = ["torch", "torchvision", "onnx", "onnxruntime-gpu", "onnxsim", "onnxslim", "onnxoptimizer"]
    found = []
    for package in packages:
        try:
            found.append(f"{package} {metadata.version(package)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


HEAD = """# One network, both exporters, every optimiser

Written by `benchmarks/optimisers.py`, with {versions}.

Each network is scored as it was exported and as each optimiser writes it: protocol `architecture`, seed 0,
16 samples. A cell is **equal** where the score, its two factors and the keys of all layers are those of the
network's TorchScript export as it is (of the file itself where PyTorch did not write it), to {tolerance:.1%}.
Else it has in bold the largest relative difference and the number of layers, or says why there is no score:
refused with the reason, or what became of the exporter or the optimiser.
"""


def table(only: str) -> Iterator[str]:
    """The lines of the document."""
    yield HEAD.format(versions=versions(), tolerance=TOLERANCE)
    yield f"| network | exporter | layers | as exported | {' | '.join(OPTIMISERS)} |"
    yield "|---" * (4 + len(OPTIMISERS)) + "|"
    reference: dict[str, Cell] = {}
    counts = {"equal": 0, "all": 0}
    with tempfile.TemporaryDirectory() as text:
        folder, run = Path(text), Worker()
        for name, exporter, file in sources(run, folder, only):
            plain = file if isinstance(file, str) else run(measure, file)
            known = reference.setdefault(name, plain)
            cells = [shown(plain, known)]
            if isinstance(file, Path):
                cells += [shown(cell(run, file, tool, folder), known) for tool in OPTIMISERS]
                if file.parent == folder:
                    file.unlink()
            counts["all"] += len(cells)
            counts["equal"] += cells.count("equal")
            layers = "" if isinstance(plain, str) else plain.layers
            cells += [""] * (1 + len(OPTIMISERS) - len(cells))
            yield f"| {name} | {exporter} | {layers} | {' | '.join(cells)} |"
        run.pool.shutdown()
    yield f"\n{counts['equal']} of {counts['all']} cells are equal."


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="networks whose names hold this")
    parser.add_argument(
        "-o", "--output", default=str(ROOT / "docs" / "optimisers.md"), help="- for the terminal"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = []
    for line in table(args.only):
        print(line, file=sys.stderr if args.output != "-" else sys.stdout, flush=True)
        lines.append(line)
    if args.output != "-":
        Path(args.output).write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
