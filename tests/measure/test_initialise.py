"""Weights that are drawn: their spread against torch's own initialisers, and what may not change them."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from builders import analysed, for_all, model, normalised, weight
from hypothesis import strategies as st
from torch import Tensor, nn

from intrain_onnx.measure.calibration import calibrate
from intrain_onnx.measure.initialise import parameters, reinitialise, to_file_layout
from intrain_onnx.network.layers import analyse
from intrain_onnx.network.values import Step
from intrain_onnx.runtime.convert import convert

NETWORK = """(float[N,24,6,6] image, int64[N,5] ids) => (float[N,48] y) {
    c = Conv<group = 2>(image, kernel, beta) a = PRelu(c, slope)
    g = ReduceMean<axes = [2, 3], keepdims = 0>(a) s = Mul(g, scale) m = MatMul(s, w)
    e = Gather(table, ids) t = Transpose<perm = [1, 0, 2]>(e)
    h, l = LSTM<hidden_size = 32>(t, x_gates, h_gates)
    f = Squeeze(l, first) p = Add(f, offset) q = Gemm<transB = 1>(p, turned) y = Add(m, q)
}"""
WEIGHTS = {
    "kernel": weight(64, 12, 3, 3),
    "beta": weight(64),
    "slope": weight(64, 1, 1),
    "scale": weight(64),
    "w": weight(64, 48),
    "table": weight(200, 40),
    "x_gates": weight(1, 128, 40),
    "h_gates": weight(1, 128, 32),
    "first": np.array([0]),
    "offset": weight(32),
    "turned": weight(48, 32),
}


def drawn(seed: int = 0, proto: onnx.ModelProto | None = None) -> dict[str, Tensor]:
    """Parameters by name after a draw."""
    network = normalised(proto or model(NETWORK, WEIGHTS, opset=17), batch=None)
    layers = analyse(network)
    module = convert(network, layers.slots)
    reinitialise(module, layers, seed)
    return {name: value.detach().clone() for name, value in parameters(module).items()}


def kaiming(name: str) -> float:
    """The deviation that torch draws a weight of this shape with."""
    shape = WEIGHTS[name].shape
    tensor = torch.empty(shape if name != "w" else shape[::-1])
    return float(nn.init.kaiming_normal_(tensor, generator=torch.Generator().manual_seed(1)).std())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("kernel", kaiming("kernel")),
        ("w", kaiming("w")),
        ("turned", kaiming("turned")),
        ("table", 1.0),
        ("x_gates", 1 / math.sqrt(40)),
        ("h_gates", 1 / math.sqrt(32)),
    ],
)
def test_weights_have_the_spread_of_their_fan_in(name: str, expected: float):
    values = torch.cat([drawn(seed)[name].flatten() for seed in range(3)])
    assert float(values.std()) == pytest.approx(expected, rel=0.05)
    assert abs(float(values.mean())) < 4 * expected / math.sqrt(values.numel())


def test_other_parameters_have_the_value_of_their_role():
    found = drawn()
    for name, expected in (("beta", 0.0), ("slope", 0.25), ("scale", 1.0), ("offset", 0.0)):
        assert torch.equal(found[name], torch.full_like(found[name], expected)), name
    assert set(found) == set(WEIGHTS) - {"first"}


def test_a_table_that_a_linear_layer_shares_gives_outputs_of_unit_variance():
    text = """(int64[N,5] ids) => (float[N,5,300] y) {
        e = Gather(table, ids) t = Transpose<perm = [1, 0]>(table) y = MatMul(e, t) }"""
    values = drawn(proto=model(text, {"table": weight(300, 64)}))["table"]
    assert float(values.std()) == pytest.approx(1 / math.sqrt(64), rel=0.03)


def test_a_seed_draws_the_same_and_another_does_not():
    one, again, other = drawn(3), drawn(3), drawn(4)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not any(torch.equal(one[n], other[n]) for n in ("kernel", "w", "turned", "table", "x_gates"))


def test_names_and_the_layout_of_the_file_change_nothing():
    """The Gemm reads its weight as it lies, or turned; both are drawn as one (out, in) matrix."""
    renamed = model(
        NETWORK.replace("turned", "zz"),
        {"zz" if n == "turned" else n: a for n, a in WEIGHTS.items()},
        opset=17,
    )
    plain = model(
        NETWORK.replace("Gemm<transB = 1>", "Gemm"),
        WEIGHTS | {"turned": WEIGHTS["turned"].T.copy()},
        opset=17,
    )
    one, two, three = drawn(), drawn(proto=renamed), drawn(proto=plain)
    assert torch.equal(one["turned"], two["zz"])
    assert torch.equal(one["turned"], three["turned"].T)
    assert all(torch.equal(one[n], two[n]) and torch.equal(one[n], three[n]) for n in one if n != "turned")


@st.composite
def views(draw: st.DrawFn) -> tuple[tuple[int, ...], list[Step]]:
    """A shape of 24 elements and steps that view it otherwise."""
    shapes = [(24,), (2, 12), (4, 6), (2, 3, 4), (1, 24), (2, 2, 3, 2)]
    shape = first = draw(st.sampled_from(shapes))
    steps: list[Step] = []
    for _ in range(draw(st.integers(0, 4))):
        if draw(st.booleans()):
            perm = tuple(draw(st.permutations(range(len(shape)))))
            steps.append(("transpose", perm))
            shape = tuple(shape[i] for i in perm)
        else:
            shape = draw(st.sampled_from(shapes))
            steps.append(("reshape", shape))
    return first, steps


@for_all(case=views())
def test_the_layout_of_the_file_is_the_inverse_of_its_views(case: tuple[tuple[int, ...], list[Step]]):
    shape, steps = case
    stored = np.arange(24).reshape(shape)
    canonical = stored
    for kind, argument in steps:
        canonical = canonical.reshape(argument) if kind == "reshape" else canonical.transpose(argument)
    back = to_file_layout(torch.from_numpy(canonical.copy()), shape, steps)
    np.testing.assert_array_equal(back.numpy(), stored)


def test_a_channel_that_does_not_vary_is_named_and_keeps_its_scale():
    text = "(float[N,6] x) => (float[N,4] y) { y = Gemm(x, w, b) }"
    w = weight(6, 4)
    w[:, 1] = 0
    proto = model(text, {"w": w, "b": np.zeros(4, np.float32)})  # biases are drawn as zeros
    proto.graph.node[0].name = "dense"
    layers = analysed(proto)
    module = convert(normalised(proto, batch=None), layers.slots)
    x = 3 + torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    assert calibrate(module, layers, (), [x]) == ["dense"]
    y = module(x).detach().numpy()
    np.testing.assert_allclose(y.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(y.std(0), [1, 0, 1, 1], atol=1e-4)
    np.testing.assert_array_equal(parameters(module)["w"].detach().numpy()[:, 1], 0)
