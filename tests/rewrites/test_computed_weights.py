"""Weights made from constants, and the lengths that windows need."""

from __future__ import annotations

import re

import numpy as np
import onnx_ir as ir
import pytest
import torch
from builders import analysed, by_weight, model, normalised, run_onnxruntime, weight

from intrain_onnx import inspect, score, to_torch
from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure import runner
from intrain_onnx.network.input_shapes import resolve
from intrain_onnx.network.layers import analyse
from intrain_onnx.network.values import of_file
from intrain_onnx.network.window_lengths import least_lengths
from intrain_onnx.rewrites import computed_weights
from intrain_onnx.rewrites.network import Network


def separated(text: str, weights: dict[str, np.ndarray]) -> ir.Model:
    """A normalised model with shapes and initializers for its parameters, whose values can be computed."""
    built = normalised(model(text, weights))
    computed_weights.separate(built, runner.evaluate)
    return built


def test_gates_put_in_order_by_the_graph_are_one_weight() -> None:
    """What PyTorch's TorchScript exporter writes without constant folding."""
    text = """(float[T,N,4] x) => (float[T,1,N,5] y) {
        i = Slice(p, a, b, z) o = Slice(p, b, c, z) fc = Slice(p, c, d, z)
        j = Concat<axis = 0>(i, fc, o) w = Unsqueeze(j, z)
        r = Unsqueeze(q, z)
        y = LSTM<hidden_size = 5>(x, w, r) }"""
    p = weight(20, 4)
    cuts = {name: np.array([n]) for name, n in {"a": 0, "b": 5, "c": 10, "d": 20, "z": 0}.items()}
    built = separated(text, {"p": p, "q": weight(20, 5)} | cuts)
    layers = analyse(built)
    assert [layer.op for layer in layers.layers] == ["LSTM"]
    assert [node.op_type for node in built.graph] == ["Unsqueeze", "Unsqueeze", "LSTM"]  # views stay
    made = built.graph.initializers[layers.layers[0].weights[0].name]
    assert made.const_value is not None
    np.testing.assert_array_equal(made.const_value.numpy(), np.concatenate([p[:5], p[10:], p[5:10]]))
    assert of_file(made) == (("p", 80),)


G, V = weight(8, 1), weight(8, 6)
ARITHMETIC = {
    "weight_norm": ("n = ReduceL2<keepdims = 1>(v, one) d = Div(v, n) w = Mul(d, g)", 56),
    "spectral_norm": ("t = Transpose(v) a = MatMul(t, g) s = ReduceL2<keepdims = 1>(a) w = Div(v, s)", 56),
    "standardised": ("m = ReduceMean<keepdims = 1>(v, one) w = Sub(v, m)", 48),
    "equalised": ("w = Mul(v, c)", 48),
    "clipped": ("w = Clip(v, low, c)", 48),
    "stacked": ("a, b = Split<axis = 0, num_outputs = 2>(v) w = Concat<axis = 0>(b, a)", 48),
    "of_integers": ("f = Cast<to = 1>(q) s = Mul(f, g) w = Sub(s, c)", 56),
    "low_rank": ("t = Transpose(v) k = MatMul(t, v) w = MatMul(v, k)", 48),
}
CONSTANTS = {
    "v": V,
    "g": G,
    "q": (V * 20).astype(np.int8),
    "c": np.array(0.25, np.float32),
    "low": np.array(-0.25, np.float32),
    "one": np.array([1]),
}


@pytest.mark.parametrize("name", ARITHMETIC)
def test_a_weight_counts_however_it_is_computed(name: str) -> None:
    """The plain twin has the weight that onnxruntime computes."""
    making, elements = ARITHMETIC[name]
    text = """(float[N,6] x) => (float[N,4] y) {{
        {} z = Transpose(w) h = MatMul(x, z) r = Relu(h) y = MatMul(r, u) }}"""
    values = CONSTANTS | {"u": weight(8, 4)}
    used = {k: v for k, v in values.items() if re.search(rf"\b{k}\b", making) or k == "u"}
    source = model(text.format(making), used)
    alone = model(f"() => (float[A,B] w) {{ {making} }}", {k: used[k] for k in used if k != "u"})
    (value,) = run_onnxruntime(alone, {})
    twin = model(text.format(""), {"w": value, "u": used["u"]})
    for protocol in ("architecture", "checkpoint"):
        config = ScoreConfig.for_protocol(protocol, seeds=1, threads=1, device="cpu")
        found, expected = (score(m, config).data for m in (source, twin))
        assert [x["key"] for x in found["layers"]] == [x["key"] for x in expected["layers"]]
        assert found["score"]["intrain"] == pytest.approx(expected["score"]["intrain"], rel=1e-4)
        assert found["model"]["parameters"] == elements + 32
        assert found["parity"]["ok"]
        behind = {name for layer in found["layers"] for name in layer["initializers"]}
        assert behind == {name for name in used if used[name].size > 1 and used[name].dtype != np.int64}
        assert inspect(source).data["model"]["parameters"] == elements + 32


def test_equal_computations_are_one_weight() -> None:
    """An exporter writes a parametrisation once for each use; the weight is tied all the same."""
    text = """(float[N,6] x) => (float[N,6] y) {
        a = Mul(v, c) b = Mul(v, c) h = MatMul(x, a) r = Relu(h) y = MatMul(r, b) }"""
    built = separated(text, {"v": weight(6, 6), "c": CONSTANTS["c"]})
    first, second = (layer.weights[0].name for layer in analyse(built).layers)
    assert first == second


