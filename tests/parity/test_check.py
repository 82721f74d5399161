"""The check against onnxruntime finds a handler that computes something else, and never decides a score."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
import torch
from builders import model, weight
from torch import Tensor

from intrain_onnx import ScoreConfig, score
from intrain_onnx.ops import registry
from intrain_onnx.parity import onnxruntime_process

CONFIG = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu")
NETWORK = model(
    "(float[N,6] x) => (float[N,3] y) { h = MatMul(x, w) r = Softplus(h) y = MatMul(r, v) }",
    {"w": weight(6, 8), "v": weight(8, 3, seed=1)},
)


def scored(proto: onnx.ModelProto = NETWORK) -> dict[str, Any]:
    return dict(score(proto, CONFIG).data)


def test_a_right_conversion_differs_by_round_off():
    found = scored()["parity"]
    assert (found["ok"], found["reason"], found["samples"]) == (True, None, 1)
    assert found["reference"].startswith("onnxruntime ")
    assert found["max_rel_diff"] < 1e-5


@pytest.mark.parametrize("share", [1e-2, 0.3])
def test_a_handler_that_is_off_by_some_percent_is_found(share: float, monkeypatch: pytest.MonkeyPatch):
    [(key, handlers)] = [(k, v) for k, v in registry._HANDLERS.items() if k == ("", "Softplus")]

    def wrong(x: Tensor) -> Tensor:
        return torch.nn.functional.softplus(x) * (1 + share)

    changed = {
        version: type(handler)(**{f: getattr(handler, f) for f in handler.__slots__} | {"function": wrong})
        for version, handler in handlers.items()
    }
    monkeypatch.setitem(registry._HANDLERS, key, changed)
    found = scored()["parity"]
    assert found["ok"] is False
    assert found["max_rel_diff"] == pytest.approx(share, rel=0.01)
    assert found["reason"].startswith("y: relative difference")


def test_without_an_answer_the_score_is_the_same_and_the_reason_is_told(monkeypatch: pytest.MonkeyPatch):
    def none(*_: object, **__: object) -> None:
        raise onnxruntime_process.NoReferenceError("onnxruntime crashed (signal 11)")

    before = scored()
    monkeypatch.setattr(onnxruntime_process, "run_reference", none)
    after = scored()
    assert (after["parity"]["ok"], after["parity"]["reason"]) == (None, "onnxruntime crashed (signal 11)")
    assert after["score"] == before["score"]
    assert after["layers"] == before["layers"]


def test_what_is_behind_the_loss_may_lack_a_handler():
    """The network is scored up to the logits; of the whole file there is nothing to compare."""
    text = """(float[N,6] x) => (float[N,3] y, string[N] s) {
        y = MatMul(x, w) i = ArgMax<axis = 1, keepdims = 0>(y)
        s = ai.onnx.ml.LabelEncoder<keys_int64s = [0, 1, 2], values_strings = ["a", "b", "c"]>(i) }"""
    proto = model(text, {"w": weight(6, 3)}, domains={"ai.onnx.ml": 4})
    data = scored(proto)
    assert data["parity"]["ok"] is None
    assert "ai.onnx.ml::LabelEncoder-4 (1 node)" in data["parity"]["reason"]
    assert data["score"]["intrain"] > 0
