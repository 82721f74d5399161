"""Graphs of one network that got different scores: what the generator of rewrites found, made small."""

from __future__ import annotations

import re
from collections import Counter

import numpy as np
import pytest
from builders import model, weight

from intrain_onnx import ScoreConfig, score

QUICK = ScoreConfig.for_protocol(seeds=1, batch=4, parity=False, threads=1, device="cpu")
HALVES = {"w": weight(6, 10), "v": weight(5, 3), "n": np.array([5, 5])}
BIASED = HALVES | {"k": weight(10)}
GATED = "a, b = Split<axis = {}>({}, n) g = Sigmoid(a) m = Mul(g, b)"
FILTERS = HALVES | {"w": np.ascontiguousarray(HALVES["w"].T)[:, :, None]}
GATE = {"w": weight(6, 8), "u": weight(6, 8, seed=1), "v": weight(8, 3)}
JOINED = GATE | {"wu": np.concatenate([GATE["w"], GATE["u"]], 1), "e": np.array([8, 8]), "o": weight(12, 3)}
BLOCK = GATE | {"z": weight(8, 8, seed=2)}
RESIDUAL = "t = Tanh(a) m = Mul(b, t) n = MatMul(m, z) r = Add(m, n) s = Relu(r) y = MatMul(s, v)"
TABLE = {"v": weight(4, 3)}
ROWS = "(int64[N,5] ids) => (float[N,5,3] y) {{ {} y = MatMul(h, v) }}"
TOKENS = "(float[N,4,6] x) => (float[N,4,3] y) {{ {} }}"
LOGITS = {"w": weight(6, 5), "v": weight(5, 3), "a": np.array([-1]), "c": np.array(1, np.float32)}
LOGITS |= {"q": np.array([2])}

