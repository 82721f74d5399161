"""Edges between layers: which feed which, over nodes that are none."""

from __future__ import annotations

import pytest
from builders import analysed, model, weight

W = {f"w{i}": weight(4, 4, seed=i) for i in range(6)}


def edges(body: str, **more) -> dict[str, set[str]]:
    """Layers that feed each, all by the names of their weights."""
    text = f"(float[N,4] x, bool c) => (float[N,4] y) {{ {body} }}"
    layers = analysed(model(text, {k: v for k, v in W.items() if k in body} | more)).layers
    weights = {layer.name: layer.weights[0].name for layer in layers}
    return {weights[x.name]: {weights[n] for n in x.inputs} for x in layers}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = MatMul(x, w0) r = Relu(a) y = MatMul(r, w1)", {"w0": set(), "w1": {"w0"}}),
        (  # a shortcut around one layer
            "a = MatMul(x, w0) b = MatMul(a, w1) s = Add(a, b) y = MatMul(s, w2)",
            {"w0": set(), "w1": {"w0"}, "w2": {"w0", "w1"}},
        ),
        (  # the second block has its own shortcut, not the first one's
            "a = MatMul(x, w0) b = MatMul(a, w1) s = Add(a, b) r = Relu(s) c1 = MatMul(r, w2) "
            "t = Add(r, c1) y = MatMul(t, w3)",
            {"w0": set(), "w1": {"w0"}, "w2": {"w0", "w1"}, "w3": {"w1", "w2"}},
        ),
        (  # branches
            "a = MatMul(x, w0) q = MatMul(a, w1) k = MatMul(a, w2) p = Mul(q, k) y = MatMul(p, w3)",
            {"w0": set(), "w1": {"w0"}, "w2": {"w0"}, "w3": {"w1", "w2"}},
        ),
        (  # a shape is no edge
            "a = MatMul(x, w0) s = Shape(a) b = MatMul(x, w1) r = Reshape(b, s) y = MatMul(r, w2)",
            {"w0": set(), "w1": set(), "w2": {"w1"}},
        ),
        (  # into a subgraph and out of it
            "a = MatMul(x, w0) b = If(c) <then_branch = t () => (float[N,4] p) { p = MatMul(a, w1) }, "
            "else_branch = e () => (float[N,4] q) { q = Relu(a) }> y = MatMul(b, w2)",
            {"w0": set(), "w1": {"w0"}, "w2": {"w0", "w1"}},
        ),
    ],
)
def test_edges(body: str, expected: dict[str, set[str]]):
    found = edges(body)
    assert {name: feeds for name, feeds in found.items() if name in expected} == expected


def test_their_number_grows_with_the_depth_alone():
    blocks = 300
    lines = ["s0 = MatMul(x, w0)"]
    lines += [f"b{i} = MatMul(s{i}, w1) s{i + 1} = Add(s{i}, b{i})" for i in range(blocks)]
    text = f"(float[N,4] x) => (float[N,4] y) {{ {' '.join(lines)} y = MatMul(s{blocks}, w2) }}"
    layers = analysed(model(text, {k: W[k] for k in ("w0", "w1", "w2")})).layers
    assert sum(len(layer.inputs) for layer in layers) <= 2 * len(layers)
