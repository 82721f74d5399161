"""Every real model: scored with parity, every canonical layer measured, every node accounted for."""

from __future__ import annotations

import math
import os

import jsonschema
import pytest
from models import names, require

from intrain_onnx import ScoreConfig, report, score

FEW = {"opennsfw": 2, "nudenet": 2, "rapidocr_det": 2, "rapidocr_rec": 2, "rapidocr_cls": 4}
"""Samples where the inputs are large; the others take all 16."""

ROUND_OFF = {
    "magika",  # a variance from two means, which cancels large numbers
    "rapidocr_det",  # noise has no text in it: the output is 6e-5 and differs by 1e-7
}
"""Differ from onnxruntime by more than 1e-3 of the output, by round-off that the report explains."""


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
    jsonschema.Draft202012Validator(report.schema()).validate(data)
    parity = data["parity"]
    assert parity["ok"] is True, parity
    if name not in ROUND_OFF:
        assert parity["max_rel_diff"] < 1e-3
    elif parity["max_abs_diff"] > 1e-6:
        assert parity["max_rel_diff"] <= 4 * parity["round_off"] < 0.05
    assert {layer["name"]: layer["status"] for layer in data["layers"] if layer["status"] != "measured"} == {}
    assert len(data["layers"]) == data["model"]["canonical_layers"] >= 3
    assert all(math.log(x["participation_ratio"]) <= math.log(x["channels"]) + 1e-6 for x in data["layers"])
    fates = dict(data["nodes"])
    assert fates.pop("total") == sum(fates.values())
    assert fates["structural"] >= 0
    assert data["score"]["layers"] == len(data["layers"])
    last = data["depth_profile"][-1]
    assert last["cumulative_log_participation_ratio"] == pytest.approx(data["score"]["geometric_capacity"])
    assert last["cumulative_health"] == pytest.approx(data["score"]["optimization_resilience"])
