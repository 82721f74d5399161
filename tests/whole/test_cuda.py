"""On CUDA the score is that of the CPU. Skipped where there is none."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from builders import for_probing, model, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError
from intrain_onnx.measure.prepare import prepare
from intrain_onnx.measure.probe import calibrate_and_probe
from intrain_onnx.pipeline import score

SAMPLES = sorted((Path(__file__).parents[2] / "samples").glob("*.onnx"))
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@needs_cuda
@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_cuda_and_cpu_agree(path: Path, protocol: str):
    on_cpu, on_cuda = (
        score(path, ScoreConfig.for_protocol(protocol, seeds=1, batch=8, device=device))
        for device in ("cpu", "cuda")
    )
    assert on_cuda.data["parity"]["ok"]
    assert on_cuda.geometric_capacity == pytest.approx(on_cpu.geometric_capacity, rel=1e-3)
    assert on_cuda.optimization_resilience == pytest.approx(on_cpu.optimization_resilience, rel=1e-2)


@needs_cuda
def test_two_runs_on_cuda_are_the_same():
    config = ScoreConfig.for_protocol(seeds=1, batch=8, device="cuda")
    first, second = (dict(score(SAMPLES[0], config).data) for _ in range(2))
    first.pop("timings_s")
    second.pop("timings_s")
    assert first == second


def waits(layers: int) -> int:
    """How often one seed waits for the device, with a chain of so many layers."""
    body = "".join(f"a{i} = Gemm(h{i}, w{i}, b{i}) h{i + 1} = Relu(a{i}) " for i in range(layers))
    proto = model(
        f"(float[N,16] h0) => (float[N,16] y) {{ {body} y = Identity(h{layers}) }}",
        {f"w{i}": weight(16, 16, seed=i) for i in range(layers)}
        | {f"b{i}": np.zeros(16, np.float32) for i in range(layers)},
    )
    device = torch.device("cuda")
    config = ScoreConfig.for_protocol("architecture", device="cuda")
    runnable = prepare(for_probing(proto), config, device)
    generator = torch.Generator().manual_seed(0)
    fed = runnable.feed(generator)
    runnable.redraw(0)
    calibrate_and_probe(runnable, fed, generator)
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            calibrate_and_probe(runnable, fed, generator)
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


@needs_cuda
def test_no_layer_waits_for_the_device():
    few, many = waits(4), waits(16)
    assert 1 <= many <= few  # the first run warms something up, and may wait once more


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_asking_for_cuda_without_it_is_a_setting_that_cannot_be_used():
    with pytest.raises(SettingsError, match="CUDA"):
        score(SAMPLES[0], ScoreConfig.for_protocol(device="cuda"))