EQUAL = {
    "a weight of doubles": [
        ("h = Gemm(x, w) r = Relu(h) y = MatMul(r, v)", {"w": weight(6, 5), "v": weight(5, 3)}),
        (
            "c = Cast<to = 1>(w) h = Gemm(x, c) r = Relu(h) y = MatMul(r, v)",
            {"w": weight(6, 5).astype(np.float64), "v": weight(5, 3)},
        ),
    ],
    "a gate and what it opens, in either order": [
        (
            "a = MatMul(x, w) s = Sigmoid(a) g = Mul(a, s) b = MatMul(x, u) m = Mul(g, b) y = MatMul(m, v)",
            GATE,
        ),
        (
            "b = MatMul(x, u) a = MatMul(x, w) s = Sigmoid(a) g = Mul(s, a) m = Mul(b, g) y = MatMul(m, v)",
            GATE,
        ),
    ],
    "a gate in front of a residual sum": [
        (f"a = MatMul(x, w) b = MatMul(x, u) {RESIDUAL}", BLOCK),
        (f"b = MatMul(x, u) a = MatMul(x, w) {RESIDUAL}", BLOCK),
    ],
    "a gate whose softplus is written out": [
        ("a = MatMul(x, w) b = MatMul(x, u) s = Softplus(a) m = Mul(s, b) y = MatMul(m, v)", GATE),
        (
            "b = MatMul(x, u) a = MatMul(x, w) e = Exp(a) p = Add(e, c) s = Log(p) "
            "m = Mul(s, b) y = MatMul(m, v)",
            GATE | {"c": np.array(1, np.float32)},
        ),
    ],
    "an If whose branches hand on the same": [
        ("h = MatMul(x, w) r = Relu(h) y = MatMul(r, v)", GATE),
        (
            "h = MatMul(x, w) s = Shape<start = 1, end = 2>(h) e = Equal(s, k) c = Squeeze(e) "
            "i = If(c) <then_branch = a () => (float[N,8] p) { p = Identity(h) }, "
            "else_branch = b () => (float[N,8] q) { q = Transpose<perm = [0, 1]>(h) }> "
            "r = Relu(i) y = MatMul(r, v)",
            GATE | {"k": np.array([8])},
        ),
    ],
    "a table of factors in another shape": [
        ("h = MatMul(x, w) m = Mul(h, d) y = MatMul(m, v)", GATE | {"d": weight(4, 8, scale=1.0)}),
        (
            "h = MatMul(x, w) d = Reshape(f, z) m = Mul(h, d) y = MatMul(m, v)",
            GATE | {"f": weight(4, 8, scale=1.0).ravel(), "z": np.array([4, 8])},
        ),
    ],
    "a table of offsets in another shape": [
        ("h = MatMul(x, w) m = Add(h, d) y = MatMul(m, v)", GATE | {"d": weight(4, 8, scale=1.0)}),
        (
            "h = MatMul(x, w) d = Reshape(f, z) m = Add(h, d) y = MatMul(m, v)",
            GATE | {"f": weight(4, 8, scale=1.0).ravel(), "z": np.array([4, 8])},
        ),
        (
            "h = MatMul(x, w) d = Transpose(f) m = Add(h, d) y = MatMul(m, v)",
            GATE | {"f": weight(8, 4, scale=1.0)},
        ),
    ],
    "maps of one value that are joined": [
        (
            "l = MatMul(x, w) k = MatMul(x, u) a, b = Split<axis = -1, num_outputs = 2>(l) g = Sigmoid(a) "
            "m = Mul(g, b) p = Concat<axis = -1>(m, k) y = MatMul(p, o)",
            JOINED,
        ),
        (
            "j = MatMul(x, wu) l, k = Split<axis = -1>(j, e) a, b = Split<axis = -1, num_outputs = 2>(l) "
            "g = Sigmoid(a) m = Mul(g, b) p = Concat<axis = -1>(m, k) y = MatMul(p, o)",
            JOINED,
        ),
    ],
    "tanh times sigmoid": [
        ("a = MatMul(x, w) b = MatMul(x, u) s = Tanh(a) t = Sigmoid(b) m = Mul(s, t) y = MatMul(m, v)", GATE),
        ("b = MatMul(x, u) a = MatMul(x, w) s = Tanh(a) t = Sigmoid(b) m = Mul(t, s) y = MatMul(m, v)", GATE),
    ],
    "parts of a weight of doubles": [
        (f"h = MatMul(x, w) {GATED.format(-1, 'h')} y = MatMul(m, v)", HALVES),
        (
            f"f = Cast<to = 1>(w) h = MatMul(x, f) {GATED.format(-1, 'h')} y = MatMul(m, v)",
            HALVES | {"w": HALVES["w"].astype(np.float64)},
        ),
    ],
    "views before a bias": [
        (f"l = MatMul(x, w) h = Add(l, k) {GATED.format(-1, 'h')} y = MatMul(m, v)", BIASED),
        (
            f"l = MatMul(x, w) p = Unsqueeze(l, z) q = Squeeze(p, z) h = Add(q, k) {GATED.format(-1, 'h')} "
            "y = MatMul(m, v)",
            BIASED | {"z": np.array([0])},
        ),
    ],
    "dropout before a bias": [
        (
            f"l = MatMul(x, w) h = Add(l, k) {GATED.format(-1, 'h')} y = MatMul(m, v)",
            BIASED,
        ),
        (
            f"l = MatMul(x, w) p = Dropout(l) h = Add(p, k) {GATED.format(-1, 'h')} y = MatMul(m, v)",
            BIASED,
        ),
    ],
    "parts behind what works on each element": [
        (f"h = MatMul(x, w) {GATED.format(-1, 'h')} y = MatMul(m, v)", HALVES),
        (f"h = MatMul(x, w) i = Identity(h) {GATED.format(-1, 'i')} y = MatMul(m, v)", HALVES),
        (f"h = MatMul(x, w) u = Neg(h) i = Neg(u) {GATED.format(-1, 'i')} y = MatMul(m, v)", HALVES),
        (f"h = MatMul(x, w) i = Dropout(h) {GATED.format(-1, 'i')} y = MatMul(m, v)", HALVES),
    ],
}
ON_TOKENS = {
    "a softmax that is written out": [
        ("h = MatMul(x, w) s = Softmax<axis = -1>(h) y = MatMul(s, v)", LOGITS),
        (
            "h = MatMul(x, w) t = ReduceMax<keepdims = 1>(h, a) d = Sub(h, t) e = Exp(d) "
            "n = ReduceSum<keepdims = 1>(e, a) s = Div(e, n) y = MatMul(s, v)",
            LOGITS,
        ),
        ("h = MatMul(x, w) e = Exp(h) n = ReduceSum(e, a) s = Div(e, n) y = MatMul(s, v)", LOGITS),
        ("h = MatMul(x, w) e = Exp(h) n = ReduceSum(e, q) s = Div(e, n) y = MatMul(s, v)", LOGITS),
    ],
    "a head of probabilities that is written out": [
        ("h = MatMul(x, w) y = LogSoftmax<axis = -1>(h)", LOGITS),
        ("h = MatMul(x, w) e = Exp(h) n = ReduceSum(e, a) l = Log(n) y = Sub(h, l)", LOGITS),
    ],
    "a sigmoid that is written out": [
        ("h = MatMul(x, w) y = Sigmoid(h)", LOGITS),
        ("h = MatMul(x, w) n = Neg(h) e = Exp(n) p = Add(e, c) y = Reciprocal(p)", LOGITS),
        ("h = MatMul(x, w) n = Neg(h) e = Exp(n) p = Add(c, e) y = Div(c, p)", LOGITS),
    ],
    "parts of a product from the left": [
        (f"h = MatMul(x, w) {GATED.format(-1, 'h')} y = MatMul(m, v)", HALVES),
        (
            f"t = Transpose<perm = [0,2,1]>(x) l = MatMul(w, t) {GATED.format(1, 'l')} "
            "h = Transpose<perm = [0,2,1]>(m) y = MatMul(h, v)",
            HALVES | {"w": np.ascontiguousarray(HALVES["w"].T)},
        ),
    ],
    "a convolution that is split": [
        (f"h = MatMul(x, w) {GATED.format(-1, 'h')} y = MatMul(m, v)", HALVES),
        (
            f"t = Transpose<perm = [0,2,1]>(x) c = Conv(t, w) h = Transpose<perm = [0,2,1]>(c) "
            f"{GATED.format(-1, 'h')} y = MatMul(m, v)",
            FILTERS,
        ),
        (
            f"t = Transpose<perm = [0,2,1]>(x) c = Conv(t, w) {GATED.format(1, 'c')} "
            "h = Transpose<perm = [0,2,1]>(m) y = MatMul(h, v)",
            FILTERS,
        ),
    ],
}
ON_IDS = {
    "a table of ids": [
        ("h = Gather(t, ids)", TABLE | {"t": weight(23, 4)}),
        ("p = Mul(t, s) h = Gather(p, ids)", TABLE | {"t": weight(23, 4), "s": weight(23, 1)}),
        ("p = Transpose(t) h = Gather(p, ids)", TABLE | {"t": weight(4, 23)}),
        ("p = Concat<axis = 0>(t, s) h = Gather(p, ids)", TABLE | {"t": weight(20, 4), "s": weight(3, 4)}),
    ]
}
FORMS = {
    **{name: ("(float[N,6] x) => (float[N,3] y) {{ {} }}", rows) for name, rows in EQUAL.items()},
    **{name: (TOKENS.replace("3] y", "D] y"), rows) for name, rows in ON_TOKENS.items()},
    **{name: (ROWS, rows) for name, rows in ON_IDS.items()},
}


@pytest.mark.parametrize("name", FORMS)
def test_graphs_of_one_network_have_one_score(name: str):
    signature, rows = FORMS[name]
    found = []
    for nodes, weights in rows:
        read = set(re.findall(r"\w+", nodes)) | {"v"}
        used = {name: array for name, array in weights.items() if name in read}
        data = score(model(signature.format(nodes), used), QUICK).data
        assert data["coverage"]["share"] == 1
        found.append((Counter(x["key"] for x in data["layers"]), data["score"]["intrain"]))
    keys, figure = found[0]
    assert figure > 0
    for other_keys, other in found[1:]:
        assert other_keys == keys
        assert other == pytest.approx(figure, rel=1e-4)
