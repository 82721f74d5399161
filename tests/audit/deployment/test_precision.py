"""What another element type costs, against files that were converted to it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import model, weight
from click.testing import CliRunner
from scipy.stats import spearmanr

from audit.conftest import ROOT
from intrain_onnx.cli import main

sys.path.append(str(ROOT / "benchmarks"))

from precision_cost import compared, predicted

SAMPLES = ROOT / "samples"


@pytest.mark.parametrize("sample", ["pytorch_resnet_torchscript", "jax_mixer"])
def test_costs_of_int8_are_those_of_onnxruntimes_quantiser(sample: str):
    """Layer by layer, one quantised alone; in rank, in size, and of the whole network."""
    facts, found, whole = compared(SAMPLES / f"{sample}.onnx")
    assert len(found) == facts.layers
    told = [(facts.alone[name], snr) for name, snr in found.items()]
    assert spearmanr(*zip(*told, strict=True)).statistic > 0.9
    assert np.median([abs(a - b) for a, b in told if a is not None]) < 2
    assert facts.whole == pytest.approx(whole, abs=1.5)


def test_weights_are_as_before_afterwards():
    once, _ = predicted(SAMPLES / "pytorch_resnet_training.onnx")
    again, _ = predicted(SAMPLES / "pytorch_resnet_training.onnx")
    assert once == again


def overflowing() -> onnx.ModelProto:
    """The second layer gives values above 65504."""
    return model(
        "(float[N,8] x) => (float[N,4] y) { h = MatMul(x, w)\n r = Relu(h)\n y = MatMul(r, v) }",
        {"w": weight(8, 16), "v": 1e5 * weight(16, 4)},
    )


def audited(file: Path, deploy: str, *, check: str = "cost", **options: object) -> dict[str, object]:
    policy = file.with_suffix(".toml")
    told = "\n".join(f"{name} = {json.dumps(value)}" for name, value in options.items())
    policy.write_text(
        f'deploy = "{deploy}"\n[run]\nseeds = 1\nthreads = 1\nparity = false\n'
        f"[checks.precision-{check}]\n{told}\n"
    )
    done = CliRunner().invoke(main, ["audit", str(file), "--policy", str(policy), "--format", "json"])
    (audit,) = json.loads(done.stdout)["audits"]
    return {f["place"]: f["message"] for f in audit["findings"] if f["check"] == f"precision-{check}"}


def test_overflow_in_float16_names_the_layer(tmp_path: Path):
    proto = overflowing()
    proto.graph.node[2].name = "large"
    onnx.save(proto, tmp_path / "m.onnx")
    found = audited(tmp_path / "m.onnx", "float16", min_layer_snr=0)
    assert "they overflow" in str(found[None])
    assert "large" in found
    assert audited(tmp_path / "m.onnx", "bfloat16") == {}


def test_underflow_in_float16_names_the_layer_and_the_share(tmp_path: Path):
    """Half of a weight lies below the least number of float16; bfloat16 and float32 have it."""
    small = weight(8, 16)
    small[:, ::2] *= 1e-10
    proto = model(
        "(float[N,8] x) => (float[N,4] y) { h = MatMul(x, w)\n y = MatMul(h, v) }",
        {"w": small, "v": weight(16, 4)},
    )
    proto.graph.node[0].name = "small"
    onnx.save(proto, tmp_path / "m.onnx")
    found = audited(tmp_path / "m.onnx", "float16", check="underflow")
    assert "50.0% of its weight" in str(found["small"])
    assert audited(tmp_path / "m.onnx", "bfloat16", check="underflow") == {}
    assert audited(tmp_path / "m.onnx", "float16", check="underflow", max_share=0.9) == {}


def test_weights_by_channel_cost_less(tmp_path: Path):
    """Of channels of other sizes the small ones vanish in one scale for all."""
    scale = np.logspace(0, -3, 16).astype(np.float32)
    proto = model(
        "(float[N,8] x) => (float[N,4] y) { h = MatMul(x, w)\n r = Mul(h, s)\n y = MatMul(r, v) }",
        {"w": weight(8, 16) * scale, "s": 1 / scale, "v": weight(16, 4)},
    )
    onnx.save(proto, tmp_path / "m.onnx")
    limits = {"min_snr": 200.0}
    whole = [
        str(audited(tmp_path / "m.onnx", "int8", per_channel=per_channel, **limits)[None])
        for per_channel in (False, True)
    ]
    by_tensor, by_channel = (float(text.split(" leave ")[1].split(" dB")[0]) for text in whole)
    assert by_channel > by_tensor


def test_nothing_is_measured_for_float32(tmp_path: Path):
    onnx.save(overflowing(), tmp_path / "m.onnx")
    assert audited(tmp_path / "m.onnx", "float32", min_snr=1000) == {}
