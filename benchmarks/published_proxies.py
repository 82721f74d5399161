"""Do the proxies rank networks as their published values do?

    python benchmarks/published_proxies.py nb201_zc_proxies.csv.gz nb201.csv.gz [--sample 200] [--seed 0]

The first CSV holds the values of NAS-Bench-Suite-Zero, with the columns ``arch_str`` and ``dataset`` and one
for each proxy; the second holds ``arch_str`` and ``cifar10_test``. Each network is written to ONNX with its
BatchNorm and measured under the paper's protocol on 16 samples of noise. Prints, as Markdown, Kendall's tau
between our values and the published ones on the same rows, and of both with the test accuracy.

Krishnakumar et al., NAS-Bench-Suite-Zero, NeurIPS 2022. Their values come from images of CIFAR-10 with their
labels and from weights as PyTorch draws them. Their FLOPs also count elementwise operations and pooling.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial

from scipy.stats import kendalltau

from intrain_onnx import ScoreConfig, score
from intrain_onnx.bench.spaces.nasbench201 import build
from intrain_onnx.proxy_table import PROXIES

PUBLISHED = {"naswot": "nwot"}
"""Columns whose name is not the proxy's."""


def published(row: Mapping[str, str], part: str) -> float | None:
    """The published value; None where there is none.

    Of FLOPs, the products alone: in all 15 cells an operation adds, in millions, 0.43008 for ReLU (one an
    element) and BatchNorm (two), and average pooling 1.29024 (nine). Other nodes are the same everywhere.
    """
    column = PUBLISHED.get(part, part)
    if column not in row:
        return None
    value = float(row[column])
    if part == "flops":
        cell = row["arch_str"]
        value = round(value - 0.43008 * cell.count("nor_conv") - 1.29024 * cell.count("avg_pool"), 3)
    return value


def measure(arch: str, *, protocol: str, batch: int, seed: int) -> dict[str, tuple[float | None, float]]:
    """Every value of one network, by part, with the seconds that its proxy took."""
    config = ScoreConfig.for_protocol(
        protocol,
        seeds=1,
        seed=seed,
        batch=batch,
        threads=1,
        parity=False,
        device="cpu",
        proxies=tuple(PROXIES),
    )
    data = score(build(arch, fold=protocol == "architecture"), config).data
    return {
        part: (value, data["timings_s"][f"proxy_{name}"])
        for name, found in data["proxies"].items()
        for part, value in found["values"].items()
    }


def tau(ours: Sequence[float | None], theirs: Sequence[float]) -> str:
    """Kendall's tau over the rows that have a value of ours."""
    pairs = [(a, b) for a, b in zip(ours, theirs, strict=True) if a is not None]
    return f"{kendalltau(*zip(*pairs, strict=True)).statistic:.3f}" if len(pairs) > 1 else "-"


def table(
    measured: Sequence[Mapping[str, tuple[float | None, float]]],
    rows: Sequence[Mapping[str, str]],
    accuracy: Mapping[str, float],
) -> str:
    """One row a value, as Markdown."""
    truth = [accuracy[row["arch_str"]] for row in rows]
    lines = [
        "| value | with the published | with accuracy | published with accuracy | missing | seconds |",
        "|---|---|---|---|---|---|",
    ]
    for part in measured[0]:
        ours = [m[part][0] for m in measured]
        theirs = [v for row in rows if (v := published(row, part)) is not None]
        seconds = statistics.fmean(m[part][1] for m in measured)
        against = (tau(ours, theirs), tau(ours, truth), tau(theirs, truth)) if theirs else None
        first, second, third = against or ("not published", tau(ours, truth), "")
        lines.append(f"| {part} | {first} | {second} | {third} | {ours.count(None)} | {seconds:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("published")
    parser.add_argument("accuracies")
    parser.add_argument("--sample", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--protocol", choices=("paper", "architecture"), default="paper")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    with gzip.open(options.accuracies, "rt") as stream:
        accuracy = {row["arch_str"]: float(row["cifar10_test"]) for row in csv.DictReader(stream)}
    with gzip.open(options.published, "rt") as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if row["dataset"] == "cifar10" and row["arch_str"] in accuracy
        ]
    rows = random.Random(options.seed).sample(rows, min(options.sample, len(rows)))
    one = partial(measure, protocol=options.protocol, batch=options.batch, seed=options.seed)
    started = time.perf_counter()
    with ProcessPoolExecutor(options.workers) as pool:
        measured = list(pool.map(one, [row["arch_str"] for row in rows], chunksize=4))
    seconds = time.perf_counter() - started
    print(f"{len(rows)} architectures, {options.protocol}, batch {options.batch}, {seconds:.0f} s")
    print(table(measured, rows, accuracy))


if __name__ == "__main__":
    main()
