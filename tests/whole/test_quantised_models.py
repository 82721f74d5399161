"""Models that onnxruntime's quantisers make of the samples score as the samples do."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from builders import run_onnxruntime
from onnxruntime import quantization
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

from intrain_onnx import inspection, pipeline
from intrain_onnx.config import ScoreConfig
from intrain_onnx.network import input_shapes
from intrain_onnx.report.document import Report
from intrain_onnx.rewrites.dequantise import to_float
from intrain_onnx.rewrites.infer_shapes import infer_shapes
from intrain_onnx.rewrites.normalise import normalise

SAMPLES = Path(__file__).parents[2] / "samples"
MODELS = ["pytorch_resnet_torchscript", "keras_mobile", "pytorch_encoder_torchscript"]
WAYS = [
    "QDQ", "QDQ by channel, signed", "QOperator", "QOperator by channel", "dynamic", "dynamic by channel",
    "4 bits", "4 bits QDQ",
]  # fmt: skip


class Noise(quantization.CalibrationDataReader):
    """A few batches of what the program itself feeds."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.rows = iter([network_input(proto, seed) for seed in range(4)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.rows, None)


def network_input(proto: onnx.ModelProto, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in proto.graph.input:
        shape = [d.dim_value or 2 for d in value.type.tensor_type.shape.dim]
        real = value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        feeds[value.name] = (
            rng.standard_normal(shape).astype(np.float32) if real else rng.integers(0, 50, shape)
        )
    return feeds


def quantised(name: str, way: str, folder: Path) -> Path:
    path, target = SAMPLES / f"{name}.onnx", folder / "quantised.onnx"
    by_channel = "channel" in way
    if way.startswith("dynamic"):
        quantization.quantize_dynamic(path, target, per_channel=by_channel)
    elif way.startswith("4 bits"):
        form = quantization.QuantFormat.QDQ if "QDQ" in way else quantization.QuantFormat.QOperator
        quantiser = MatMulNBitsQuantizer(
            onnx.load(path), block_size=16, is_symmetric=False, quant_format=form
        )
        quantiser.process()
        quantiser.model.save_model_to_file(str(target))
    else:
        quantization.quantize_static(
            path,
            target,
            Noise(onnx.load(path)),
            quant_format=quantization.QuantFormat.QDQ if "QDQ" in way else quantization.QuantFormat.QOperator,
            per_channel=by_channel,
            activation_type=quantization.QuantType.QInt8
            if "signed" in way
            else quantization.QuantType.QUInt8,
            weight_type=quantization.QuantType.QInt8,
        )
    return target


CONFIG = ScoreConfig.for_protocol("architecture", device="cpu", threads=1)
FLOAT_REPORTS: dict[str, Report] = {}


def float_report(name: str) -> dict[str, Any]:
    if name not in FLOAT_REPORTS:
        FLOAT_REPORTS[name] = pipeline.score(SAMPLES / f"{name}.onnx", CONFIG)
    return dict(FLOAT_REPORTS[name].data)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_quantised_files_score_as_the_float_file(name: str, way: str, tmp_path: Path) -> None:
    path = quantised(name, way, tmp_path)
    before, after = float_report(name), pipeline.score(path, CONFIG).data
    assert after["parity"]["ok"], after["parity"]
    assert after["model"]["canonical_layers"] == before["model"]["canonical_layers"]
    assert {row["status"] for row in after["layers"]} == {"measured"}
    statuses = [Counter(row["status"] for row in data["parameters"]) for data in (after, before)]
    assert statuses[0] == statuses[1]
    assert set(statuses[0]) <= {"measured", "round_off"}  # a bias that softmax cancels has only round-off
    fates = after["nodes"]
    assert fates["total"] == sum(n for fate, n in fates.items() if fate != "total")
    nodes = onnx.load(path).graph.node
    assert fates["total"] == len(nodes)
    # keras_mobile: the calibration data do not reach 6, so that a Relu comes back where a Relu6 was.
    within = 0.01 if name == "keras_mobile" and way[0] == "Q" else 1e-6
    assert after["score"]["intrain"] == pytest.approx(before["score"]["intrain"], rel=within)
    codes = [row["code"] for row in after["warnings"]]
    untouched = way.startswith("4 bits") and "resnet" in name  # it has no MatMul
    assert ("quantised" in codes) != untouched
    assert "quantised_left" not in codes
    looked = inspection.inspect(path, CONFIG).data
    assert ("quantised" in [row["code"] for row in looked["warnings"]]) != untouched
    assert len(looked["layers"]) == after["model"]["canonical_layers"]
    json.dumps(after, allow_nan=False)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", MODELS)
def test_the_float_form_of_a_file_gives_its_outputs(name: str, way: str, tmp_path: Path) -> None:
    proto = onnx.load(quantised(name, way, tmp_path))
    network = ir.from_proto(proto)
    normalise(network)
    single = input_shapes.resolve(network, CONFIG, batch=1)
    infer_shapes(network, single)
    to_float(network)
    infer_shapes(network, single)
    original = onnx.load(SAMPLES / f"{name}.onnx")
    x = network_input(proto, 0)
    ours, theirs, real = (run_onnxruntime(p, x)[0] for p in (network, proto, original))
    lost = np.corrcoef(real.ravel(), theirs.ravel())[0, 1]  # by quantising: 0.95 in keras_mobile
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > min(0.99, lost - 0.01)
    assert np.abs(ours - theirs).max() <= 1.5 * np.abs(real - theirs).max() + 1e-6
