#!/usr/bin/env python3
"""Score the reference networks, and write the table that `score` finds the percentile of a network in.

    python benchmarks/reference_networks.py                  # all; goes on where it stopped
    python benchmarks/reference_networks.py --minutes 10     # ends after so long; run it again to go on
    python benchmarks/reference_networks.py --write          # writes the table of what is scored so far

Networks are torchvision's classifiers, architectures drawn from the spaces of `bench`, and fully connected
ones, at the defaults of `score`: images of 64x64 and sequences of 64. Files may have other sizes built in, so
convolutional spaces are scored at 32x32 too, and torchvision's at 224x224, the latter with one seed. A
network with more than 100 M parameters is left out, and at 224x224 one with more than 35 M, or 4.5 G
multiply-accumulates. The log beside this file holds what is done; a line of another version of torch is
measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import msgspec
import onnx
from onnx import TensorProto, helper

from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.bench.spaces.torchvision import FAMILIES
from intrain_onnx.bench.writer import Writer
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.inspection import inspect
from intrain_onnx.pipeline import score
from intrain_onnx.report.context.inputs import in_words
from intrain_onnx.report.context.references import Reference
from intrain_onnx.report.context.standing import compared
from intrain_onnx.report.document import number
from intrain_onnx.versions import version

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "intrain_onnx" / "report" / "context" / "networks.json"
LOG = ROOT / "benchmarks" / "reference_networks.jsonl"
MOST_PARAMETERS = 100e6
LARGE, MOST_MACS, MOST_PARAMETERS_LARGE = 224, 4.5e9, 35e6
SMALL = 32
DRAWS = {
    "nasbench201": 16,
    "nasbench101": 10,
    "nats_size": 12,
    "macro": 12,
    "transnas_macro": 12,
    "mobilenet_v2": 12,
    "nds_resnet": 16,
    "autoformer": 8,
    "pit": 12,
    "digits": 12,
    "gpt2": 20,
    "openlm": 14,
    "nas_bench_nlp": 28,
}
"""Architectures drawn of each space."""

AT_SMALL = (
    "nasbench201",
    "nasbench101",
    "nats_size",
    "macro",
    "transnas_macro",
    "mobilenet_v2",
    "nds_resnet",
    "digits",
)
"""Spaces of which half of the draws are scored at the size of CIFAR-10 too."""

CONNECTED = [(depth, width) for depth in (2, 3, 4, 6, 8, 12, 16) for width in (32, 64, 128, 256, 512)]
"""Layers and channels of the fully connected networks, the only ones without a convolution."""
FEATURES = 64
_DIGITS = 7


@dataclass(frozen=True)
class Network:
    """A network to be scored.

    Attributes:
        name: from which alone it is built.
        family: its design.
        size: of images and sequences.
    """

    name: str
    family: str
    size: int

    @property
    def key(self) -> str:
        """Of the log."""
        return f"{self.name} at {self.size}"

    @property
    def config(self) -> ScoreConfig:
        """The defaults of `score`, but for what does not change a value: threads and parity."""
        config = ScoreConfig.for_protocol(threads=1, parity=False)
        return replace(config, seeds=1) if self.size == LARGE else config

    def build(self) -> onnx.ModelProto:
        """The network, BatchNorm folded as exporters do."""
        origin, _, index = self.name.partition("/")
        if origin == "connected":
            return connected(*CONNECTED[int(index)])
        space, described = (origin, drawn(origin, int(index))) if index else ("torchvision", self.name)
        made = SPACES[space].build(described, fold=True, size=self.size)
        assert isinstance(made, onnx.ModelProto)
        return made


def drawn(space: str, index: int) -> str:
    """The architecture of a number of a space: distinct ones in the order in which they are drawn."""
    generator, found = random.Random(space), dict[str, None]()
    while len(found) <= index:
        found.setdefault(SPACES[space].draw(generator))
    return list(found)[index]


def connected(depth: int, width: int) -> onnx.ModelProto:
    """A fully connected network of vectors."""
    writer, x = Writer(fold=True), "vector"
    for index in range(depth - 1):
        x = writer.node("Relu", writer.linear(x, width if index else FEATURES, width, tokens=False))
    logits = writer.linear(x, width, 10, tokens=False)
    given = helper.make_tensor_value_info("vector", TensorProto.FLOAT, ["batch", FEATURES])
    output = helper.make_tensor_value_info(logits, TensorProto.FLOAT, ["batch", 10])
    return writer.network(given, output, name="connected")


def networks() -> Iterator[Network]:
    """All, in an order by which every part of a run has some of each space."""
    size = ScoreConfig.for_protocol().size
    rows = [(i / n, Network(f"{space}/{i}", space, size)) for space, n in DRAWS.items() for i in range(n)]
    rows += [
        (i / len(CONNECTED), Network(f"connected/{i}", "connected", size)) for i in range(len(CONNECTED))
    ]
    names = [(name, family) for family, members in FAMILIES.items() for name in members]
    rows += [(i / len(names), Network(name, family, size)) for i, (name, family) in enumerate(names)]
    yield from (network for _, network in sorted(rows, key=lambda row: row[0]))
    small = ((space, i) for space in AT_SMALL for i in range(DRAWS[space] // 2))
    yield from (Network(f"{space}/{i}", space, SMALL) for space, i in small)
    yield from (Network(name, family, LARGE) for name, family in names)


def too_large(network: Network, model: onnx.ModelProto) -> str:
    """Why a network is left out; empty where it is not."""
    found = inspect(model).data["model"]
    most = MOST_PARAMETERS_LARGE if network.size == LARGE else MOST_PARAMETERS
    if found["parameters"] > most:
        return f"{found['parameters'] / 1e6:.0f} M parameters"
    if network.size == LARGE and found["macs"] > MOST_MACS:
        return f"{found['macs'] / 1e9:.0f} G multiply-accumulates at {LARGE}x{LARGE}"
    return ""


def known_too_large(network: Network, lines: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The line of a network that was too large at another size: an export of it takes minutes."""
    others = (lines.get(replace(network, size=size).key, {}) for size in (64, LARGE))
    found = next((x["left_out"] for x in others if " M parameters" in x.get("left_out", "")), None)
    return {"key": network.key, "torch": version("torch"), "left_out": found} if found else {}


