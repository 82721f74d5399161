"""Masks in values, and powers that are undone, on graphs made by hand."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
from builders import model, normalised, run_onnxruntime, weight

from intrain_onnx.audit.flow.magnitudes import degrees, masks
from intrain_onnx.network.layers import analyse

W = {
    "w": weight(6, 6), "one": np.float32(1), "half": np.float32(0.5), "two": np.float32(2),
    "three": np.float32(3), "minus": np.float32(-0.5), "low": np.float32(-1e9), "tiny": np.float32(1e-3),
    "last": np.array([-1], np.int64), "fixed": np.triu(np.full((6, 6), -1e9, np.float32), 1),
    "odd": np.linspace(-1e9, 1e9, 36, dtype=np.float32).reshape(6, 6),
}  # fmt: skip


def network(body: str) -> ir.Model:
    text = f"(float[6,6] x, float[6,6] m) => (float[6,6] y) {{ h = MatMul(x, w) {body} }}"
    read = set(re.findall(r"\w+", text))
    return normalised(model(text, {n: np.asarray(a) for n, a in W.items() if n in read}))


def found(body: str) -> dict[str, float]:
    """Masks by name, with the magnitudes that onnxruntime sees where the input m is half hidden."""
    net = network(body)
    names = [v.name for node in net.graph for v in node.outputs if v.name]
    hidden = (np.arange(36).reshape(6, 6) % 2).astype(np.float32)
    values = run_onnxruntime(net, {"x": weight(6, 6, seed=2), "m": hidden}, names)
    measured = {n: float(np.abs(v).max()) for n, v in zip(names, values, strict=True)}
    return {v.name or "": m for v, m in masks(net.graph, analyse(net).slots, measured).items()}


@pytest.mark.parametrize(
    "body",
    [
        "a = Sub(one, m) b = Mul(a, low) y = Add(h, b)",
        "a = Sub(one, m) b = Mul(a, low) y = Add(b, h)",
        "c = Cast<to = 9>(m) y = Where(c, h, low)",
        "y = Add(h, fixed)",
        "s = Add(h, fixed) t = Transpose(s) y = Identity(t)",
        "a = Sub(one, m) b = Mul(a, low) g = Mul(h, m) y = Sub(g, b)",
        "s = Add(h, fixed) y = Mul(s, one)",
    ],
)
def test_a_mask_is_in_what_it_is_added_to(body: str):
    assert found(body)["y"] == pytest.approx(1e9)


@pytest.mark.parametrize(
    "body",
    [
        "y = Mul(h, low)",  # numbers of the network that are large
        "y = Add(h, odd)",  # no mask: it has many values
        "s = Add(h, fixed) y = Softmax(s)",
        "s = Add(h, fixed) y = MatMul(s, h)",
        "y = Add(h, half)",
    ],
)
def test_no_mask(body: str):
    assert "y" not in found(body)


def test_a_scaled_mask_is_scaled():
    assert found("s = Add(h, fixed) y = Mul(s, half)")["y"] == pytest.approx(5e8)
    assert found("s = Add(h, fixed) y = Div(s, two)")["y"] == pytest.approx(5e8)


NORM = "r = ReduceMean(q, last) e = Add(r, tiny)"
CUBE = "a = Mul(c, tiny) b = Add(h, a) t = Tanh(b) y = Mul(h, t)"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (f"q = Pow(h, two) {NORM} s = Sqrt(e) y = Div(h, s)", {"q": 2, "r": 2, "e": 2}),
        (f"q = Mul(h, h) {NORM} s = Pow(e, minus) y = Mul(h, s)", {"q": 2, "r": 2, "e": 2}),
        (f"q = Mul(h, h) c = Mul(q, h) {CUBE}", {"q": 2, "c": 3, "a": 3, "b": 3}),
        (f"c = Pow(h, three) {CUBE}", {"c": 3, "a": 3, "b": 3}),
        ("q = Pow(h, two) g = Mul(q, minus) y = Exp(g)", {"q": 2, "g": 2}),
        ("q = Pow(h, two) y = Mul(q, tiny)", {}),  # an output
        ("q = Mul(h, h) s = Sqrt(q) y = Add(q, s)", {}),  # read otherwise, too
        ("q = Pow(h, two) y = MatMul(q, h)", {}),
        ("q = Mul(h, x) y = Sqrt(q)", {}),  # no power
        ("q = Pow(h, half) y = Tanh(q)", {}),
    ],
)
def test_powers_that_are_undone(body: str, expected: dict[str, int]):
    assert {v.name: d for v, d in degrees(network(body).graph).items()} == expected
