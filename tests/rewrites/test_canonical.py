"""The same network written in two ways holds the same random weights and gets the same score."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from builders import model, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.pipeline import score
from intrain_onnx.report.document import Report

CONFIG = ScoreConfig.for_protocol("architecture", seeds=1, batch=8, threads=1, parity=False, size=12)
IMAGE = "(float[N,3,12,12] x) => (float[N,5] y)"
TOKENS = "(float[N,6,8] x) => (float[N,5] y)"
VECTOR = "(float[N,8] x) => (float[N,5] y)"


@dataclass(frozen=True)
class Way:
    text: str
    weights: Mapping[str, np.ndarray]

    def proto(self) -> onnx.ModelProto:
        return model(self.text, self.weights)


def norm(name: str, channels: int) -> dict[str, np.ndarray]:
    values = {"g": 1.5, "b": 0.2, "m": 0.1, "v": 2.0}
    return {f"{name}{k}": np.full(channels, v, np.float32) for k, v in values.items()}


def along_channels(name: str, channels: int, value: float) -> dict[str, np.ndarray]:
    return {name: np.full((1, channels, 1, 1), value, np.float32)}


W = {"w1": weight(6, 3, 3, 3), "w2": weight(4, 6, 3, 3, seed=1), "w3": weight(5, 4, seed=2)}
B = {"b1": weight(6), "b2": weight(4), "b3": weight(5)}
HEAD = "p = GlobalAveragePool(r2) f = Flatten(p) y = Gemm<transB = 1>(f, w3, b3)"
CONVS = Way(
    f"{IMAGE} {{ c1 = Conv(x, w1, b1) r1 = Relu(c1) c2 = Conv(r1, w2, b2) r2 = Relu(c2) {HEAD} }}", {**W, **B}
)
POOLED = "c1 = Conv(x, w1, b1) q = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(c1)"
AFTER = f"r1 = Relu(n) c2 = Conv(r1, w2, b2) r2 = Relu(c2) {HEAD}"
SPLIT = {
    **{f"w{n}": weight(8, 8, seed=i) for i, n in enumerate("qkvo")},
    **{f"b{n}": weight(8, seed=i) for i, n in enumerate("qkvo")},
    "wl": weight(8, 5),
}
ATTENTION = """
    kt = Transpose<perm = [0, 2, 1]>(k) s = MatMul(q, kt) a = Softmax(s) c = MatMul(a, v)
    o = MatMul(c, wo) oo = Add(o, bo) m = ReduceMean<keepdims = 0>(oo, axis) y = MatMul(m, wl)
