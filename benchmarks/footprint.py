#!/usr/bin/env python3
"""Estimated against measured memory of a run, for the budget that refuses what does not fit.

    python benchmarks/footprint.py MODEL.onnx...            # at the default of 16 samples
    python benchmarks/footprint.py --batch 64 MODEL.onnx...
    python benchmarks/footprint.py --recomputed MODEL.onnx...     # in segments: see runtime/recomputed.py

One process for each model; one line each: the estimate, what the resident set grew by at its peak from before
the network was converted for its run, their ratio, and the seconds of a run after a first one. Below some
100 MB torch's own buffers outweigh it.
"""

import argparse
import gc
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure import budget
from intrain_onnx.measure.prepare import prepare
from intrain_onnx.measure.probe import calibrate_and_probe
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.measure.segments import Way, segments
from intrain_onnx.network.footprint import footprint
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import for_protocol
from intrain_onnx.runtime.machine import machine_for

STATUS = Path("/proc/self/status")


def resident(row: str) -> int:
    """Return a row of the process's status, in bytes."""
    lines = STATUS.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{row}:"))


def compare(model: Path, batch: int, *, recomputed: bool) -> str:
    """Run a model once; returns its line."""
    config = ScoreConfig.for_protocol(seeds=1, batch=batch, parity=False, device="cpu")
    with machine_for(config) as machine:
        runs = runs_on(machine.device)
        network = Network.of(load(model), config, runs)
        probed = for_protocol(network, config, runs.see)
        assert network.runner is not None
        network.runner.forget()
        estimate = footprint(probed.model, network.single.batch)
        cut = segments(probed.model, network.single.batch) if recomputed else None
        if cut is not None:
            estimate = budget.recomputed(estimate, cut, probed.layers, calibrated=True)
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets the peak
        before = resident("VmRSS")
        runnable = prepare(probed, config, machine.device, Way(segments=cut))
        generator = torch.Generator().manual_seed(0)
        for _ in range(2):
            runnable.redraw(0)
            started = time.perf_counter()
            calibrate_and_probe(runnable, runnable.feed(generator), generator)
            seconds = time.perf_counter() - started
    samples = runnable.used.batch
    measured = resident("VmHWM") - before
    size = estimate.peak(samples)
    megabytes = f"estimated {size / 1e6:8.1f} MB, measured {measured / 1e6:8.1f} MB"
    row = f"{model.stem:44} {samples:4} samples  {megabytes}, ratio {size / measured:.2f}, {seconds:.2f} s"
    return f"{row}, {cut.last + 1} segments" if cut is not None else row


def main() -> int:
    """Run the command; with one model, in this process."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--recomputed", action="store_true")
    told = parser.parse_args()
    if told.recomputed and not os.environ.keys() >= memory.RETURN_WHAT_IS_FREED.keys():
        env = {**os.environ, **memory.RETURN_WHAT_IS_FREED}  # which the C library reads as it starts
        return subprocess.run([sys.executable, *sys.argv], check=False, env=env).returncode
    if len(told.models) == 1:
        print(compare(told.models[0], told.batch, recomputed=told.recomputed), flush=True)
        return 0
    one = [sys.executable, __file__, "--batch", str(told.batch), *["--recomputed"] * told.recomputed]
    return max(subprocess.run([*one, model], check=False).returncode for model in told.models)


if __name__ == "__main__":
    sys.exit(main())
