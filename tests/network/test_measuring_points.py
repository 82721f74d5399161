"""Cuts, joins and what layers read, in graphs small enough to see them; the same for every exporter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from builders import for_probing, model, weight

from intrain_onnx.loading.load import Source
from intrain_onnx.network import measuring_points

SAMPLES = Path(__file__).parents[2] / "samples"


def found(source: Source, protocol: str = "checkpoint") -> dict[str, measuring_points.Point]:
    rewritten = for_probing(source, protocol)
    return {p.value: p for p in measuring_points.find(rewritten.model, rewritten.layers)}


def names(found: dict[str, measuring_points.Point], kind: str) -> list[str]:
    return [name for name, p in found.items() if getattr(p, kind)]


CONV = {"w1": weight(8, 3, 3, 3), "w2": weight(8, 8, 3, 3), "w3": weight(8, 8, 3, 3), "w4": weight(5, 8)}
STEM = "a = Conv<pads = [1,1,1,1]>(x, w1)"
HEAD = "g = GlobalAveragePool({}) f = Flatten(g) y = Gemm<transB = 1>(f, w4)"


def graph(body: str, last: str) -> object:
    return model(
        f"(float[N,3,16,16] x) => (float[N,5] y) {{ {STEM} {body} {HEAD.format(last)} }}",
        CONV | {"zero": np.zeros((), np.float32)},
    )


CHAIN = "r = Relu(a) b = Conv<pads = [1,1,1,1]>(r, w2) s = Relu(b) c = Conv<pads = [1,1,1,1]>(s, w3)"
RESIDUAL = f"{CHAIN} d = Add(a, c)"


def test_in_a_chain_every_layer_is_a_cut():
    chain = found(graph(CHAIN, "c"))
    assert names(chain, "cut") == ["a", "b", "c", "y"]
    assert names(chain, "join") == []
    assert names(chain, "read") == ["r", "s", "f"]
    assert [chain[v].layer is not None for v in ("a", "r", "y")] == [True, False, True]


def test_a_shortcut_takes_the_cuts_from_what_it_passes():
    residual = found(graph(RESIDUAL, "d"))
    assert names(residual, "cut") == ["a", "d", "y"]
    assert names(residual, "join") == ["d"]
    assert residual["d"].depth == 3


def test_a_branch_times_zero_is_no_branch():
    cut_off = found(graph(f"{CHAIN} z = Mul(a, zero) d = Add(z, c)", "d"))
    assert names(cut_off, "cut") == ["a", "b", "c", "y"]
    assert names(cut_off, "join") == []


@pytest.mark.parametrize(
    "total",
    ["t = Add(a, b) d = Add(t, c)", "t = Add(b, c) d = Add(a, t)", "d = Sum(a, b, c)"],
)
def test_a_sum_of_three_is_one_join_however_it_is_written(total: str):
    body = f"r = Relu(a) b = Conv<pads = [1,1,1,1]>(r, w2) c = Conv<pads = [1,1,1,1]>(r, w3) {total}"
    assert names(found(graph(body, "d")), "join") == ["d"]


@pytest.mark.parametrize(
    "body", ["d = Add(a, a)", "g0 = GlobalAveragePool(a) d = Add(a, g0)", "d = Mul(a, a)"]
)
def test_what_unites_no_branches_is_no_join(body: str):
    assert names(found(graph(body, "d")), "join") == []


def test_a_layer_norm_that_was_written_out_joins_nothing():
    body = """m = ReduceMean<axes = [1], keepdims = 1>(a) e = Mul(a, scale) n = Neg(m) k = Mul(n, scale)
              d = Add(e, k)"""
    text = f"(float[N,3,16,16] x) => (float[N,5] y) {{ {STEM} {body} {HEAD.format('d')} }}"
    normed = found(model(text, CONV | {"scale": weight(8, 1, 1)}, opset=17))
    assert names(normed, "join") == []
    assert names(normed, "cut") == ["a", "y"]


def test_pooling_is_a_branch():
    body = "b = AveragePool<kernel_shape = [3,3], pads = [1,1,1,1]>(a) d = Add(a, b)"
    assert names(found(graph(body, "d")), "join") == ["d"]


def test_channels_are_followed_through_transposes_and_reshapes():
    body = """t = Transpose<perm = [0,2,3,1]>(a) r = Relu(t) s = Reshape(r, shape)
              u = MatMul(s, m1) v = MatMul(s, m2) d = Add(u, v)"""
    text = f"""(float[N,3,16,16] x) => (float[N,5] y) {{ {STEM} {body}
               k = Constant<value_ints = [1]>()
               p = ReduceMean<keepdims = 0>(d, k) y = Gemm<transB = 1>(p, w4) }}"""
    tensors = CONV | {"m1": weight(8, 8, seed=1), "m2": weight(8, 8, seed=2), "shape": np.array([0, -1, 8])}
    seen = found(model(text, {k: v for k, v in tensors.items() if k not in ("w2", "w3")}))
    assert seen["d"].join
    assert seen["d"].channel_axes[0] % 3 == 2
    assert seen["s"].channel_axes[0] % 3 == 2
    assert seen["p"].channel_axes[0] % 2 == 1


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("pytorch_encoder_torchscript", "pytorch_encoder_dynamo"),
        ("pytorch_resnet_torchscript", "pytorch_resnet_dynamo"),
        ("pytorch_resnet_training", "pytorch_resnet_dynamo"),
    ],
)
def test_cuts_are_the_same_whoever_exported_the_network(a: str, b: str):
    first, second = (
        [(p.depth, p.join) for p in found(SAMPLES / f"{name}.onnx", "architecture").values() if p.cut]
        for name in (a, b)
    )
    assert first == second


@pytest.mark.parametrize("order", [("a", "b"), ("b", "a")])
def test_a_branch_that_has_not_begun_goes_past_what_stands_before_it(order: tuple[str, str]):
    """Whichever of two stems the file has first, neither is crossed by all paths."""
    stems = {"a": "a = MatMul(x, u)", "b": "b = MatMul(z, v)"}
    text = f"""(float[N,6] x, float[N,5] z) => (float[N,3] y) {{
        {stems[order[0]]} {stems[order[1]]} s = Add(a, b) r = Relu(s) y = MatMul(r, w) }}"""
    seen = found(model(text, {"u": weight(6, 4), "v": weight(5, 4), "w": weight(4, 3)}))
    assert names(seen, "cut") == ["s", "y"]
