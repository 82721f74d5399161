"""The map of each channel behind a layer, against onnxruntime's outputs."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from builders import model, run_onnxruntime, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.diff.weights import Read
from intrain_onnx.loading.load import load
from intrain_onnx.pipeline import network_of

CHANNELS = 5
VECTOR = (CHANNELS, 1, 1)
AFTER = {
    "nothing": "y = Identity(h)",
    "a norm": "y = BatchNormalization<epsilon = 0.01>(h, gamma, beta, mean, variance)",
    "a factor": "y = Mul(h, factor)",
    "a factor on the left": "y = Mul(factor, h)",
    "a divisor": "y = Div(h, factor)",
    "a shift": "y = Add(shift, h)",
    "a copy before a factor": "i = Identity(h)\n y = Mul(i, factor)",
    "a difference": "y = Sub(h, shift)",
    "a difference from": "y = Sub(shift, h)",
    "one number": "y = Mul(h, two)",
    "a chain": (
        "n = BatchNormalization(h, gamma, beta, mean, variance)\n f = Mul(n, factor)\n y = Add(f, shift)"
    ),
    "an activation ends it": "r = Relu(h)\n y = Mul(r, factor)",
    "a map of positions ends it": "p = Mul(h, places)\n y = Add(p, shift)",
    "a divided constant ends it": "y = Div(factor, h)",
}
STOPS = {"an activation ends it": "r", "a map of positions ends it": "h", "a divided constant ends it": "h"}
"""The value up to which the map goes, where it is not the output."""


def net(after: str) -> onnx.ModelProto:
    random = np.random.default_rng(0)
    held = {
        "w": weight(CHANNELS, 3, 3, 3),
        "b": weight(CHANNELS),
        "gamma": random.uniform(0.5, 2, CHANNELS).astype(np.float32),
        "beta": weight(CHANNELS, seed=1),
        "mean": weight(CHANNELS, seed=2),
        "variance": random.uniform(0.5, 2, CHANNELS).astype(np.float32),
        "factor": random.uniform(0.5, 2, VECTOR).astype(np.float32),
        "shift": weight(*VECTOR, seed=3),
        "two": np.array(2, dtype=np.float32),
        "places": random.uniform(0.5, 2, (1, 1, 6)).astype(np.float32),
    }
    body = f"h = Conv(x, w, b)\n {AFTER[after]}\n z = Neg(y)"
    words = set(re.findall(r"\w+", body))
    used = {name: array for name, array in held.items() if name in words}
    return model(f"(float[2,3,8,8] x) => (float[2,{CHANNELS},6,6] z) {{ {body} }}", used)


@pytest.mark.parametrize("after", AFTER)
def test_a_layer_with_what_is_folded_in_computes_the_same(after: str):
    """A convolution with the effective weight and bias has the value that onnxruntime has behind the map."""
    proto = net(after)
    network = network_of(load(proto), ScoreConfig.for_protocol("checkpoint"), keyed=True)
    read = Read.of(network)
    (layer,) = network.layers.layers
    found = read.parameters(layer)
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 8)).astype(np.float32)
    plain = model(
        f"(float[2,3,8,8] x) => (float[2,{CHANNELS},6,6] z) {{ z = Conv(x, w, b) }}",
        {"w": found["weight"].value, "b": found["bias"].value},
    )
    until = STOPS.get(after, "y")
    (expected,) = run_onnxruntime(proto, {"x": x}, [until])
    ours = run_onnxruntime(plain, {"x": x})[0]
    if until == "r":
        ours = np.maximum(ours, 0)
    np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
