"""Layers that only decide, told from layers that rounding cuts off, on graphs made by hand.

onnxruntime says of each that it runs, and that the layer has an effect in it.
"""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from builders import model, normalised, run_onnxruntime, weight
from onnx import numpy_helper

from intrain_onnx.audit.flow.decisions import deciding
from intrain_onnx.network import gradient_reach
from intrain_onnx.network.layers import analyse
from intrain_onnx.rewrites.protocol.loss_heads import find_heads

I64 = np.int64
W = {"w": weight(4, 5), "r": weight(5, 5, seed=1), "v": weight(5, 3, seed=2)}
C = {
    "one": np.array(1, I64), "zero": np.array(0, I64), "two": np.array([2], I64), "last": np.array([-1], I64),
    "half": np.float32(0.1), "table": weight(5, 5, seed=3), "depth": np.array(5, I64),
    "off_on": np.array([0, 1], np.float32), "low": np.float32(-1e9), "first": np.array([1], I64),
}  # fmt: skip
TRUNK = "(float[N,4] x) => (float[N,3] y) {{ h = MatMul(x, w) d = MatMul(h, r) {0} y = MatMul(z, v) }}"

DECIDES = {
    "a mask by a comparison": "b = Greater(d, half) m = Cast<to = 1>(b) z = Mul(h, m)",
    "a mask in a Where": "b = Greater(d, half) z = Where(b, h, half)",
    "a router by the largest": (
        "i = ArgMax<axis = 1, keepdims = 1>(d) o = OneHot<axis = -1>(i, depth, off_on)"
        " s = Squeeze(o, first) z = Mul(h, s)"
    ),
    "the indices of the best": "t, i = TopK(d, two) p = GatherElements<axis = 1>(h, i) z = Pad(p, ends)",
    "a codebook": "i = ArgMin<axis = 1, keepdims = 0>(d) g = Gather(table, i) z = Add(g, h)",
    "rounded to places": "s = Sigmoid(d) c = Round(s) i = Cast<to = 7>(c) z = GatherElements<axis = 1>(h, i)",
    "durations": (
        "a = Abs(d) c = Ceil(a) q = CumSum(c, one) u = ReduceMax<keepdims = 0>(q) l = Cast<to = 7>(u)"
        " k = Min(l, depth) t = Range(zero, k, one) f = Cast<to = 1>(t) e = Unsqueeze(q, last)"
        " b = Less(f, e) m = Cast<to = 1>(b) h3 = Unsqueeze(h, last) n = Mul(h3, m)"
        " z = ReduceSum<keepdims = 0>(n, last)"
    ),
    "a mask that is added to logits": (
        "b = Less(d, half) m = Cast<to = 1>(b) g = Mul(m, low) a = Add(h, g) s = Softmax(a) z = Mul(s, h)"
    ),
    "a branch": (
        "u = ReduceMean<keepdims = 0>(d) b = Greater(u, half)"
        " z = If(b) <then_branch = th () => (float[N,5] p) { p = Identity(h) },"
        " else_branch = el () => (float[N,5] n) { n = Neg(h) }>"
    ),
}  # fmt: skip
"""What d decides, in a network that is differentiable otherwise."""

CUT_OFF = {
    "rounded": "q = Round(d) z = Add(h, q)",
    "rounded up, as a factor": "q = Ceil(d) z = Mul(h, q)",
    "through integers": "i = Cast<to = 7>(d) q = Cast<to = 1>(i) z = Add(h, q)",
    "a sign for a feature": "q = Sign(d) z = Add(h, q)",
    "a step for an activation": "b = Greater(d, half) q = Cast<to = 1>(b) g = MatMul(q, table) z = Add(h, g)",
    "a step that is added": "b = Greater(d, half) q = Cast<to = 1>(b) z = Add(h, q)",
    "a step beside the features": (
        "b = Greater(d, half) q = Cast<to = 1>(b) g = Concat<axis = 1>(h, q) z = MatMul(g, wide)"
    ),
    "a number and a decision": (
        "b = Greater(d, half) m = Cast<to = 1>(b) i = Cast<to = 7>(d) q = Cast<to = 1>(i)"
        " g = Mul(h, m) z = Add(g, q)"
    ),
}
"""What d loses its gradient to, though an output reads its numbers."""


MORE = {"ends": np.array([0, 0, 0, 3], I64), "wide": weight(10, 5, seed=4)}


def network(body: str) -> onnx.ModelProto:
    read = set(re.findall(r"\w+", body))
    return model(TRUNK.format(body), W | {n: a for n, a in (C | MORE).items() if n in read})


def decided(proto: onnx.ModelProto) -> set[str | None]:
    network = normalised(proto)
    layers = analyse(network)
    reach = gradient_reach.trace(network.graph, find_heads(network))
    found = deciding(network.graph, layers, reach)
    return {weight.name for layer in layers.layers if layer.name in found for weight in layer.weights}


@pytest.mark.parametrize("body", [*DECIDES.values(), *CUT_OFF.values()], ids=[*DECIDES, *CUT_OFF])
def test_the_layer_has_an_effect(body: str):
    x = {"x": weight(3, 4, seed=9)}
    [before] = run_onnxruntime(network(body), x)
    changed = network(body)
    tensor = next(t for t in changed.graph.initializer if t.name == "r")
    tensor.CopyFrom(numpy_helper.from_array(-5 * W["r"], "r"))
    [after] = run_onnxruntime(changed, x)
    assert before.shape != after.shape or not np.allclose(before, after)


@pytest.mark.parametrize("name", DECIDES)
def test_a_layer_that_only_decides(name: str):
    assert decided(network(DECIDES[name])) == {"r"}


@pytest.mark.parametrize("name", CUT_OFF)
def test_a_layer_whose_numbers_are_cut_off(name: str):
    assert decided(network(CUT_OFF[name])) == set()


def test_a_layer_with_a_gradient_does_not_only_decide():
    assert decided(network("s = Sigmoid(d) z = Mul(h, s)")) == set()


def test_an_index_for_an_output_is_a_decision():
    text = """(float[N,4] x) => (float[N,3] y, int64[N] c) {
        h = MatMul(x, w) y = MatMul(h, v) d = MatMul(h, r) q = Round(d) i = Cast<to = 7>(q)
        c = ReduceMax<axes = [1], keepdims = 0>(i) }"""
    assert decided(model(text, W, opset=13)) == {"r"}


BRANCH = """u = ReduceMax<keepdims = 0>(h) b = Greater(u, half)
    z = If(b) <then_branch = th () => (float[N,5] p) {{ {0} }},
    else_branch = el () => (float[N,5] n) {{ n = Identity(h) }}>"""


def test_in_a_branch_too():
    picks = "i = ArgMax<axis = 1, keepdims = 1>(d) p = GatherElements<axis = 1>(h, i)"
    assert decided(network(BRANCH.format(picks))) == {"r"}
    assert decided(network(BRANCH.format("c = Cast<to = 7>(d) p = Cast<to = 1>(c)"))) == set()
