#!/usr/bin/env python3
"""What `deploy = "int8"` predicts of each layer, against onnxruntime's quantiser on that layer alone.

    python benchmarks/precision_cost.py [MODEL.onnx ...]   # default: the samples whose BatchNorm is folded

For each layer of a model: the signal to noise at the outputs that an audit predicts, and that of the file in
which `quantize_static` quantised that node alone, both on the same inputs. Prints a table in Markdown:
Spearman's rank correlation over the layers, the median difference, and the figures of the whole network.
Where a file ends with a softmax, the prediction is of the logits before it: the figures differ by a constant.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # read when onnxruntime loads; it would write into the home folder

import numpy as np
import onnx
import onnxruntime as ort
import torch
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from scipy.stats import spearmanr

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "benchmarks")]

from conversions import Feeds, Reader  # noqa: E402

from intrain_onnx.audit.deployment.precision import precision_facts  # noqa: E402
from intrain_onnx.audit.facts import PrecisionFacts  # noqa: E402
from intrain_onnx.config import ScoreConfig  # noqa: E402
from intrain_onnx.loading.load import load  # noqa: E402
from intrain_onnx.measure import inputs  # noqa: E402
from intrain_onnx.measure.prepare import prepare  # noqa: E402
from intrain_onnx.measure.runner import runs_on  # noqa: E402
from intrain_onnx.rewrites.network import Network  # noqa: E402
from intrain_onnx.rewrites.protocol.sequence import for_protocol  # noqa: E402

SAMPLES = ("pytorch_resnet_torchscript", "jax_mixer", "pytorch_encoder_dynamo", "keras_mobile")
TYPES = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}


def predicted(file: Path) -> tuple[PrecisionFacts, Feeds]:
    """What an audit says, and the inputs that it says it of."""
    config = ScoreConfig.for_protocol("checkpoint", parity=False, threads=1)
    device = torch.device("cpu")
    network = Network.of(load(file), config, runs_on(device), keyed=True)
    runnable = prepare(for_protocol(network, config, runs_on(device).see), config, device)
    drawn = inputs.draw(runnable.used, torch.Generator().manual_seed(config.seed), device)
    arrays = inputs.as_arrays(drawn, runnable.used)
    names = [spec.name for spec in runnable.used.inputs]
    facts = precision_facts(runnable, config, "int8", per_channel=False)
    return facts, [dict(zip(names, arrays, strict=True))]


def outputs(file: Path | str, feeds: Feeds) -> np.ndarray:
    """All outputs of onnxruntime, unoptimised."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    return np.concatenate([np.ravel(a) for a in session.run(None, dict(feeds[0])) if a.dtype.kind == "f"])


def real(file: Path, nodes: list[str], feeds: Feeds) -> float:
    """Signal to noise, dB, with these nodes quantised by onnxruntime."""
    with tempfile.TemporaryDirectory() as folder:
        made, done = Path(folder) / "model.onnx", Path(folder) / "quantised.onnx"
        model = onnx.load(file)
        del model.graph.value_info[:]
        onnx.save(model, made)
        quantize_static(
            str(made),
            str(done),
            Reader(feeds),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=nodes,
            **TYPES,
        )
        a, b = outputs(file, feeds).astype(np.float64), outputs(done, feeds).astype(np.float64)
    noise = float(np.square(a - b).sum())
    return 10 * np.log10(float(np.square(a).sum()) / noise) if noise else float("inf")


def compared(file: Path) -> tuple[PrecisionFacts, dict[str, float], float]:
    """What is predicted, what is real of each layer that is a node of the file, and of all of these."""
    facts, feeds = predicted(file)
    nodes = {n.name for n in onnx.load(file).graph.node if n.op_type in ("Conv", "Gemm", "MatMul")}
    known = [name for name in facts.alone if name in nodes]
    return facts, {name: real(file, [name], feeds) for name in known}, real(file, known, feeds)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="*", type=Path)
    files = parser.parse_args().models or [ROOT / "samples" / f"{name}.onnx" for name in SAMPLES]
    print("| model | layers | rank correlation | median difference, dB | all layers: predicted, real, dB |")
    print("|---|---|---|---|---|")
    for file in files:
        facts, found, whole = compared(file)
        pairs = [(facts.alone[name], snr) for name, snr in found.items()]
        told = [(a, b) for a, b in pairs if a is not None and np.isfinite(b)]
        rank = spearmanr(*zip(*told, strict=True)).statistic
        apart = statistics.median(b - a for a, b in told)
        cells = [
            file.stem,
            str(len(told)),
            f"{rank:.2f}",
            f"{apart:+.1f}",
            f"{facts.whole or 0:.1f}, {whole:.1f}",
        ]
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