def measured(network: Network) -> dict[str, Any]:
    """A line of the log."""
    head = {"key": network.key, "torch": version("torch")}
    try:
        model = network.build()
        if reason := too_large(network, model):
            return {**head, "left_out": reason}
        document = score(model, network.config).document
    except IntrainError as error:
        return {**head, "left_out": str(error).partition(";")[0]}
    assert document.kind is not None
    row = Reference(
        network.name,
        network.family,
        document.kind,
        in_words(document.settings.inputs_fed),
        network.config.seeds,
        {name: float(number(x.value, _DIGITS) or 0.0) for name, x in document.scores.items()},
        {name: number(x, _DIGITS) if isinstance(x, float) else x for name, x in document.baselines.items()},
    )
    return {**head, "settings": compared(document.settings), "row": msgspec.to_builtins(row)}


def logged() -> dict[str, dict[str, Any]]:
    """The lines of the log that are of this torch, by key."""
    lines = [json.loads(line) for line in LOG.read_text().splitlines()] if LOG.exists() else []
    return {line["key"]: line for line in lines if line["torch"] == version("torch")}


def write(lines: Mapping[str, dict[str, Any]]) -> None:
    """Write the table: a header, then a network a line."""
    rows = [(network, lines[network.key]) for network in networks() if network.key in lines]
    found = [json.dumps(line["row"]) for _, line in rows if "row" in line]
    settings = next(line["settings"] for _, line in rows if "row" in line)
    assert all(line["settings"] == settings for _, line in rows if "row" in line)
    left_out = {network.key: line["left_out"] for network, line in rows if "left_out" in line}
    head = {
        "tool": version("intrain-onnx"),
        "torch": version("torch"),
        "settings": settings,
        "left_out": left_out,
    }
    text = json.dumps(head, indent=1)[:-2] + ',\n "networks": [\n  ' + ",\n  ".join(found) + "\n ]\n}\n"
    TABLE.write_text(text, encoding="utf-8")
    print(f"{len(found)} networks, {len(left_out)} left out: {TABLE}")


def main() -> None:
    """Score what has no line yet, and write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1e9, help="end after so long")
    parser.add_argument("--write", action="store_true", help="write the table of what is scored so far")
    options = parser.parse_args()
    lines, started = logged(), time.monotonic()
    for network in networks():
        if options.write or time.monotonic() - started > 60 * options.minutes:
            break
        if network.key in lines:
            continue
        begun = time.monotonic()
        line = lines[network.key] = known_too_large(network, lines) or measured(network)
        with LOG.open("a") as log:
            log.write(json.dumps(line) + "\n")
        said = line.get("left_out") or f"volume {line['row']['scores']['volume']:.4g}"
        print(f"{network.key}: {said}, {time.monotonic() - begun:.1f} s", flush=True)
    write(lines)


if __name__ == "__main__":
    main()
