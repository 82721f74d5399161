"""What the converted module costs over the same network written in torch, forward and backward.

    python benchmarks/converted.py [resnet50 convnext swin vit_b encoder] [--exporter torchscript|dynamo]
        [--pairs 9] [--threads 2] [--cpu-time] [--folder DIR]

The networks have random weights and are exported by PyTorch. All contestants run in turn in one process: the
network itself, the module of ``to_torch``, and that of onnx2torch where it takes the file. The ratio is taken
round by round; medians and quartiles are printed. Needs torchvision, for ``dynamo`` onnxscript too.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import onnx
import onnx2torch
import torch
from speed_nets import NETS
from torch import Tensor, nn

import intrain_onnx

NETWORKS = {name: NETS[name] for name in ("resnet50", "convnext", "swin", "vit_b", "encoder")}


def export(native: nn.Module, x: Tensor, path: Path, exporter: str) -> None:
    """Write a network as one of PyTorch's exporters does, with its batch fixed."""
    if not path.exists():
        opset: dict[str, Any] = {} if exporter == "dynamo" else {"opset_version": 17}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                native, (x,), path, dynamo=exporter == "dynamo", external_data=False, verbose=False, **opset
            )


def second(path: Path) -> nn.Module | None:
    """The module of onnx2torch; None where it fails."""
    try:
        module: nn.Module = onnx2torch.convert(onnx.load(path)).eval()
    except Exception as error:  # it raises many kinds
        print(f"  onnx2torch: {type(error).__name__}: {' '.join(str(error).split())[:80]}")
        return None
    for buffer in module.buffers():  # weights of a MatMul: without their gradient a pass is another one
        if buffer.is_floating_point() and buffer.numel() > 1:
            buffer.requires_grad_()
    return module


def one_pass(module: nn.Module, x: Tensor, clock: Callable[[], float]) -> float:
    """Seconds of a forward and a backward pass."""
    for tensor in (*module.parameters(), *module.buffers()):
        tensor.grad = None
    started = clock()
    module(x).square().mean().backward()
    return clock() - started


def measure(name: str, exporter: str, folder: Path, pairs: int, clock: Callable[[], float]) -> None:
    """Print the ratios of one network."""
    net = NETWORKS[name]
    native, x = net.native(), torch.randn(net.shape)
    assert native is not None
    path = folder / f"{name}_{exporter}.onnx"
    export(native, x, path, exporter)
    native.train(False)
    contestants: dict[str, nn.Module | None] = {
        "native": native,
        "to_torch": intrain_onnx.to_torch(path),
        "onnx2torch": second(path),
    }
    present = {k: m for k, m in contestants.items() if m is not None}
    seconds: dict[str, list[float]] = {k: [] for k in present}
    for index in range(pairs + 2):
        for key, module in present.items():
            taken = one_pass(module, x, clock)
            if index > 1:  # the first rounds warm up
                seconds[key].append(taken)
    took = statistics.median(seconds["native"])
    print(f"{name}, {exporter}, {net.size}: native {took:.3f} s")
    for key in present.keys() - {"native"}:
        ratios = [a / b for a, b in zip(seconds[key], seconds["native"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        least = min(seconds[key]) / min(seconds["native"])
        print(f"  {key:11} {middle:.3f} ({low:.3f} to {high:.3f}; least over least {least:.3f})", flush=True)


def main() -> None:
    """Measure the networks that are named, or all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("networks", nargs="*", help=", ".join(NETWORKS))
    parser.add_argument("--exporter", choices=["torchscript", "dynamo"], default="torchscript")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--cpu-time", action="store_true", help="of all threads: where others use the machine"
    )
    parser.add_argument("--folder", type=Path, help="keeps the exported files")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = time.process_time if options.cpu_time else time.perf_counter
    folder = options.folder or Path(tempfile.mkdtemp())
    folder.mkdir(exist_ok=True)
    for name in options.networks or NETWORKS:
        measure(name, options.exporter, folder, options.pairs, clock)


if __name__ == "__main__":
    main()
