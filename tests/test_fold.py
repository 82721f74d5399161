"""Weights made from constants, and the lengths that windows need."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from builders import analysed, by_weight, model, normalised, weight

from intrain_onnx import fold
from intrain_onnx.config import ScoreConfig
from intrain_onnx.extent import least_lengths
from intrain_onnx.signature import resolve


def test_gates_put_in_order_by_the_graph_are_one_weight() -> None:
    """What PyTorch's TorchScript exporter writes without constant folding."""
    text = """(float[T,N,4] x) => (float[T,1,N,5] y) {
        i = Slice(p, a, b, z) o = Slice(p, b, c, z) fc = Slice(p, c, d, z)
        j = Concat<axis = 0>(i, fc, o) w = Unsqueeze(j, z)
        r = Unsqueeze(q, z)
        y = LSTM<hidden_size = 5>(x, w, r) }"""
    p = weight(20, 4)
    cuts = {name: np.array([n]) for name, n in {"a": 0, "b": 5, "c": 10, "d": 20, "z": 0}.items()}
    proto = model(text, {"p": p, "q": weight(20, 5)} | cuts)
    layers = analysed(proto)
    assert [layer.op for layer in layers.layers] == ["LSTM"]
    graph = normalised(proto).graph
    assert [node.op_type for node in graph] == ["Unsqueeze", "LSTM"]  # a view of an initializer stays
    made = graph.initializers[layers.layers[0].weights[0].name].const_value
    assert made is not None
    expected = np.concatenate([p[:5], p[10:], p[5:10]])[None]
    np.testing.assert_array_equal(made.numpy(), expected)


@pytest.mark.parametrize(
    "making",
    [
        "h = Concat<axis = 0>(v, v) w = Concat<axis = 0>(h, h)",  # grows beyond what the file holds
        "h = Relu(v) w = Slice(h, a, b, a)",  # more than a rearrangement
        "h = Reshape(v, f) w = Concat<axis = 0>(h, h)",  # fails
    ],
)
def test_other_weights_are_left_as_they_are(making: str) -> None:
    text = f"(float[N,3] x) => (y) {{ {making} y = MatMul(x, w) }}"
    values = {"v": weight(4, 3), "a": np.array([0]), "b": np.array([3]), "f": np.array([7, 7])}
    built = ir.from_proto(model(text, values))
    assert fold.fold_made_weights(built) == 0


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
