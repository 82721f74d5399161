"""The gradient along depth: a network in which it explodes, one in which it dies, one in which it is even."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from builders import model

import intrain_onnx
from intrain_onnx.config import ScoreConfig
from intrain_onnx.report.rows import Document
from intrain_onnx.scores.variants import TOLERANCE

DEPTH, WIDTH = 12, 16


def chain(function: str, gain: float) -> onnx.ModelProto:
    """Layers of N(0, gain² / width), each with an activation function, and a head of variance 1."""
    random = np.random.default_rng(0)
    weights = {f"w{i}": gain * random.normal(size=(WIDTH, WIDTH)) for i in range(DEPTH)}
    weights["head"] = random.normal(size=(WIDTH, 4))
    body = "".join(
        f"a{i} = MatMul({f'r{i - 1}' if i else 'x'}, w{i}) r{i} = {function}(a{i}) " for i in range(DEPTH)
    )
    return model(
        f"(float[N,{WIDTH}] x) => (float[N,4] y) {{ {body} y = MatMul(r{DEPTH - 1}, head) }}",
        {name: (w / math.sqrt(WIDTH)).astype(np.float32) for name, w in weights.items()},
    )


def scored(function: str, gain: float, protocol: str = "checkpoint", seeds: int = 1) -> Document:
    config = ScoreConfig.for_protocol(protocol, seeds=seeds, batch=16, threads=1, device="cpu", parity=False)
    return intrain_onnx.score(chain(function, gain), config).document


@pytest.mark.parametrize(
    ("function", "gain", "direction"),
    [("Tanh", 1.0, "even"), ("Tanh", 4.0, "explodes"), ("Tanh", 100.0, "dies")],
)
def test_it_explodes_in_chaos_and_dies_in_saturation(function: str, gain: float, direction: str):
    """At a gain of 1 tanh is at the edge of chaos; beyond, inputs part along depth; saturated it is flat."""
    data = scored(function, gain)
    found = data.gradient
    assert found.direction == direction
    cuts = {p.value: (p.depth, p.log_sensitivity) for p in data.points if p.log_sensitivity is not None}
    assert len(cuts) == DEPTH + 1
    assert found.value == max(cuts, key=lambda name: abs(cuts[name][1]))
    assert (found.depth, found.log_sensitivity) == cuts[found.value]
    limits = TOLERANCE[True]
    assert found.tolerance == (limits.growth if found.log_sensitivity > 0 else limits.fall)
    assert found.reach == pytest.approx(math.exp(min(0.0, found.tolerance - abs(found.log_sensitivity))))
    beyond = [depth for depth, s in cuts.values() if s > limits.growth or s < -limits.fall]
    lost = max(beyond, default=None)
    assert found.lost_at_depth == lost
    assert found.lost_at == next((name for name, (depth, _) in cuts.items() if depth == lost), None)
    assert found.layers_behind == sum(x.counted and lost is not None and x.depth <= lost for x in data.layers)
    assert (found.layers_behind > 0) == (direction != "even")


def test_it_is_that_of_the_worst_run():
    several = scored("Tanh", 4.0, seeds=3).gradient
    alone = [
        intrain_onnx.score(
            chain("Tanh", 4.0),
            ScoreConfig.for_protocol(
                "checkpoint", seeds=1, seed=seed, batch=16, threads=1, device="cpu", parity=False
            ),
        ).document.gradient
        for seed in range(3)
    ]
    worst = min(alone, key=lambda row: row.reach)
    assert several.log_sensitivity == worst.log_sensitivity
    assert (several.lost_at, several.layers_behind) == (worst.lost_at, worst.layers_behind)
    assert several.reach == pytest.approx(sum(row.reach for row in alone) / 3)


def test_calibrated_the_same_chain_is_even_and_loses_nothing():
    data = scored("Tanh", 100.0, "architecture")
    assert (data.gradient.direction, data.gradient.reach) == ("even", 1.0)
    assert (data.gradient.lost_at, data.gradient.layers_behind) == (None, 0)
    assert data.gradient.tolerance == TOLERANCE[False].growth == TOLERANCE[False].fall
