"""Which layers calibration leaves alone: each kind of gate in each way to write it, and what is no gate."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import analysed, for_probing, model, normalised, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.measure import as_drawn
from intrain_onnx.measure.prepare import prepare
from intrain_onnx.runtime.interpreter import run

IMAGE = "float[N,6,8,8] x"
TOKENS = "float[N,5,8] x"
MAP = {"w": weight(6, 6, 3, 3), "a": weight(2, 6, 1, 1), "b": weight(6, 2, 1, 1)}
SQUEEZED = (
    "m = Conv<pads = [1, 1, 1, 1]>(x, w) p = GlobalAveragePool(m) s = Conv(p, a) r = Relu(s) e = Conv(r, b)"
)
DENSE = {"w": weight(8, 8), "v": weight(8, 8, seed=1), "u": weight(8, 8, seed=2), "z": weight(8, 4)}
ATTENTION = (
    "q = MatMul(x, w) k = MatMul(x, v) t = Transpose<perm = [0, 2, 1]>(k) l = MatMul(q, t) "
    "p = Softmax<axis = -1>(l) h = MatMul(x, u) o = MatMul(p, h) "
)
CASES = {
    "squeeze and excite": (
        IMAGE,
        MAP,
        f"{SQUEEZED} g = Sigmoid(e) y = Mul(m, g)",
        {"a": "pooled", "b": "gate"},
    ),
    "hard sigmoid": (
        IMAGE,
        MAP,
        f"{SQUEEZED} g = HardSigmoid(e) y = Mul(g, m)",
        {"a": "pooled", "b": "gate"},
    ),
    "hard sigmoid written out": (
        IMAGE,
        MAP | {"c": np.float32(3), "d": np.float32(0), "f": np.float32(6), "h": np.float32(1 / 6)},
        f"{SQUEEZED} i = Add(e, c) j = Clip(i, d, f) g = Mul(j, h) y = Mul(m, g)",
        {"a": "pooled", "b": "gate"},
    ),
    "squeeze by ReduceMean and Gemm": (
        IMAGE,
        {"w": MAP["w"], "a": weight(6, 2), "b": weight(2, 6), "s": np.array([0, 6, 1, 1])},
        "m = Conv<pads = [1, 1, 1, 1]>(x, w) k = Constant<value_ints = [2, 3]>() "
        "p = ReduceMean<keepdims = 0>(m, k) "
        "q = Gemm(p, a) r = Relu(q) e = Gemm(r, b) g = Sigmoid(e) t = Reshape(g, s) y = Mul(m, t)",
        {"a": "pooled", "b": "gate"},
    ),
    "gated linear unit": (
        TOKENS,
        DENSE,
        "a = MatMul(x, w) b = MatMul(x, v) g = Sigmoid(b) y = Mul(a, g)",
        {"v": "gate"},
    ),
    "gated linear unit of one fused layer": (
        TOKENS,
        {"w": weight(8, 16), "s": np.array([8, 8])},
        "f = MatMul(x, w) a, b = Split<axis = -1>(f, s) g = Sigmoid(b) y = Mul(a, g)",
        {"w": "gate"},
    ),
    "cell written out": (
        TOKENS,
        DENSE,
        "i = MatMul(x, w) s = Sigmoid(i) c = MatMul(x, v) t = Tanh(c) y = Mul(s, t)",
        {"w": "gate", "v": "gate"},
    ),
    "router": (
        TOKENS,
        DENSE | {"z": weight(8, 1, seed=3)},
        "e = MatMul(x, w) l = MatMul(x, z) p = Softmax<axis = 1>(l) y = Mul(p, e)",
        {"z": "gate"},
    ),
    "swish": (TOKENS, DENSE, "a = MatMul(x, w) g = Sigmoid(a) s = Mul(a, g) y = MatMul(s, v)", {}),
    "tanh between layers": (TOKENS, DENSE, "a = MatMul(x, w) g = Tanh(a) y = MatMul(g, v)", {}),
    "a gate of what others read too": (
        TOKENS,
        DENSE,
        "a = MatMul(x, w) b = MatMul(x, v) g = Sigmoid(b) c = Mul(a, g) d = MatMul(b, u) y = Add(c, d)",
        {},
    ),
    "attention": (TOKENS, DENSE, f"{ATTENTION} y = MatMul(o, z)", {"z": "attention"}),
    "attention behind views": (
        TOKENS,
        DENSE | {"s": np.array([0, 5, 2, 4]), "r": np.array([0, 5, 8])},
        f"{ATTENTION} i = Reshape(o, s) j = Reshape(i, r) y = MatMul(j, z)",
        {"z": "attention"},
    ),
    "classifier": (
        IMAGE,
        {"w": MAP["w"], "z": weight(6, 4)},
        "m = Conv(x, w) r = Relu(m) p = GlobalAveragePool(r) f = Flatten(p) y = Gemm(f, z)",
        {"z": "pooled"},
    ),
    "classifier of a flattened map": (
        IMAGE,
        {"w": weight(6, 6, 7, 7), "z": weight(24, 4)},
        "m = Conv(x, w) r = Relu(m) f = Flatten(r) y = Gemm(f, z)",
        {},
    ),
    "class token": (
        TOKENS,
        DENSE | {"i": np.array(0)},
        "a = MatMul(x, w) t = Gather<axis = 1>(a, i) y = MatMul(t, z)",
        {"z": "pooled"},
    ),
    "perceptron": ("float[N,8] x", DENSE, "a = MatMul(x, w) r = Relu(a) y = MatMul(r, z)", {}),
    "means in a normalisation": (
        TOKENS,
        DENSE,
        "k = Constant<value_ints = [-1]>() "
        "m = ReduceMean(x, k) c = Sub(x, m) a = MatMul(c, w) y = MatMul(a, z)",
        {},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_alone(name: str):
    given, weights, text, wanted = CASES[name]
    network = for_probing(model(f"({given}) => (float[M] y) {{ {text} }}", weights))
    found = as_drawn.reasons(network.model, network.layers)
    by_weight = {
        x.weights[0].initializers[0]: found[x.name] for x in network.layers.layers if x.name in found
    }
    assert by_weight == wanted


def test_a_gate_hardly_varies_over_samples_as_before_training():
    """In torch's own initialisation it does not; calibrated, its pre-activation had unit variance."""
    given, weights, text, _ = CASES["squeeze and excite"]
    proto = model(f"({given}) => (float[M] y) {{ {text} }}", weights)
    config = ScoreConfig.for_protocol(batch=64, seeds=1, parity=False)
    runnable = prepare(for_probing(proto), config, torch.device("cpu"))
    generator = torch.Generator().manual_seed(0)
    fed = runnable.feed(generator)
    runnable.redraw(0)
    runnable.calibrate(fed)
    seen = {}
    with torch.no_grad():
        run(runnable.module, fed, {"g": lambda parts: seen.update(g=parts[0])})
    assert seen["g"].std(0).mean() < 0.05  # 0.21 for a pre-activation of unit variance


def test_long_ways_between_a_gate_and_what_it_opens_are_followed():
    """Longer than Python's stack is deep, and with forks of which every one meets the next."""
    straight = " ".join(f"n{i + 1} = Neg(n{i})" for i in range(1500))
    forks = " ".join(f"f{i + 1} = Concat<axis = 0>(f{i}, f{i})" for i in range(60))
    gate = "a = MatMul(x, w) b = MatMul(x, v) g = Sigmoid(b) n0 = Identity(g)"
    text = f"{gate} {straight} f0 = Neg(n1500) {forks}"
    weights = {name: DENSE[name] for name in ("w", "v")}
    proto = model(f"({TOKENS}) => (float[M] y, float[K] f60) {{ {text} y = Mul(a, n1500) }}", weights)
    found = as_drawn.reasons(normalised(proto), analysed(proto))
    assert list(found.values()) == ["gate"]