def test_a_constant_factor_of_positions_is_no_scale() -> None:
    """Rotary positions and masks: redrawn, they would be gone."""
    text = "(float[N,5,6] x) => (float[N,5,6] y) { h = MatMul(x, w) y = Mul(h, p) }"
    layers = analysed(model(text, {"w": weight(6, 6), "p": weight(5, 6)}))
    assert set(layers.slots) == {"w"}


def test_what_depends_on_a_shape_or_on_chance_is_no_constant() -> None:
    text = """(float[N,6] x) => (float[N,6] y) {
        s = Shape(x) e = Expand(o, s) h = MatMul(x, v) y = Add(h, e) }"""
    built = separated(text, {"v": weight(6, 6), "o": weight(6)})
    assert sum(1 for _ in built.graph) == 4


def test_values_are_not_computed_for_weights_that_are_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(recipe: ir.Model) -> list[np.ndarray]:
        raise AssertionError("computed")

    monkeypatch.setattr(runner, "evaluate", refuse)
    source = model(
        "(float[N,6] x) => (float[N,8] y) { w = Mul(v, g) t = Transpose(w) y = MatMul(x, t) }",
        {"v": V, "g": G},
    )
    score(source, ScoreConfig.for_protocol(seeds=1, threads=1, device="cpu"))
    with pytest.raises(AssertionError, match="computed"):
        score(source, ScoreConfig.for_protocol("checkpoint", seeds=1, threads=1, device="cpu"))


def test_to_torch_trains_what_the_file_holds() -> None:
    making = ARITHMETIC["weight_norm"][0]
    source = model(
        f"(float[N,6] x) => (float[N,8] y) {{ {making} t = Transpose(w) y = MatMul(x, t) }}",
        {"v": V, "g": G, "one": CONSTANTS["one"]},
    )
    module = to_torch(source)
    assert {name for name, _ in module.named_parameters()} == {"v", "g"}
    module(torch.ones(2, 6)).sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in module.parameters())


def test_a_waveform_is_long_enough_for_its_windows() -> None:
    text = """(float[N,S] x) => (y) {
        c = Unsqueeze(x, one)
        h = Conv<strides = [128]>(c, w) r = Relu(h) y = Conv<pads = [1, 1]>(r, v) }"""
    weights = {"w": weight(8, 1, 256), "v": weight(4, 8, 3), "one": np.array([1])}
    built = normalised(model(text, weights))
    assert least_lengths(built.graph)[built.graph.inputs[0]] == 256
    assert resolve(built, ScoreConfig.for_protocol(), batch=2).inputs[0].shape == (2, 512)
    assert len(by_weight(analysed(model(text, weights)))) == 2


def test_windows_add_up_along_a_path() -> None:
    """One output takes 3 pooled values, so 6 of the first layer, so 5 * 5 + 10 samples."""
    text = """(float[N,1,S] x) => (y) {
        h = Conv<strides = [5]>(x, w) p = MaxPool<kernel_shape = [2], strides = [2]>(h)
        y = Conv<dilations = [2]>(p, v) }"""
    built = normalised(model(text, {"w": weight(2, 1, 10), "v": weight(2, 2, 2)}))
    assert least_lengths(built.graph)[built.graph.inputs[0]] == 5 * 5 + 10


def test_the_state_of_a_recurrence_holds_the_samples_second() -> None:
    built = normalised(model("(float[?,8] x, float[2,?,8] s) => (y) { y = Add(x, s) }"), batch=None)
    assert [spec.batch_axis for spec in resolve(built, ScoreConfig.for_protocol(), batch=3).inputs] == [0, 1]


@pytest.mark.parametrize(
    ("op", "filled", "parameters"), [("Add", 0, 0), ("Mul", 1, 0), ("Add", 1, 1), ("Mul", 0.5, 1)]
)
def test_what_changes_nothing_is_no_parameter(op: str, filled: float, parameters: int) -> None:
    """T5's cross-attention adds zeros of the shape of its scores, which an exporter may leave out."""
    start = 1 if op == "Add" else 2
    text = f"""(float[N,4,6] x) => (float y) {{ h = MatMul(x, w) s = Shape<start = {start}>(h)
        z = ConstantOfShape<value = float[1] {{{float(filled)}}}>(s) a = {op}(h, z) y = MatMul(a, v) }}"""
    proto = model(text, {"w": weight(6, 5), "v": weight(5, 3)})
    network = Network.of(load(proto), ScoreConfig.for_protocol(), runner.runs_on(torch.device("cpu")))
    assert len(network.layers.slots) == 2 + parameters


def test_a_weight_of_another_rank_than_the_window_is_no_layer() -> None:
    """The rank is known only once it is computed: no check of the file sees it."""
    text = "(float[1,4,8,8] x) => (y) { u = Mul(w, v) y = Conv<strides = [2, 2]>(x, u) }"
    sound = {"w": weight(6, 4, 3, 3), "v": weight(6, 1, 1, 1)}
    assert len(analyse(separated(text, sound)).layers) == 1
    assert len(analyse(separated(text, sound | {"v": weight(1, 6, 1, 1, 1)})).layers) == 0
