"""The check against onnxruntime finds a handler that computes something else, and never decides a score."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import model, weight
from onnxruntime import quantization
from torch import Tensor

from intrain_onnx import ScoreConfig, score
from intrain_onnx.loading.load import load
from intrain_onnx.ops import registry
from intrain_onnx.parity import check, onnxruntime_process
from intrain_onnx.parity.compare import Spread
from intrain_onnx.pipeline import network_of
from intrain_onnx.runtime.machine import Machine

CONFIG = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu")
NETWORK = model(
    "(float[N,6] x) => (float[N,3] y) { h = MatMul(x, w) r = Softplus(h) y = MatMul(r, v) }",
    {"w": weight(6, 8), "v": weight(8, 3, seed=1)},
)


def scored(proto: onnx.ModelProto | Path = NETWORK) -> dict[str, Any]:
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


NMS = """(float[1,8] x) => (float y, int64[M,3] s) {
    h = MatMul(x, w) y = Tanh(h) b = Reshape(h, boxes) a = Abs(b) c = Reshape(h, scores)
    d = Slice(c, at, to, last)
    s = NonMaxSuppression(a, d, ten, half, low) }"""
NMS_CONSTANTS = {
    "w": weight(8, 16),
    "boxes": np.array([1, 4, 4]),
    "scores": np.array([1, 1, 16]),
    "at": np.array([0]),
    "to": np.array([4]),
    "last": np.array([2]),
    "ten": np.array(10),
    "half": np.float32(0.5),
    "low": np.float32(-9),
}
RANDOM = """(float[N,6] x) => (float[N,3] y) {
    h = MatMul(x, w) r = RandomNormalLike(h) s = Add(h, r) y = MatMul(s, v) }"""
RANDOM_WEIGHTS = {"w": weight(6, 8), "v": weight(8, 3, seed=1)}


def test_random_nodes_are_not_comparable():
    found = scored(model(RANDOM, RANDOM_WEIGHTS))["parity"]
    assert found["ok"] is None
    assert found["reason"].startswith("not comparable: random nodes (RandomNormalLike node")


def short_of(monkeypatch: pytest.MonkeyPatch, which: int) -> None:
    """Let one output of onnxruntime have a row less."""
    ask = onnxruntime_process.run_reference

    def shorter(*given: Any, **how: Any) -> list[Any]:
        outputs = ask(*given, **how)
        outputs[which] = outputs[which][:-1]
        return outputs

    monkeypatch.setattr(onnxruntime_process, "run_reference", shorter)


def test_lengths_that_depend_on_the_data_are_not_comparable(monkeypatch: pytest.MonkeyPatch):
    proto = model(NMS, NMS_CONSTANTS)
    assert scored(proto)["parity"]["ok"] is True
    short_of(monkeypatch, 1)
    found = scored(proto)["parity"]
    assert found["ok"] is None
    assert found["reason"].startswith("not comparable: lengths depend on the data (NonMaxSuppression node")
    short_of(monkeypatch, 0)
    assert scored(proto)["parity"]["ok"] is False, "the other output has one length"


@pytest.mark.parametrize("step", ["run", "as_arrays", "response_to_round_off", "ask"])
def test_whatever_fails_in_the_check_is_a_reason(step: str, monkeypatch: pytest.MonkeyPatch):
    """Of the converted run, of the inputs, of the estimate (for which the outputs differ), of the process."""

    def fail(*_: object, **__: object) -> None:
        raise ValueError("stack expects\neach tensor")

    before = scored()
    if step == "response_to_round_off":
        ask = onnxruntime_process.run_reference
        half = lambda *a, **k: [y / 2 for y in ask(*a, **k)]  # noqa: E731
        monkeypatch.setattr(onnxruntime_process, "run_reference", half)
    place = {"as_arrays": check.inputs, "ask": onnxruntime_process}.get(step, check)
    monkeypatch.setattr(place, "run_reference" if step == "ask" else step, fail)
    after = scored()
    assert after["parity"]["ok"] is None
    assert after["parity"]["reason"] == "the check failed: ValueError: stack expects"
    assert after["score"] == before["score"]


def test_a_tail_that_fails_behind_the_loss_ends_nothing():
    """No box is left, of which five are wanted: onnxruntime fails there too."""
    text = """(float[N,6] x) => (float[N,3] y, float[5] t) {
        y = MatMul(x, w) b = Greater(y, high) z = NonZero(b) g = GatherND(y, u) u = Transpose(z)
        t, i = TopK(g, five) }"""
    text = text.replace("g = GatherND(y, u) u = Transpose(z)", "u = Transpose(z) g = GatherND(y, u)")
    proto = model(text, {"w": weight(6, 3), "high": np.float32(99), "five": np.array([5])})
    found = check.check_parity(network_of(load(proto), CONFIG), Machine(torch.device("cpu"), 1), 0)
    assert (found.ok, found.reason) == (
        None,
        "the node cannot run on these inputs: k = 5 does not fit: axis 0 of 'g' (0) has 0 (at TopK node 't')",
    )


def dynamically_quantised(folder: Path) -> Path:
    """Attention and a linear layer, as quantize_dynamic leaves them."""
    text = """(float[N,16,32] x) => (float[N,16,8] y) {
        q = MatMul(x, wq) k = MatMul(x, wk) v = MatMul(x, wv) t = Transpose<perm = [0, 2, 1]>(k)
        s = MatMul(q, t) a = Softmax<axis = -1>(s) c = MatMul(a, v) f = Reshape(c, flat) g = Gemm(f, wg, bg)
        r = Reshape(g, whole) n = Relu(r) y = MatMul(n, wy) }"""
    arrays = {f"w{n}": weight(32, 32, seed=ord(n)) for n in "qkvg"} | {"wy": weight(32, 8)}
    more = {"bg": weight(32), "flat": np.array([-1, 32]), "whole": np.array([-1, 16, 32])}
    onnx.save(model(text, arrays | more), folder / "float.onnx")
    quantization.quantize_dynamic(folder / "float.onnx", folder / "quantised.onnx")
    return folder / "quantised.onnx"


def test_a_quantised_model_is_compared_as_any(tmp_path: Path):
    path = dynamically_quantised(tmp_path)
    assert {n.op_type for n in onnx.load(path).graph.node} >= {"DynamicQuantizeLinear", "MatMulInteger"}
    assert scored(path)["parity"]["ok"] is True


@pytest.mark.parametrize(("apart", "ok"), [(0.0, False), (0.2, True), (0.9, None)])
def test_a_quantised_model_may_be_as_far_as_onnxruntime_is_from_itself(
    apart: float, ok: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With its optimisations it is off by half; without them by that and what it is apart."""
    ask, asked = onnxruntime_process.run_reference, []

    def off(*given: Any, **how: Any) -> list[Any]:
        asked.append(how.get("optimised", True))
        share = 1.5 if asked[-1] else 1.5 * (1 + apart)
        return [y * np.float32(share) for y in ask(*given, **how)]

    monkeypatch.setattr(onnxruntime_process, "run_reference", off)
    calm = Spread({"y": 0.0}, frozenset(), "it changes")
    monkeypatch.setattr(check, "response_to_round_off", lambda *_, **__: calm)
    found = scored(dynamically_quantised(tmp_path))["parity"]
    assert asked == [True, False, True]
    assert found["ok"] is ok
    assert (
        "cannot decide: y: relative difference 0.33; onnxruntime differs from itself by 0.9"
        in (found["reason"] or "")
    ) is (ok is None)


