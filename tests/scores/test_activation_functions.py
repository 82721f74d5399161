"""Activation functions are counted by what they compute, in however many operators they are written."""

from __future__ import annotations

import numpy as np
import pytest
from builders import for_probing, model, weight

from intrain_onnx.scores import activation_functions

NUMBERS = {"one": 1.0, "two": 2.0, "three": 3.0, "six": 6.0, "zero": 0.0, "half": 0.5, "tiny": 1e-6}
MORE = {
    "first": weight(6, 6),
    "last": weight(6, 6, seed=1),
    "square": weight(6, 6, seed=2),
    "vector": weight(6),
    "mask": np.tri(6, dtype=bool),
    "axis": np.array([1]),
}
WEIGHTS = {name: np.array(value, np.float32) for name, value in NUMBERS.items()} | MORE

BETWEEN = {
    "none": ("y = Identity(x)", 0),
    "arithmetic": ("a = Mul(x, two) y = Add(a, three)", 0),
    "square": ("y = Mul(x, x)", 0),
    "softmax": ("y = Softmax(x)", 0),
    "relu": ("y = Relu(x)", 1),
    "relu as a maximum": ("y = Max(x, zero)", 1),
    "relu as a maximum with a cast zero": ("z = Cast<to = 1>(zero) y = Max(z, x)", 1),
    "relu as a choice": ("c = Greater(x, zero) y = Where(c, x, zero)", 1),
    "relu6": ("y = Clip(x, zero, six)", 1),
    "relu6 in two": ("a = Relu(x) y = Min(a, six)", 1),
    "relu6 as bounds": ("a = Max(x, zero) y = Min(a, six)", 1),
    "silu": ("a = Sigmoid(x) y = Mul(x, a)", 1),
    "silu by exponentials": ("n = Neg(x) e = Exp(n) d = Add(e, one) s = Div(one, d) y = Mul(x, s)", 1),
    "gelu": ("a = Div(x, two) b = Erf(a) c = Add(b, one) d = Mul(x, c) y = Mul(d, half)", 1),
    "gelu by tanh": ("p = Pow(x, three) q = Add(x, p) r = Tanh(q) t = Add(r, one) y = Mul(x, t)", 1),
    "mish": ("a = Softplus(x) b = Tanh(a) y = Mul(x, b)", 1),
    "elu": ("c = Greater(x, zero) e = Exp(x) d = Sub(e, one) y = Where(c, x, d)", 1),
    "leaky relu": ("a = Mul(x, half) y = Max(x, a)", 1),
    "prelu": ("a = Relu(x) n = Neg(x) b = Relu(n) c = Mul(b, half) y = Sub(a, c)", 1),
    "one value twice": ("a = Relu(x) b = Relu(x) y = Add(a, b)", 1),
    "through a view": ("a = Transpose(x) b = Relu(a) y = Transpose(b)", 1),
    "a product between two": ("a = Relu(x) b = MatMul(a, square) y = Tanh(b)", 2),
    "a scale of each channel between two": ("a = Relu(x) b = Mul(a, vector) y = Tanh(b)", 2),
    "a gate": ("g = MatMul(x, square) s = Sigmoid(g) y = Mul(x, s)", 1),
    "two of different values": ("a = Tanh(x) g = MatMul(x, square) s = Sigmoid(g) y = Mul(a, s)", 2),
    "a bound of a variance": ("a = Mul(x, x) m = ReduceMean(a, axis) v = Max(m, tiny) y = Div(x, v)", 0),
    "a bound of a length": ("n = ReduceL2(x, axis) m = Clip(n, tiny) y = Div(x, m)", 0),
    "a sigmoid of a mean": ("m = ReduceMean(x, axis) g = Sigmoid(m) y = Mul(x, g)", 1),
    "a mask that stays": ("y = Where(mask, x, zero)", 0),
    "of the input": ("a = Relu(image) b = Identity(a) y = Add(x, b)", 0),
    "that no output needs": ("a = Relu(x) y = Identity(x)", 0),
}
"""Nodes between two layers, and their number of activation functions."""


@pytest.mark.parametrize(("body", "number"), BETWEEN.values(), ids=list(BETWEEN))
def test_it_counts_functions_and_not_operators(body: str, number: int):
    text = (
        f"(float[6,6] image) => (float[6,6] out) {{ x = MatMul(image, first) {body} out = MatMul(y, last) }}"
    )
    probed = for_probing(model(text, WEIGHTS), "checkpoint")
    assert activation_functions.count(probed.model, probed.layers) == number
