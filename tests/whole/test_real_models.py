"""Every real model: scored with parity, every canonical layer measured, every node accounted for."""

from __future__ import annotations

import math
import os

import jsonschema
import pytest
from models import names, require

from intrain_onnx import ScoreConfig, score
from intrain_onnx.report.document import schema

FEW = {"opennsfw": 2, "nudenet": 2, "rapidocr_det": 2, "rapidocr_rec": 2, "rapidocr_cls": 4}
FEW |= {"ddddocr": 2, "ddddocr_det": 2, "ddddocr_old": 2}
"""Samples where the inputs are large; the others take all 16."""

ROUND_OFF = {
    "magika",  # a variance from two means, which cancels large numbers
    "rapidocr_det",  # noise has no text in it: the output is 6e-5 and differs by 1e-7
}
"""Differ from onnxruntime by more than 1e-3 of the output, by round-off that the report explains."""


NOT_RUN = {"silero_vad": 9, "silero_vad_16k_op15": 1, "silero_vad_half": 1, "silero_vad_op18_ifless": 8}
"""Layers in the branch of an If for another sampling rate, or for inputs without a batch."""


def samples(name: str) -> int:
    return FEW.get(name, 2 if name.startswith("light_") else 16)


@pytest.mark.parametrize("name", names())
def test_real_model_is_scored_whole(name: str):
    path = require(name)
    threads = (
        1 if "PYTEST_XDIST_WORKER" in os.environ else 0
    )  # processes that share cores wait for each other
    config = ScoreConfig.for_protocol(seeds=1, batch=samples(name), threads=threads)
    data = score(path, config).data
    jsonschema.Draft202012Validator(schema()).validate(data)
    parity = data["parity"]
    assert parity["ok"] is True, parity
    if name not in ROUND_OFF:
        assert parity["max_rel_diff"] < 1e-3
    elif parity["max_abs_diff"] > 1e-6:
        assert parity["max_rel_diff"] <= 4 * parity["round_off"] < 0.05
    measured = [layer for layer in data["layers"] if layer["status"] != "not_run"]
    assert {x["name"]: x["status"] for x in measured if x["status"] != "measured"} == {}
    assert len(data["layers"]) == len(measured) + NOT_RUN.get(name, 0)
    assert all(math.log(x["participation_ratio"]) <= math.log(x["channels"]) + 1e-6 for x in measured)
    assert len(data["layers"]) >= data["model"]["canonical_layers"]  # fused ones are split
    assert len(measured) >= 3
    fates = dict(data["nodes"])
    assert fates.pop("total") == sum(fates.values())
    assert fates["structural"] >= 0
    assert data["score"]["layers"] == len(measured)
    used = {name for layer in measured for name in layer["weights"]}
    assert all(p["status"] == "measured" for p in data["parameters"] if p["name"] in used)
    last = data["depth_profile"][-1]
    assert last["cumulative_log_participation_ratio"] == pytest.approx(data["score"]["geometric_capacity"])
    assert last["cumulative_health"] == pytest.approx(data["score"]["optimization_resilience"])