"""
PROJECTIONS = " ".join(f"{n}0 = MatMul(x, w{n}) {n} = Add({n}0, b{n})" for n in "qkv")
AXIS = {"axis": np.array([1])}
FUSED = {
    "w": np.concatenate([SPLIT[f"w{n}"] for n in "qkv"], 1),
    "b": np.concatenate([SPLIT[f"b{n}"] for n in "qkv"]),
    **{n: SPLIT[n] for n in ("wo", "bo", "wl")},
}
MLP = {"w1": weight(8, 16), "b1": weight(16), "w2": weight(16, 5), "b2": weight(5)}


def mlp(activation: str, extra: Mapping[str, float] | None = None) -> Way:
    constants = {n: np.array(v, np.float32) for n, v in (extra or {}).items()}
    text = f"{VECTOR} {{ h = MatMul(x, w1) a = Add(h, b1) {activation} o = MatMul(r, w2) y = Add(o, b2) }}"
    return Way(text, {**MLP, **constants})


PATTERNS: Mapping[str, tuple[Way, Way]] = {
    "BatchNorm folded": (
        CONVS,
        Way(
            f"""{IMAGE} {{ c1 = Conv(x, w1) n1 = BatchNormalization(c1, ng, nb, nm, nv) r1 = Relu(n1)
            c2 = Conv(r1, w2, b2) n2 = BatchNormalization(c2, og, ob, om, ov) r2 = Relu(n2) {HEAD} }}""",
            {**W, **B, **norm("n", 6), **norm("o", 4)},
        ),
    ),
    "Conv, Mul and Add": (
        CONVS,
        Way(
            f"""{IMAGE} {{ c1 = Conv(x, w1) m1 = Mul(c1, k) a1 = Add(t, m1) r1 = Relu(a1)
            c2 = Conv(r1, w2, b2) r2 = Relu(c2) {HEAD} }}""",
            {**W, **B, **along_channels("k", 6, 2.0), **along_channels("t", 6, 0.3)},
        ),
    ),
    "free BatchNorm written out": (
        Way(
            f"{IMAGE} {{ {POOLED} n = BatchNormalization(q, ng, nb, nm, nv) {AFTER} }}",
            {**W, **B, **norm("n", 6)},
        ),
        Way(
            f"{IMAGE} {{ {POOLED} s = Sub(q, mean) d = Div(s, std) k = Mul(d, gamma) n = Add(k, beta) {AFTER} }}",
            {
                **W,
                **B,
                **along_channels("mean", 6, 0.1),
                **along_channels("std", 6, 2.0),
                **along_channels("gamma", 6, 1.5),
                **along_channels("beta", 6, 0.2),
            },
        ),
    ),
    "NHWC": (
        CONVS,
        Way(
            f"""(float[N,12,12,3] x) => (float[N,5] y) {{ t = Transpose<perm = [0, 3, 1, 2]>(x)
            c1 = Conv(t, w1, b1) u = Transpose<perm = [0, 2, 3, 1]>(c1) r = Relu(u)
            r1 = Transpose<perm = [0, 3, 1, 2]>(r) c2 = Conv(r1, w2, b2) r2 = Relu(c2) {HEAD} }}""",
            {**W, **B},
        ),
    ),
    "Gemm, or MatMul and Add": (
        Way(f"{VECTOR} {{ h = Gemm(x, w1, b1) r = Relu(h) y = Gemm(r, w2, b2) }}", MLP),
        mlp("r = Relu(a)"),
    ),
    "Gemm with alpha, beta and a transposed weight": (
        mlp("r = Relu(a)"),
        Way(
            f"{VECTOR} {{ h = Gemm<alpha = 2., beta = 0.5, transB = 1>(x, w1, b1) r = Relu(h) y = Gemm(r, w2, b2) }}",
            MLP | {"w1": MLP["w1"].T.copy()},
        ),
    ),
    "bias dropped": (
        mlp("r = Relu(a)"),
        Way(f"{VECTOR} {{ h = MatMul(x, w1) r = Relu(h) y = MatMul(r, w2) }}", MLP),
    ),
    "1x1 convolution over flattened space": (
        Way(
            """(float[N,3,4,4] x) => (float[N,5] y) { c = Conv(x, w, b) r = Relu(c) p = GlobalAveragePool(r)
            f = Flatten(p) y = Gemm<transB = 1>(f, v) }""",
            {"w": weight(6, 3, 1, 1), "b": weight(6), "v": weight(5, 6)},
        ),
        Way(
            """(float[N,3,4,4] x) => (float[N,5] y) { t = Transpose<perm = [0, 2, 3, 1]>(x) s = Reshape(t, rows)
            h = MatMul(s, w) c = Add(h, b) r = Relu(c) u = Reshape(r, space) p = ReduceMean<keepdims = 0>(u, axes)
            y = MatMul(p, v) }""",
            {
                "w": weight(3, 6),
                "b": weight(6),
                "v": weight(6, 5),
                "rows": np.array([-1, 3]),
                "space": np.array([-1, 16, 6]),
                "axes": np.array([1]),
            },
        ),
    ),
    "Conv1d as Conv2d": (
        Way(
            """(float[N,8,20] x) => (float[N,5] y) { c = Conv<strides = [2]>(x, w, b) r = Relu(c)
            p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB = 1>(f, v) }""",
            {"w": weight(6, 8, 3), "b": weight(6), "v": weight(5, 6)},
        ),
        Way(
            """(float[N,8,20] x) => (float[N,5] y) { u = Unsqueeze(x, two) c = Conv<strides = [1, 2]>(u, w, b)
            r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB = 1>(f, v) }""",
            {"w": weight(6, 8, 1, 3), "b": weight(6), "v": weight(5, 6), "two": np.array([2])},
        ),
    ),
    "depthwise as grouped convolution with another weight order": (
        Way(
            """(float[N,4,9,9] x) => (float[N,5] y) { c = Conv<group = 4>(x, w, b) r = Relu(c)
            p = GlobalAveragePool(r) f = Flatten(p) y = Gemm<transB = 1>(f, v) }""",
            {"w": weight(8, 1, 3, 3), "b": weight(8), "v": weight(5, 8)},
        ),
        Way(
            """(float[N,4,9,9] x) => (float[N,5] y) { t = Transpose<perm = [3, 2, 0, 1]>(w)
            c = Conv<group = 4>(x, t, b) r = Relu(c) p = GlobalAveragePool(r) f = Flatten(p)
            y = Gemm<transB = 1>(f, v) }""",
            {"w": weight(3, 3, 1, 8), "b": weight(8), "v": weight(5, 8)},
        ),
    ),
    "GELU written out": (
        mlp("r = Gelu(a)"),
        mlp(
            "d = Div(a, root) e = Erf(d) i = Add(e, one) m = Mul(a, i) r = Mul(m, half)",
            {"root": 2**0.5, "one": 1.0, "half": 0.5},
        ),
    ),
    "HardSwish written out": (
        mlp("r = HardSwish(a)"),
        mlp(
            "i = Add(a, three) k = Clip(i, zero, six) m = Mul(a, k) r = Div(m, six)",
            {"three": 3.0, "zero": 0.0, "six": 6.0},
        ),
    ),
    "SiLU written out, on either side": (
        mlp("s = Sigmoid(a) r = Mul(a, s)"),
        mlp("s = Sigmoid(a) r = Mul(s, a)"),
    ),
    "LayerNorm written out": (
        Way(
            f"""{TOKENS} {{ h = MatMul(x, w1) a = Add(h, b1) n = LayerNormalization(a, g, b) r = Relu(n)
            m = ReduceMean<keepdims = 0>(r, axis) o = MatMul(m, w2) y = Add(o, b2) }}""",
            {**MLP, **AXIS, "g": np.ones(16, np.float32), "b": np.zeros(16, np.float32)},
        ),
        Way(
            f"""{TOKENS} {{ h = MatMul(x, w1) a = Add(h, b1) u = ReduceMean(a, last) d = Sub(a, u) s = Pow(d, two)
            v = ReduceMean(s, last) e = Add(v, eps) z = Sqrt(e) q = Div(d, z) k = Mul(q, g) n = Add(k, b)
            r = Relu(n) m = ReduceMean<keepdims = 0>(r, axis) o = MatMul(m, w2) y = Add(o, b2) }}""",
            {
                **MLP,
                **AXIS,
                "last": np.array([-1]),
                "two": np.array(2, np.float32),
                "eps": np.array(1e-5, np.float32),
                "g": np.full(16, 1.5, np.float32),
                "b": np.full(16, 0.2, np.float32),
            },
        ),
    ),
    "embedding and head tied, or written twice": (
        Way(
            "(int64[N,6] x) => (float[N,6,40] y) { e = Gather(t, x) h = MatMul(e, w) r = Relu(h) u = Transpose(t) y = MatMul(r, u) }",
            {"t": weight(40, 32), "w": weight(32, 32)},
        ),
        Way(
            "(int64[N,6] x) => (float[N,6,40] y) { e = Gather(t, x) h = MatMul(e, w) r = Relu(h) y = MatMul(r, v) }",
            {"t": weight(40, 32), "w": weight(32, 32), "v": weight(40, 32).T.copy()},
        ),
    ),
    "fused and split QKV, by Split": (
        Way(f"{TOKENS} {{ {PROJECTIONS} {ATTENTION} }}", {**SPLIT, **AXIS}),
        Way(
            f"{TOKENS} {{ h = MatMul(x, w) t = Add(h, b) q, k, v = Split<axis = -1, num_outputs = 3>(t) {ATTENTION} }}",
            {**FUSED, **AXIS},
        ),
    ),
    "fused and split QKV, by Reshape and Gather": (
        Way(f"{TOKENS} {{ {PROJECTIONS} {ATTENTION} }}", {**SPLIT, **AXIS}),
        Way(
            f"""{TOKENS} {{ h = MatMul(x, w) t = Add(h, b) u = Reshape(t, parts)
            p = Transpose<perm = [2, 0, 1, 3]>(u) q = Gather(p, zero) k = Gather(p, one) v = Gather(p, two)
            {ATTENTION} }}""",
            {
                **FUSED,
                **AXIS,
                "parts": np.array([0, 6, 3, 8]),
                "zero": np.array(0),
                "one": np.array(1),
                "two": np.array(2),
            },
        ),
    ),
}


def keys(report: Report) -> list[str]:
    return [layer["key"] for layer in report.data["layers"]]


@pytest.mark.parametrize("name", PATTERNS)
def test_two_ways_are_one_network(name: str):
    first, second = (score(way.proto(), CONFIG) for way in PATTERNS[name])
    assert keys(first) == keys(second)
    for figure in ("intrain", "geometric_capacity", "optimization_resilience"):
        assert getattr(second, figure) == pytest.approx(getattr(first, figure), rel=1e-4)
    for name, named in first.data["scores"].items():
        assert second.data["scores"][name]["value"] == pytest.approx(named["value"], rel=1e-4), name


def test_a_mask_is_kept_and_a_table_is_drawn():
    text = "(float[N,6,8] x) => (float[N,6,8] y) { h = MatMul(x, w) a = Add(h, m) y = MatMul(a, v) }"
    mask = np.triu(np.full((6, 8), -100.0, np.float32), 1)
    weights = {"w": weight(8, 8), "v": weight(8, 8, seed=1)}
    kept, drawn = (score(model(text, weights | {"m": m}), CONFIG) for m in (mask, weight(6, 8, seed=2)))
    assert [p["role"] for p in kept.data["parameters"] if p["name"] == "m"] == []
    assert [p["role"] for p in drawn.data["parameters"] if p["name"] == "m"] == ["offset"]


def test_other_networks_have_other_keys():
    wider = Way(CONVS.text, {**W, **B, "w1": weight(7, 3, 3, 3), "b1": weight(7), "w2": weight(4, 7, 3, 3)})
    strided = Way(CONVS.text.replace("Conv(x,", "Conv<strides = [2, 2]>(x,"), {**W, **B})
    found = [tuple(keys(score(way.proto(), CONFIG))) for way in (CONVS, wider, strided)]
    assert len(set(found)) == 3
