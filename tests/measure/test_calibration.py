"""Calibration in the probe's own pass against a pass of its own, in float64, where no kink is crossed."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from builders import for_probing, model, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.measure import calibration
from intrain_onnx.measure import probe as probing
from intrain_onnx.measure.calibration import Calibration
from intrain_onnx.measure.prepare import Runnable, prepare
from intrain_onnx.measure.probe import calibrate_and_probe, probe
from intrain_onnx.measure.statistics import through_weights
from intrain_onnx.measure.trace import Trace

SAMPLES = sorted((Path(__file__).parents[2] / "samples").glob("*.onnx"))
IMAGE, TOKENS = "float[N,6,8,8] x", "float[N,16,12] x"
FORMS = {
    "expansions and a cut": (
        IMAGE,
        {
            "w": weight(8, 6, 3, 3),
            "e": weight(48, 8, 1, 1),
            "p": weight(8, 48, 1, 1),
            "f": weight(96, 8, 1, 1),
        },
        "a = Conv<pads = [1, 1, 1, 1]>(x, w) r = Relu(a) b = Conv(r, e) c = Relu(b) d = Conv(c, p) "
        "s = Add(r, d) y = Conv(s, f)",
    ),
    "tokens": (
        TOKENS,
        {"w": weight(12, 12), "e": weight(12, 96), "p": weight(96, 12), "z": weight(12, 40, seed=3)},
        "a = MatMul(x, w) r = Tanh(a) b = MatMul(r, e) c = Relu(b) d = MatMul(c, p) s = Add(r, d) "
        "y = MatMul(s, z)",
    ),
    "a weight of two layers": (
        TOKENS,
        {"w": weight(12, 12), "z": weight(12, 40)},
        "a = MatMul(x, w) r = Relu(a) b = MatMul(r, w) t = Tanh(b) y = MatMul(t, z)",
    ),
    "a weight read before its layer": (
        TOKENS,
        {"w": weight(12, 12), "z": weight(12, 40)},
        "m = MatMul(x, w) k = Mul(w, w) q = ReduceMean<axes = [0], keepdims = 0>(k) s = Mul(x, q) "
        "r = Relu(s) b = MatMul(r, w) t = Add(b, m) u = Tanh(t) y = MatMul(u, z)",
    ),
    "a weight that is copied": (
        "float[N,4,12] x",
        {"v": weight(12, 12, seed=5), "w": weight(4, 12, 12), "z": weight(12, 40)},
        "g = MatMul(x, v) h = Relu(g) i = Unsqueeze(h, two) a = MatMul(i, w) r = Relu(a) "
        "q = Squeeze(r, two) y = MatMul(q, z)",
    ),
    "transposed in the graph": (
        TOKENS,
        {"w": weight(12, 12), "z": weight(40, 12)},
        "u = Transpose<perm = [1, 0]>(w) a = MatMul(x, u) r = Relu(a) v = Transpose<perm = [1, 0]>(z) "
        "y = MatMul(r, v)",
    ),
    "groups, strides and transposed convolutions": (
        IMAGE,
        {
            "w": weight(6, 1, 3, 3),
            "t": weight(6, 3, 2, 2),
            "s": weight(24, 6, 1, 1),
            "u": weight(40, 24, 1, 1),
        },
        "a = Conv<group = 6>(x, w) r = Relu(a) b = ConvTranspose<group = 2, strides = [2, 2]>(r, t) "
        "c = Tanh(b) d = Conv<strides = [2, 2]>(c, s) e = Relu(d) y = Conv(e, u)",
    ),
    "a norm that no layer absorbs": (
        IMAGE,
        {
            "w": weight(6, 6, 1, 1),
            "g": np.full(6, 1.5, np.float32),
            "h": np.full(6, 0.5, np.float32),
            "m": np.full(6, 0.1, np.float32),
            "v": np.full(6, 2, np.float32),
            "u": weight(24, 6, 1, 1),
        },
        "n = BatchNormalization(x, g, h, m, v) r = Relu(n) a = Conv(r, w) t = Relu(a) y = Conv(t, u)",
    ),
    "a channel that does not vary": (
        TOKENS,
        {"w": weight(12, 12) * (np.arange(12) != 3), "e": weight(12, 96), "k": np.float32(0)},
        "o = Mul(x, k) i = Concat<axis = 2>(x, o) j = Slice(i, six, last, two) a = MatMul(j, w) r = Relu(a) "
        "y = MatMul(r, e)",
    ),
}
EXTRA = {"two": np.array([2]), "six": np.array([6]), "last": np.array([18])}


def form(name: str) -> onnx.ModelProto:
    head, tensors, body = FORMS[name]
    extra = {key: value for key, value in EXTRA.items() if key in body}
    return model(f"({head}) => (float[N,M,L] y) {{ {body} }}", tensors | extra, opset=13)


def runnable(source: Path | onnx.ModelProto, batch: int = 8) -> Runnable:
    """In float64, drawn for seed 0."""
    config = ScoreConfig.for_protocol("architecture", batch=batch, device="cpu")
    found = prepare(for_probing(source, batch=batch), config, torch.device("cpu"))
    found.redraw(0)
    found.module.double()
    return found


def trace(made: Runnable, *, once: bool) -> Trace:
    generator = torch.Generator().manual_seed(0)
    fed = [x.double() if x.is_floating_point() else x for x in made.feed(generator)]
    if once:
        return calibrate_and_probe(made, fed, generator)
    made.calibrate(fed)
    return probe(made, fed, generator)


def close(found: float | None, expected: float | None, rel: float, absolute: float = 0.0) -> bool:
    if found is None or expected is None:
        return found is expected
    return math.isclose(found, expected, rel_tol=rel, abs_tol=absolute)


def same(found: Trace, expected: Trace) -> None:
    assert found.layers.keys() == expected.layers.keys()
    for name, layer in found.layers.items():
        other = expected.layers[name]
        assert (layer.shape, layer.rows, layer.channels) == (other.shape, other.rows, other.channels), name
        assert (layer.participation is None) == (other.participation is None)
        if layer.participation is not None and other.participation is not None:
            assert close(layer.participation.ratio, other.participation.ratio, 1e-9), name
            assert close(layer.participation.corrected, other.participation.corrected, 1e-7), name
    assert found.points.keys() == expected.points.keys()
    for name, point in found.points.items():
        other_point = expected.points[name]
        for field in ("standardised", "plain", "scale", "gradient"):
            values = getattr(point, field), getattr(other_point, field)
            assert close(*values, 1e-8), (name, field, values)
    assert found.gradients.keys() == expected.gradients.keys()
    for name, statistics in found.gradients.items():
        other_gradient = expected.gradients[name]
        assert close(statistics.max_abs, other_gradient.max_abs, 1e-8, 1e-14), name
        assert close(statistics.std, other_gradient.std, 1e-8, 1e-14), name


@pytest.mark.parametrize("source", [*SAMPLES, *FORMS], ids=lambda s: s.stem if isinstance(s, Path) else s)
def test_one_pass_measures_what_two_do(source: Path | str) -> None:
    made = [runnable(source if isinstance(source, Path) else form(source)) for _ in range(2)]
    found, expected = trace(made[0], once=True), trace(made[1], once=False)
    same(found, expected)
    weights = made[1].parameters
    for name, parameter in made[0].parameters.items():
        torch.testing.assert_close(parameter, weights[name], rtol=1e-9, atol=1e-12)


PASSES = dict.fromkeys([*FORMS], 1) | {"a weight read before its layer": 2, "a weight that is copied": 2}


@pytest.mark.parametrize("name", FORMS)
def test_a_second_pass_is_made_only_where_the_gradients_would_not_be_those_of_the_weights(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, alone = runnable(form(name)), []
    calibrate = type(made).calibrate
    monkeypatch.setattr(type(made), "calibrate", lambda *a: (alone.append(1), calibrate(*a))[1])
    trace(made, once=True)
    assert 1 + len(alone) == PASSES[name]


def test_without_that_test_the_gradients_would_be_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """So what it tells apart is not the same by chance."""
    monkeypatch.setattr(calibration, "_saves_itself", lambda *_: True)
    source = form("a weight that is copied")
    with pytest.raises(AssertionError):
        same(trace(runnable(source), once=True), trace(runnable(source), once=False))


@pytest.mark.parametrize("name", ["expansions and a cut", "tokens", "a channel that does not vary"])
def test_the_way_through_the_weights_is_the_direct_one(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also without calibration, and where the layer is a measuring point."""
    monkeypatch.setattr(through_weights, "_WORTH", 1)
    for once in (True, False):
        told = 0
        tell = probing._Pass.tell

        def counted(*arguments: object) -> None:
            nonlocal told
            told += 1
            tell(*arguments)  # type: ignore[arg-type]  # noqa: B023

        with monkeypatch.context() as patch:
            patch.setattr(probing._Pass, "tell", counted)
            through = trace(runnable(form(name), 64), once=once)
        with monkeypatch.context() as patch:
            patch.setattr(through_weights, "readers", lambda *_: {})
            direct = trace(runnable(form(name), 64), once=once)
        assert told >= 1
        same(through, direct)


