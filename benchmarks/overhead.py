"""What the probe costs over the bare forward and backward pass of the same module.

    python benchmarks/overhead.py [--batch 16] [--size 64] [--pairs 7] [--threads 2] [--device cuda]

Time: both run in turn in one process, and the ratio is taken pair by pair. Memory: each runs in a process
of its own, and the peak resident size above what the process had before is compared; on CUDA, the peak of
allocated device memory. Needs torchvision.
"""

from __future__ import annotations

import argparse
import gc
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
import torchvision
from torch.nn import functional

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure.prepare import prepare
from intrain_onnx.measure.probe import probe
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import for_protocol


def export(folder: Path) -> Path:
    """ResNet-50 with random weights, as PyTorch's TorchScript exporter writes it."""
    path = folder / "resnet50.onnx"
    if not path.exists():
        model = torchvision.models.resnet50(weights=None).eval()
        axes = {"image": {0: "batch", 2: "height", 3: "width"}}
        example = torch.zeros(1, 3, 64, 64)
        torch.onnx.export(
            model, (example,), path, dynamo=False, input_names=["image"], dynamic_axes=axes, opset_version=17
        )
    return path


def contestants(
    path: Path, batch: int, size: int, device: str
) -> tuple[Callable[[], object], Callable[[], object]]:
    """The bare pass and the probed pass over one and the same module."""
    config = ScoreConfig.for_protocol("architecture", batch=batch, size=size)
    where = torch.device(device)
    probed_form = for_protocol(Network.of(load(path), config, runs_on(where)), config, runs_on(where).see)
    runnable = prepare(probed_form, config, where)
    generator = torch.Generator().manual_seed(0)
    fed = runnable.feed(generator)
    runnable.calibrate(fed)
    (x,) = fed
    labels = torch.zeros(batch, dtype=torch.int64, device=device)

    def bare() -> object:
        for parameter in runnable.module.parameters():
            parameter.grad = None
        loss = functional.cross_entropy(runnable.module(x), labels)
        loss.backward()
        return loss.item()

    def probed() -> object:
        for parameter in runnable.module.parameters():
            parameter.grad = None
        return probe(runnable, fed, generator)

    return bare, probed


def resident() -> int:
    """Bytes resident now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_above_start(path: Path, which: str, batch: int, size: int, device: str) -> int:
    """Peak bytes of one kind of pass above what was there before it, after a small warm-up."""
    bare, probed = contestants(path, 1, size, device)
    (bare if which == "bare" else probed)()
    bare, probed = contestants(path, batch, size, device)
    gc.collect()
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        (bare if which == "bare" else probed)()
        return torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")
    before = resident()
    (bare if which == "bare" else probed)()
    status = Path("/proc/self/status").read_text()
    peak = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024
    return peak - before


def main() -> None:
    """Print both ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--peak", choices=["bare", "probed"], help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    folder = options.folder or Path(tempfile.mkdtemp())
    path = export(folder)
    if options.peak:
        print(peak_above_start(path, options.peak, options.batch, options.size, options.device))
        return
    bare, probed = contestants(path, options.batch, options.size, options.device)
    times: dict[str, list[float]] = {"bare": [], "probed": []}
    for index in range(options.pairs + 1):
        for name, call in (("bare", bare), ("probed", probed)):
            started = time.perf_counter()
            call()
            if index:  # the first pair warms up
                times[name].append(time.perf_counter() - started)
    ratios = [p / b for b, p in zip(times["bare"], times["probed"], strict=True)]
    shape = f"{options.batch}x3x{options.size}x{options.size}"
    place = torch.cuda.get_device_name() if options.device == "cuda" else f"{options.threads} threads"
    print(f"ResNet-50, {shape}, {place}")
    for name, values in times.items():
        print(f"  {name:7} {statistics.median(values):.4f} s (median of {len(values)})")
    print(f"  time ratio   {statistics.median(ratios):.3f} (min {min(ratios):.3f}, max {max(ratios):.3f})")
    peaks = {
        name: int(
            subprocess.check_output(
                [
                    sys.executable,
                    __file__,
                    "--peak",
                    name,
                    "--folder",
                    str(folder),
                    "--batch",
                    str(options.batch),
                    "--size",
                    str(options.size),
                    "--threads",
                    str(options.threads),
                    "--device",
                    options.device,
                ],
                # Large blocks go back to the system when they are freed, or the peak would not show.
                env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
            ).split()[-1]
        )
        for name in ("bare", "probed")
    }
    print(f"  peak memory  bare {peaks['bare'] / 2**20:.0f} MiB, probed {peaks['probed'] / 2**20:.0f} MiB")
    print(f"  memory ratio {peaks['probed'] / peaks['bare']:.3f}")


if __name__ == "__main__":
    main()
