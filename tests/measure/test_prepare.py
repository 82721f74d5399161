"""A batch that is baked into the graph: all samples in one call where that is sound, else one call a sample.

Either way gamma and o must be those of the same network with a free batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import model, weight

from intrain_onnx import pipeline
from intrain_onnx.config import ScoreConfig

torch.set_num_threads(1)

SAMPLES = 6
WEIGHTS = {
    "w1": weight(8, 3, 3, 3),
    "b1": weight(8),
    "w2": weight(8 * 6 * 6, 12),
    "b2": weight(12),
    "w3": weight(12, 5),
}
# The batch as the first number of the target of a Reshape, where a rewrite finds it.
CNN = """(float[{n},3,8,8] x) => (float[{n},5] y) {{
    h = Conv(x, w1, b1)
    r = Relu(h)
    f = Reshape(r, target)
    d = MatMul(f, w2)
    e = Add(d, b2)
    s = Sigmoid(e)
    y = MatMul(s, w3)
}}"""
# Time first, so that the batch stands in the second place of the target, where no rewrite finds it.
MIXED = """(float[{n},5,6] x) => (float[{n},5] y) {{
    t = Transpose<perm = [1, 0, 2]>(x)
    h = MatMul(t, w1)
    r = Reshape(h, target)
    u = Transpose<perm = [1, 0, 2]>(r)
    v = Tanh(u)
    m = ReduceMean<keepdims = 0>(v, one)
    y = MatMul(m, w2)
}}"""
MIXED_WEIGHTS = {"w1": weight(6, 8), "w2": weight(8, 5), "one": np.array([1])}
# The batch as the leading size of a Reshape that folds it into the rows of a product.
ROWS = """(float[{n},4,6] x) => (float[{n},4,5] y) {{
    f = Reshape(x, rows)
    h = MatMul(f, w1)
    s = Tanh(h)
    g = Reshape(s, target)
    y = MatMul(g, w2)
}}"""
ROWS_WEIGHTS = {"w1": weight(6, 8), "w2": weight(8, 5)}


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def cnn(batch: int | None) -> onnx.ModelProto:
    target = ints(-1 if batch is None else batch, 8 * 6 * 6)
    return model(CNN.format(n=batch or "N"), WEIGHTS | {"target": target})


def mixed(batch: int | None) -> onnx.ModelProto:
    target = ints(5, -1 if batch is None else batch, 8)
    return model(MIXED.format(n=batch or "N"), MIXED_WEIGHTS | {"target": target})


def rows(batch: int | None) -> onnx.ModelProto:
    count = -1 if batch is None else batch
    shapes = {"rows": ints(-1 if batch is None else 4 * batch, 6), "target": ints(count, 4, 8)}
    return model(ROWS.format(n=batch or "N"), ROWS_WEIGHTS | shapes)


def scored(proto: onnx.ModelProto, protocol: str, batch: int = SAMPLES) -> dict[str, Any]:
    config = ScoreConfig.for_protocol(protocol, batch=batch, seeds=1, threads=1, device="cpu")
    return dict(pipeline.score(proto, config).data)


def same(a: dict[str, Any], b: dict[str, Any]) -> None:
    for part in ("geometric_capacity", "optimization_resilience", "intrain"):
        assert a["score"][part] == pytest.approx(b["score"][part], rel=1e-5), part
    for x, y in zip(a["layers"], b["layers"], strict=True):
        assert (x["rows"], x["channels"]) == (y["rows"], y["channels"])
        assert x["participation_ratio"] == pytest.approx(y["participation_ratio"], rel=1e-5), x["name"]
    for x, y in zip(a["parameters"], b["parameters"], strict=True):
        assert x["health"] == pytest.approx(y["health"], rel=1e-5), x["name"]


def codes(report: dict[str, Any]) -> set[str]:
    return {row["code"] for row in report["warnings"]}


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
@pytest.mark.parametrize("batch", [1, 2, SAMPLES])
def test_a_batch_in_the_first_place_is_freed(batch: int, protocol: str) -> None:
    fixed, free = scored(cnn(batch), protocol), scored(cnn(None), protocol)
    assert fixed["settings"]["execution"] == free["settings"]["execution"] == "batched"
    assert fixed["settings"]["samples"] == free["settings"]["samples"] == SAMPLES
    assert "sample_by_sample" not in codes(fixed)
    same(fixed, free)


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
@pytest.mark.parametrize("network", [mixed, rows])
@pytest.mark.parametrize("batch", [1, 2])
def test_a_batch_elsewhere_is_run_in_lock_step(network: Any, batch: int, protocol: str) -> None:
    fixed, free = scored(network(batch), protocol), scored(network(None), protocol)
    assert fixed["settings"]["execution"] == "sample_by_sample"
    assert free["settings"]["execution"] == "batched"
    assert "sample_by_sample" in codes(fixed)
    same(fixed, free)


@pytest.mark.parametrize("network", [cnn, mixed, rows])
def test_the_wanted_batch_itself_needs_no_tricks(network: Any) -> None:
    fixed, free = scored(network(SAMPLES), "architecture"), scored(network(None), "architecture")
    assert fixed["settings"]["execution"] == "batched"
    same(fixed, free)


def test_a_batch_that_does_not_divide_gives_whole_calls() -> None:
    fixed = scored(mixed(4), "checkpoint")
    assert fixed["settings"]["samples"] == 8
    same(fixed, scored(mixed(None), "checkpoint", batch=8))


# What runs with more samples, but mixes them


MIXING = """(float[1,6] x) => (float[1,5] y) {
    h = MatMul(x, w1)
    s = ReduceSum<keepdims = 1>(h, first)
    t = Tanh(s)
    y = MatMul(t, w2)
}"""


def test_a_graph_that_would_mix_its_samples_is_run_apart() -> None:
    """A sum over the batch of one is the sample itself; over six it is another network."""
    apart = model(MIXING, ROWS_WEIGHTS | {"first": ints(0)})
    plain = model(
        "(float[N,6] x) => (float[N,5] y) { h = MatMul(x, w1) t = Tanh(h) y = MatMul(t, w2) }", ROWS_WEIGHTS
    )
    fixed, free = scored(apart, "checkpoint"), scored(plain, "checkpoint")
    assert fixed["settings"]["execution"] == "sample_by_sample"
    same(fixed, free)


def test_batch_norm_in_training_mode_sees_all_samples_of_a_graph_that_runs_apart() -> None:
    norm = {"g": np.ones(8, np.float32), "o": np.zeros(8, np.float32)}
    norm |= {"m": weight(8), "v": np.abs(weight(8)) + 0.5}
    text = """(float[{n},3,8,8] x) => (float[{n},5] y) {{
        h = Conv(x, w1)
        k = BatchNormalization(h, g, o, m, v)
        a = Relu(k)
        t = Transpose<perm = [1, 0, 2, 3]>(a)
        f = Reshape(t, target)
        u = Transpose<perm = [1, 0, 2]>(f)
        e = ReduceMean<keepdims = 0>(u, two)
        y = MatMul(e, w)
    }}"""
    weights = {"w1": WEIGHTS["w1"], "w": weight(8, 5), "two": ints(2), **norm}
    fixed = scored(model(text.format(n=1), weights | {"target": ints(8, 1, 36)}), "paper")
    free = scored(model(text.format(n="N"), weights | {"target": ints(8, -1, 36)}), "paper")
    assert fixed["settings"]["execution"] == "sample_by_sample"
    assert "batch_statistics" in codes(fixed)
    same(fixed, free)


def test_an_input_without_a_batch_goes_whole_into_every_call() -> None:
    text = """(float[{n},5,6] x, float[5,6] shift) => (float[{n},5] y) {{
        s = Add(x, shift)
        t = Transpose<perm = [1, 0, 2]>(s)
        h = MatMul(t, w1)
        r = Reshape(h, target)
        u = Tanh(r)
        m = ReduceMean<keepdims = 0>(u, zero)
        y = MatMul(m, w2)
    }}"""
    weights = {"w1": weight(6, 8), "w2": weight(8, 5), "zero": ints(0)}
    fixed = scored(model(text.format(n=1), weights | {"target": ints(5, 1, 8)}), "checkpoint")
    free = scored(model(text.format(n="N"), weights | {"target": ints(5, -1, 8)}), "checkpoint")
    assert fixed["settings"]["execution"] == "sample_by_sample"
    same(fixed, free)


def test_parts_are_joined_along_the_samples_wherever_the_channels_are() -> None:
    """A weight on the left of a Gemm has its channels in the first axis; calibration must not mix them up."""
    text = "(float[4,N] x) => (float y) { h = Gemm(w1, x) t = Tanh(h) y = Gemm(w2, t) }"
    found = scored(model(text, {"w1": weight(3, 4), "w2": weight(5, 3)}), "architecture", batch=8)
    assert found["settings"]["execution"] == "sample_by_sample"
    assert [row["channels"] for row in found["layers"]] == [3, 5]
    assert {row["status"] for row in found["layers"]} == {"measured"}


def test_a_recurrence_with_time_first_and_a_batch_of_one() -> None:
    text = """(float[7,{n},5] x) => (float y) {{
        s, h = GRU<hidden_size = 6>(x, w, r)
        q = Squeeze(h, zero)
        y = MatMul(q, v)
    }}"""
    weights = {"w": weight(1, 18, 5), "r": weight(1, 18, 6), "v": weight(6, 3), "zero": ints(0)}
    for protocol in ("architecture", "checkpoint", "paper"):
        fixed, free = (scored(model(text.format(n=n), weights), protocol) for n in (1, "N"))
        assert fixed["settings"]["inputs_fed"][0]["shape"] == [7, SAMPLES, 5]
        same(fixed, free)
