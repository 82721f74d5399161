"""What may differ between two right runs, and what must not be disturbed."""

from __future__ import annotations

import numpy as np
import pytest
from builders import model, normalised, weight

from intrain_onnx.parity.comparable import Comparable

TAILS = {
    "NonZero": "r = Greater(h, zero) y = NonZero(r)",
    "Compress": "r = Greater(h, zero) f = Reshape(r, flat) y = Compress(h, f)",
    "Unique": "y = Unique(h)",
    "TopK": "r = Greater(h, zero) n = Cast<to = 7>(r) k = ReduceSum<keepdims = 0>(n) j = Reshape(k, flat) "
    "f = Reshape(h, flat) y, i = TopK(f, j)",
    "Range": "r = ReduceMax<keepdims = 0>(h) n = Ceil(r) y = Range(zero, n, one)",
    "Expand": "r = ArgMax<keepdims = 0>(h) f = Reshape(r, flat) n = Slice(f, at, to) y = Expand(one, n)",
    "Resize": "r = ReduceMax<keepdims = 1>(h) n = Reshape(r, flat) "
    "s = Concat<axis = 0>(n, n) y = Resize(h, , s)",
    "Loop": """m = ReduceMax<keepdims = 0>(h) n = Cast<to = 7>(m) y = Loop<
        body = b (int64 i, bool c) => (bool d, float[1] t)
        { d = Identity(c) t = Cast<to = 1>(flat) }>(n, true)""",
    "Loop, its condition": """y = Loop<body = b (int64 i, bool c) => (bool d, float t)
        { f = Cast<to = 1>(i) t = ReduceMax<keepdims = 0>(h) d = Less(f, t) }>(, true)""",
}
CONSTANTS = {
    "w": weight(4, 4),
    "zero": np.float32(0),
    "one": np.float32(1),
    "flat": np.array([-1]),
    "at": np.array([0]),
    "to": np.array([1]),
    "true": np.array(True),
}


def graph(tail: str, **more: np.ndarray) -> Comparable:
    text = f"(float[N,4] x) => (y) {{ h = MatMul(x, w) {tail} }}"
    return Comparable(normalised(model(text, {**CONSTANTS, **more})))


@pytest.mark.parametrize("name", TAILS)
def test_a_length_that_follows_from_values_is_no_difference(name: str):
    found = graph(TAILS[name])
    reason = found.why_not("y", True)
    assert reason is not None
    assert reason.startswith("not comparable: lengths depend on the data (")
    assert name.partition(",")[0] in reason
    assert found.why_not("y", False) is None, "the values are the same where the lengths are"


def test_a_length_that_follows_from_sizes_must_be_the_same():
    tail = (
        "s = Shape(h) n = ReduceProd<keepdims = 1>(s) k = Slice(n, at, to) f = Reshape(h, k) y = Tile(f, k)"
    )
    assert graph(tail).why_not("y", True) is None


def test_the_size_of_a_length_that_follows_from_values_follows_from_them_too():
    tail = "r = Greater(h, zero) z = NonZero(r) s = Shape(z) y = ConstantOfShape(s)"
    assert "(NonZero node" in str(graph(tail).why_not("y", True))


@pytest.mark.parametrize("op", ["RandomNormalLike(h)", "RandomUniformLike(h)", "Bernoulli(p)"])
def test_random_values_are_not_compared_and_the_others_are(op: str):
    text = (
        f"(float[N,4] x) => (y, z) {{ h = MatMul(x, w) p = Sigmoid(h) r = {op} y = Add(h, r) z = Tanh(h) }}"
    )
    found = Comparable(normalised(model(text, CONSTANTS)))
    kind = op.partition("(")[0]
    assert f"not comparable: random nodes ({kind} node" in str(found.why_not("y", False))
    assert found.why_not("y", True) is None, "chance makes no other shape"
    assert found.why_not("z", False) is None


def test_random_values_in_a_subgraph_are_found():
    tail = """y = Loop<body = b (int64 i, bool c, float[N,4] s) => (bool d, float[N,4] t)
        { d = Identity(c) r = RandomNormalLike(s) t = Add(s, r) }>(three, , h)"""
    assert "random nodes" in str(graph(tail, three=np.array(3)).why_not("y", False))


def test_arithmetic_on_sizes_is_told_from_what_the_values_make():
    tail = """s = Shape(h) f = Cast<to = 1>(s) g = Mul(f, two) n = Cast<to = 7>(g)
        e = Expand(one, n) m = Softplus(h) k = ReduceMax<keepdims = 0>(m)
        c = Ceil(k) y = Range(zero, c, one)"""
    found = graph(tail, two=np.float32(2))
    assert {"f", "g"} <= found.shape_arithmetic
    assert not {"h", "m", "k", "c", "y"} & found.shape_arithmetic
    assert {"g", "n", "h", "m", "k", "c"} <= found.to_sizes
    assert "y" not in found.to_sizes
