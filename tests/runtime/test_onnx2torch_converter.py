"""Through onnx2torch, which shares no code with our converter, the same probe gives the same figures."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from builders import model, weight
from models import require

from intrain_onnx import pipeline
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import MissingOpsError, SettingsError
from intrain_onnx.measure.prepare import Runnable
from intrain_onnx.measure.trace import Trace
from intrain_onnx.pipeline import score
from intrain_onnx.report.document import Report

SAMPLES = Path(__file__).parents[2] / "samples"
MODELS = {"keras_mobilenetv2": 4, "keras_densenet121": 2, "rapidocr_cls": 4, "rapidocr_det": 2, "nudenet": 2}
MODELS |= {"opennsfw": 2, "light_shufflenet": 2, "light_resnet50": 2}
"""Files that onnx2torch takes, with the samples to run; it has no Dropout-7 and little above opset 17."""


def both(source: object, protocol: str, batch: int) -> list[Report]:
    return [
        score(
            source,
            ScoreConfig.for_protocol(
                protocol, seeds=1, batch=batch, threads=1, parity=False, converter=converter
            ),
        )
        for converter in ("native", "onnx2torch")
    ]


def check(native: Report, other: Report) -> None:
    assert other.geometric_capacity == pytest.approx(native.geometric_capacity, rel=1e-4)
    assert other.optimization_resilience == pytest.approx(native.optimization_resilience, rel=1e-4)
    statuses = [[(x["name"], x["status"]) for x in r.data["layers"]] for r in (native, other)]
    assert statuses[0] == statuses[1]


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
def test_a_sample_under_every_protocol(protocol: str):
    check(*both(SAMPLES / "keras_mobile.onnx", protocol, 8))


@pytest.fixture
def calibrated_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """The native module as well: in one pass, weights round otherwise, and float32 crosses other kinks."""

    def apart(runnable: Runnable, fed: Sequence[Any], *rest: Any) -> Trace:
        runnable.calibrate(fed)
        return pipeline.probe(runnable, fed, *rest)

    monkeypatch.setattr(pipeline, "calibrate_and_probe", apart)


@pytest.mark.usefixtures("calibrated_apart")
@pytest.mark.parametrize("name", MODELS)
def test_real_models(name: str):
    check(*both(require(name), "architecture", MODELS[name]))


def test_a_tie_is_one_parameter():
    proto = model(
        "(float[N,6] x) => (float[N,6] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, w) }",
        {"w": weight(6, 6)},
        opset=13,
    )
    native, other = both(proto, "checkpoint", 8)
    check(native, other)
    assert [p["name"] for p in other.data["parameters"]] == ["w"]


def test_operators_that_it_lacks_are_all_named():
    config = ScoreConfig.for_protocol(seeds=1, parity=False, converter="onnx2torch")
    with pytest.raises(MissingOpsError) as caught:
        score(SAMPLES / "jax_mixer.onnx", config)
    assert {"ai.onnx::Gelu-20", "ai.onnx::Conv-22"} <= set(caught.value.counts)
    assert "onnx2torch lacks" in str(caught.value)
    assert "--converter native" in str(caught.value)


def test_a_torchvision_of_another_build_is_no_internal_error(monkeypatch: pytest.MonkeyPatch):
    """torch for the CPU beside torchvision for CUDA: its import ends in an error of any kind."""
    monkeypatch.delitem(sys.modules, "intrain_onnx.runtime.onnx2torch_converter", raising=False)
    monkeypatch.setitem(sys.modules, "onnx2torch", None)
    config = ScoreConfig.for_protocol(seeds=1, parity=False, converter="onnx2torch")
    with pytest.raises(SettingsError, match=r"onnx2torch cannot be loaded.*torchvision"):
        score(SAMPLES / "jax_cnn.onnx", config)


def test_other_runs_do_not_import_it() -> None:
    """It brings torchvision and torch._dynamo, a second of start-up."""
    code = "import sys, intrain_onnx.pipeline; assert not {'onnx2torch', 'torchvision'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
