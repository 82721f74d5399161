"""Runs that repeat the activations of the first: reports are those of measuring them again, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import model, weight

from intrain_onnx import pipeline
from intrain_onnx.config import ScoreConfig
from intrain_onnx.measure.trace import Trace
from intrain_onnx.ops import registry
from intrain_onnx.opset import support

SAMPLES = Path(__file__).parents[2] / "samples"

IMAGES = np.random.default_rng(0).standard_normal((6, 3, 32, 32)).astype(np.float32)
ROWS = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)

LOOP = """({0} x) => ({0} y) {{
    h = MatMul(x, u)
    y = Loop<body = b (int64 i, bool c, {0} s) => (bool d, {0} t) {{
        d = Identity(c) g = MatMul(s, v) t = Tanh(g)
    }}>(m, , h) }}"""
ROUNDS = {"u": weight(4, 4), "v": weight(4, 4, seed=1), "m": np.array(3)}

Runs = list[tuple[Trace, bool]]


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    """What each run found, and whether it was told what it would measure."""
    found: Runs = []
    own = pipeline.probe

    def probe(*given: Any, known: Trace | None = None) -> Trace:
        trace = own(*given, known=known)
        found.append((replace(trace, seconds={}), known is not None))
        return trace

    monkeypatch.setattr(pipeline, "probe", probe)
    return found


def score(source: Path | onnx.ModelProto, **settings: Any) -> dict[str, Any]:
    way = {name: settings.pop(name) for name in ("stream", "recompute") if name in settings}
    given = {"protocol": "checkpoint", "seeds": 3, "threads": 1, "device": "cpu", "parity": False, **settings}
    data = pipeline.score(source, ScoreConfig.for_protocol(**given), **way).data
    return {**data, "timings_s": None}


@pytest.mark.parametrize(
    ("source", "settings"),
    [
        (SAMPLES / "pytorch_resnet_training.onnx", {"inputs": {"image": IMAGES}, "points": "all"}),
        (SAMPLES / "pytorch_resnet_training.onnx", {"inputs": {"image": IMAGES}, "batch_norm": "training"}),
        (
            SAMPLES / "pytorch_resnet_torchscript.onnx",
            {"inputs": {"image": IMAGES}, "stream": True, "recompute": True},
        ),
        (model(LOOP.format("float[N,4]"), ROUNDS), {"inputs": {"x": ROWS}}),
        (model(LOOP.format("float[1,4]"), ROUNDS), {"inputs": {"x": ROWS}}),
        (
            model(
                """(float[S, N, 5] x) => (y) {
                o = LSTM<hidden_size = 3>(x, w, r)
                q = Squeeze(o, one)
                y = MatMul(q, g) }""",
                {"w": weight(1, 12, 5), "r": weight(1, 12, 3), "g": weight(3, 4), "one": np.array([1])},
            ),
            {"inputs": {"x": np.random.default_rng(0).standard_normal((7, 6, 5)).astype(np.float32)}},
        ),
    ],
    ids=["all points", "batch statistics", "streamed and made again", "loop", "lock step", "states"],
)
def test_later_runs_measure_gradients_alone(
    source: Path | onnx.ModelProto, settings: dict[str, Any], runs: Runs, monkeypatch: pytest.MonkeyPatch
):
    data = score(source, **settings)
    assert [told for _, told in runs] == [False, True, True]
    assert len({str(trace.gradients) for trace, _ in runs}) == 3
    short = [trace for trace, _ in runs]
    runs.clear()
    monkeypatch.setattr(pipeline, "may_draw", lambda module: True)
    assert score(source, **settings) == data
    assert runs == [(trace, False) for trace in short]


def shake(x: torch.Tensor) -> torch.Tensor:
    return x + torch.rand_like(x)


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ("(float[N, 4] x) => (y) { h = MatMul(x, u) n = RandomNormalLike(h) s = Add(h, n)", {}),
        ("(float[N, 4] x) => (y) { h = MatMul(x, u) s = seeds.Shake(h)", {}),
        ("(float[N, 4] x, float[N, 4] z) => (y) { h = MatMul(x, u) s = Add(h, z)", {}),
        ("(float[N, 4] x) => (y) { s = MatMul(x, u)", {"weights": "reinitialise"}),
    ],
    ids=["random node", "operator of others", "another input is drawn", "weights are drawn"],
)
def test_what_differs_is_measured(
    text: str, settings: dict[str, Any], runs: Runs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(registry, "_HANDLERS", registry._HANDLERS.copy())
    monkeypatch.setattr(support, "registered", support.registered.copy())
    registry.register_op("Shake", domain="seeds")(shake)
    proto = model(
        f"{text} y = MatMul(s, v) }}", {"u": weight(4, 4), "v": weight(4, 4, seed=1)}, domains={"seeds": 1}
    )
    score(proto, inputs={"x": ROWS}, **settings)
    assert [told for _, told in runs] == [False] * 3
    assert len({str(trace.layers) for trace, _ in runs}) == 3


def test_each_run_draws_its_own_projections(runs: Runs):
    proto = model("(float[N, 4] x) => (y) { y = MatMul(x, u) }", {"u": weight(4, 4)})
    score(proto, inputs={"x": ROWS}, projections=8)
    assert [told for _, told in runs] == [False] * 3
