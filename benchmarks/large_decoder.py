"""Writes a decoder of billions of parameters in bfloat16, its weights in external data.

    python benchmarks/large_decoder.py FOLDER                    # 7.1 billion parameters, 14.3 GB
    python benchmarks/large_decoder.py FOLDER --layers 4 --width 2048 --hidden 5504
    intrain-onnx score FOLDER/decoder.onnx --seeds 1 --batch 4 --no-parity

Pre-norm blocks of causal attention with rotary positions and a SwiGLU, as in LLaMA; 64 tokens. The weights
are Gaussian with variance 1 / fan-in: one block of random numbers, repeated and scaled. With `--measure
PROTOCOL` the file is scored, and the time and the largest anonymous memory are printed.
"""

from __future__ import annotations

import argparse
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, helper

from intrain_onnx import ScoreConfig, score
from intrain_onnx.bench.spaces.openlm import Architecture, write_mlp
from intrain_onnx.bench.token_writer import TokenWriter

TOKENS = 64
_BLOCK = np.random.default_rng(0).standard_normal(2**22, np.float32)


@dataclass
class Bfloat16Writer(TokenWriter):
    """Writes all floats in bfloat16, and weights to a file of their own.

    Attributes:
        file: gets the weights.
        parameters: number of weights so far.
    """

    file: IO[bytes] = field(kw_only=True)
    parameters: int = 0

    def weight(self, *shape: int, value: float = 0.0) -> str:
        """Ones for a vector; else Gaussian numbers."""
        name, count = f"weight_{len(self.weights)}", int(np.prod(shape))
        scale = 1.0 if len(shape) == 1 else shape[0] ** -0.5
        block = (np.ones(count) if len(shape) == 1 else _BLOCK * scale).astype(ml_dtypes.bfloat16)
        tensor = TensorProto(name=name, data_type=TensorProto.BFLOAT16, dims=shape)
        tensor.data_location = TensorProto.EXTERNAL
        held = {"location": Path(self.file.name).name, "offset": self.file.tell(), "length": 2 * count}
        for key, entry in held.items():
            tensor.external_data.add(key=key, value=str(entry))
        for start in range(0, count, len(block)):
            self.file.write(block[: count - start].tobytes())
        self.weights.append(tensor)
        self.parameters += count
        return name

    def number(self, value: float) -> str:
        """A scalar constant."""
        return self.constant(np.array(value, np.float32))

    def constant(self, array: np.ndarray) -> str:
        """A constant; floats in bfloat16."""
        array = np.asarray(array)
        return super().constant(array.astype(ml_dtypes.bfloat16) if array.dtype.kind == "f" else array)


@dataclass(frozen=True)
class Decoder(Architecture):
    """An architecture whose hidden channels are given.

    Attributes:
        inner: hidden channels of the MLP.
    """

    inner: int = 0

    @property
    def hidden(self) -> int:
        """Hidden channels of the MLP."""
        return self.inner


def write(folder: Path, network: Decoder, words: int) -> int:
    """Write decoder.onnx and decoder.bin; returns the number of parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "decoder.bin").open("wb") as file:
        writer = Bfloat16Writer(True, file=file)
        width = network.width
        x = writer.embedding(writer.weight(words, width), "tokens")
        turn, hide = writer.rotary(TOKENS, network.dimension), writer.causal(TOKENS)
        shape = writer.integers(0, 0, network.heads, network.dimension)
        for _ in range(network.layers):
            given = writer.layer_norm(x, width, bias=False)
            parts = [writer.linear(given, width, width, bias=False) for _ in range(3)]
            apart = [
                writer.node("Transpose", writer.node("Reshape", p, shape), perm=[0, 2, 1, 3]) for p in parts
            ]
            queries, keys, values = apart
            mixed = writer.attend(turn(queries), turn(keys), values, network.heads, network.dimension, hide)
            x = writer.node("Add", x, writer.linear(mixed, width, width, bias=False))
            x = writer.node("Add", x, write_mlp(writer, writer.layer_norm(x, width, bias=False), network))
        logits = writer.linear(writer.layer_norm(x, width, bias=False), width, words, bias=False)
    given = helper.make_tensor_value_info("tokens", TensorProto.INT64, ["batch", TOKENS])
    made = helper.make_tensor_value_info(logits, TensorProto.BFLOAT16, ["batch", TOKENS, words])
    graph = helper.make_graph(writer.nodes, "decoder", [given], [made], writer.weights)
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "decoder.onnx")
    return writer.parameters


def anonymous() -> int:
    """Bytes of anonymous memory that are resident."""
    rows = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(row.split()[1]) * 1024 for row in rows if row.startswith("RssAnon:"))


def measure(path: Path, protocol: str, batch: int) -> None:
    """Score a file, and print time, largest anonymous memory and result."""
    largest, done = anonymous(), threading.Event()

    def watch() -> None:
        nonlocal largest
        while not done.wait(0.05):
            largest = max(largest, anonymous())

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    try:
        report = score(path, ScoreConfig.for_protocol(protocol, seeds=1, batch=batch, parity=False))
    finally:
        done.set()
        watcher.join()
    seconds = time.perf_counter() - started
    print(f"{protocol}: {seconds:.0f} s, at most {largest / 1e9:.2f} GB of anonymous memory")
    print(f"  volume {report.data['scores']['volume']['value']:.4f}, InTrain {report.intrain:.4f}")
    print("  " + ", ".join(f"{k} {v:.0f}" for k, v in report.data["timings_s"].items()))


def main() -> None:
    """Write a decoder, or measure one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=34)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--hidden", type=int, default=11008)
    parser.add_argument("--words", type=int, default=32000)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--measure", metavar="PROTOCOL", help="score the file that is there")
    asked = parser.parse_args()
    if asked.measure:
        measure(asked.folder / "decoder.onnx", asked.measure, asked.batch)
        return
    network = Decoder(asked.width, asked.layers, asked.heads, inner=asked.hidden)
    print(f"{write(asked.folder, network, asked.words):,} parameters")


if __name__ == "__main__":
    main()
