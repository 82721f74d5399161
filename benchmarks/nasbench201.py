"""Does the score rank NAS-Bench-201, and does folding BatchNorm change that?

    python benchmarks/nasbench201.py nb201.csv.gz [--sample 300] [--seed 0] [--workers 2]

The CSV needs the columns ``arch_str`` and ``cifar10_test`` and may have those of the other data sets. Each
network is written to ONNX twice, with its BatchNorm and with it folded away as exporters do, and scored on 16
samples of 32x32. Prints Kendall's tau with a bootstrap 95 % interval beside the layer count and #Params.

Dong and Yang, NAS-Bench-201, ICLR 2020: the network and its cells.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import TensorProto, helper
from scipy.stats import kendalltau

from intrain_onnx import ScoreConfig, score

WIDTHS = (16, 32, 64)
CELLS = 5
CLASSES = 10
COLUMNS = ("cifar10_test", "cifar100_test", "imagenet16_test")
KINDS = {"paper, BatchNorm kept": ("paper", False), "architecture, folded": ("architecture", True)}


@dataclass
class Writer:
    """Collects nodes and initializers; each method adds a node and returns the name of its output."""

    fold: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def node(self, op: str, *inputs: str, **attributes: object) -> str:
        name = f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def weight(self, *shape: int) -> str:
        name = f"weight_{len(self.weights)}"
        zeros = np.zeros(shape, np.float32).tobytes()
        self.weights.append(helper.make_tensor(name, TensorProto.FLOAT, shape, zeros, raw=True))
        return name

    def convolution(
        self, x: str, inputs: int, outputs: int, kernel: int, stride: int, *, norm: bool = True
    ) -> str:
        pad = kernel // 2
        operands = [x, self.weight(outputs, inputs, kernel, kernel)]
        if norm and self.fold:
            operands.append(self.weight(outputs))
        y = self.node("Conv", *operands, pads=[pad] * 4, strides=[stride] * 2)
        return self.norm(y, outputs) if norm and not self.fold else y

    def norm(self, x: str, channels: int) -> str:
        return self.node("BatchNormalization", x, *(self.weight(channels) for _ in range(4)))

    def operation(self, name: str, x: str, channels: int) -> str | None:
        if name == "none":
            return None
        if name == "skip_connect":
            return x
        if name == "avg_pool_3x3":
            return self.node("AveragePool", x, kernel_shape=[3, 3], pads=[1] * 4)
        kernel = {"nor_conv_1x1": 1, "nor_conv_3x3": 3}[name]
        return self.convolution(self.node("Relu", x), channels, channels, kernel, 1)

    def cell(self, architecture: str, x: str, channels: int) -> str:
        """One cell; where no path leads through it, its input times zero."""
        values: list[str | None] = [x]
        for part in architecture.split("+"):
            total: str | None = None
            for edge in part.strip("|").split("|"):
                name, _, source = edge.partition("~")
                origin = values[int(source)]
                made = self.operation(name, origin, channels) if origin is not None else None
                total = (
                    made if total is None else self.node("Add", total, made) if made is not None else total
                )
            values.append(total)
        return values[-1] or self.node("Mul", x, self.weight())

    def reduction(self, x: str, inputs: int, outputs: int) -> str:
        a = self.convolution(self.node("Relu", x), inputs, outputs, 3, 2)
        b = self.convolution(self.node("Relu", a), outputs, outputs, 3, 1)
        pooled = self.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])
        return self.node("Add", b, self.convolution(pooled, inputs, outputs, 1, 1, norm=False))


def build(architecture: str, *, fold: bool) -> onnx.ModelProto:
    """The network of a cell string, for images of 3x32x32."""
    writer = Writer(fold)
    x = writer.convolution("image", 3, WIDTHS[0], 3, 1)
    for stage, width in enumerate(WIDTHS):
        if stage:
            x = writer.reduction(x, WIDTHS[stage - 1], width)
        for _ in range(CELLS):
            x = writer.cell(architecture, x, width)
    x = writer.node("GlobalAveragePool", writer.node("Relu", writer.norm(x, WIDTHS[-1])))
    flat = writer.node("Flatten", x)
    logits = writer.node("Gemm", flat, writer.weight(CLASSES, WIDTHS[-1]), writer.weight(CLASSES), transB=1)
    values = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 3, 32, 32]),
        helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", CLASSES]),
    ]
    graph = helper.make_graph(writer.nodes, "nas_bench_201", values[:1], values[1:], writer.weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def measure(architecture: str) -> dict[str, float]:
    """Both scores of one architecture, its layer count and its parameters."""
    found: dict[str, float] = {}
    for name, (protocol, fold) in KINDS.items():
        config = ScoreConfig.for_protocol(protocol, seeds=1, batch=16, threads=1, parity=False, device="cpu")
        report = score(build(architecture, fold=fold), config)
        found[name] = report.intrain
        if protocol == "architecture":
            found["live layer count"] = report.data["score"]["layers"]
            found["layer count"] = report.data["model"]["canonical_layers"]
        else:
            found["#Params"] = report.data["model"]["parameters"]
    return found


def interval(x: Sequence[float], y: Sequence[float], seed: int, rounds: int = 500) -> tuple[float, float]:
    """Bootstrap 95 % interval of Kendall's tau."""
    generator = np.random.default_rng(seed)
    a, b = np.asarray(x), np.asarray(y)
    taus = [kendalltau(a[i], b[i]).statistic for i in generator.integers(0, len(a), (rounds, len(a)))]
    return float(np.percentile(taus, 2.5)), float(np.percentile(taus, 97.5))


def main() -> None:
    """Print a table of correlations."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("csv")
    parser.add_argument("--sample", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    with gzip.open(options.csv, "rt") as stream:
        rows = list(csv.DictReader(stream))
    rows = random.Random(options.seed).sample(rows, options.sample)
    started = time.perf_counter()
    with ProcessPoolExecutor(options.workers) as pool:
        measured = list(pool.map(measure, [row["arch_str"] for row in rows], chunksize=4))
    seconds = time.perf_counter() - started
    columns = [c for c in COLUMNS if rows[0].get(c)]
    print(f"{len(rows)} architectures, {seconds:.0f} s with {options.workers} workers")
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    for name in measured[0]:
        cells = []
        for column in columns:
            x, y = [m[name] for m in measured], [float(r[column]) for r in rows]
            low, high = interval(x, y, options.seed)
            cells.append(f"{kendalltau(x, y).statistic:.3f} ({low:.3f} to {high:.3f})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