def test_an_output_whose_variance_cancels_is_measured_itself() -> None:
    """Differences of almost equal inputs: from the covariance they would have no digit left."""
    generator = torch.Generator().manual_seed(0)
    common = torch.randn(4000, 1, generator=generator)
    x = common + 1e-4 * torch.randn(4000, 3, generator=generator)
    of = through_weights.Input(x - x.mean(0), x.mean(0), (x - x.mean(0)).T @ (x - x.mean(0)), 1)
    layer = runnable(form("tokens")).layers.layers[0]
    plain = replace(layer.weights[0], shape=(4, 3), steps=())
    reader = through_weights.Reader(replace(layer, weights=(plain,)), -1)
    differences = torch.tensor([[1.0, -1, 0], [0, 1, -1], [1, 0, -1], [1, 1, -2]])
    assert of.through(differences, reader) is None
    found = of.through(differences.abs(), reader)
    assert found is not None
    expected = (x.double() @ differences.abs().T.double()).var(0, correction=0)
    torch.testing.assert_close(found.variance.double(), expected, rtol=1e-4, atol=0)


def test_an_activation_that_is_not_finite_leaves_finite_weights_and_an_error() -> None:
    made = runnable(form("tokens"))
    before = {name: math.isfinite(p.abs().max().item()) for name, p in made.parameters.items()}
    fed = made.feed(torch.Generator().manual_seed(0))
    fed[0][0, 0, 0] = math.inf
    observers = Calibration(made.module, made.layers, (), {}, 8).observers
    with torch.no_grad():
        probing.run(made.module, [x.double() for x in fed], observers)
    assert all(before.values())
    assert all(bool(torch.isfinite(p).all()) for p in made.parameters.values())