def test_onnxruntime_runs_once_where_nothing_differs_and_for_floats(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    ask, asked = onnxruntime_process.run_reference, []

    def counted(*given: Any, share: float = 1.0, **how: Any) -> list[Any]:
        asked.append(how)
        return [y * np.float32(share) for y in ask(*given, **how)]

    monkeypatch.setattr(onnxruntime_process, "run_reference", counted)
    scored(dynamically_quantised(tmp_path))
    assert len(asked) == 1
    monkeypatch.setattr(onnxruntime_process, "run_reference", partial(counted, share=2.0))
    assert scored()["parity"]["ok"] is False
    assert len(asked) == 2


def test_a_loop_whose_rounds_depend_on_the_data_is_not_comparable_in_length(monkeypatch: pytest.MonkeyPatch):
    text = """(float[N,6] x) => (float[N,3] y, float[R] t) {
        y = MatMul(x, w) a = Abs(y) m = ReduceMax<keepdims = 0>(a) c = Ceil(m) n = Cast<to = 7>(c)
        t = Loop<body = b (int64 i, bool k) => (bool d, float s) {
            d = Identity(k) s = Identity(m) }>(n, yes) }"""
    proto = model(text, {"w": weight(6, 3), "yes": np.array(True)})
    assert scored(proto)["parity"]["ok"] is True
    short_of(monkeypatch, 1)
    found = scored(proto)["parity"]
    assert found["ok"] is None
    assert "lengths depend on the data (Loop node" in found["reason"]


@pytest.mark.parametrize(("far", "ok"), [(1e6, None), (0.0, False)])
def test_boxes_that_change_places_by_round_off_decide_nothing(
    far: float, ok: bool | None, monkeypatch: pytest.MonkeyPatch
):
    """A detection network takes its boxes in the order of scores: beside a million, round-off decides it."""
    text = """(float[N,6] x) => (float[N,3] y, int64[N,3] order) {
        y = MatMul(x, w) s = Add(y, far) v, order = TopK(s, three) }"""
    proto = model(text, {"w": weight(6, 3), "far": np.float32(far), "three": np.array([3])})
    ask = onnxruntime_process.run_reference

    def turned(*given: Any, **how: Any) -> list[Any]:
        y, order = ask(*given, **how)
        return [y, order[:, ::-1]]

    monkeypatch.setattr(onnxruntime_process, "run_reference", turned)
    found = scored(proto)["parity"]
    assert found["ok"] is ok
    assert "order: 2 of 3 integers differ" in found["reason"]
    assert ("; round-off alone changes it" in found["reason"]) is (ok is None)
