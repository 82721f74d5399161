"""Free sizes that the usual ones do not fit: what is solved runs in onnxruntime."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import model, normalised, run_onnxruntime, weight

from intrain_onnx import score
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading.load import load
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.solve_sizes import solve_sizes

QUICK: dict[str, Any] = {"seeds": 1, "batch": 2, "threads": 1, "device": "cpu", "parity": False}

CASES = {
    "a width behind Concat": (
        "(float[N,a] x, float[N,b] z) => (float[N,4] y) { c = Concat<axis = 1>(x, z) y = MatMul(c, w) }",
        {"w": weight(24, 4)},
    ),
    "a width behind Concat that one input fixes": (
        "(float[N,a] x, float[N,8] z) => (float[N,4] y) { c = Concat<axis = 1>(x, z) y = MatMul(c, w) }",
        {"w": weight(24, 4)},
    ),
    "a width behind Sub and Transpose": (
        """(float[N,a,b] x) => (float y) {
            t = Transpose<perm = [0, 2, 1]>(x) s = Sub(t, one) y = MatMul(s, w)
        }""",
        {"w": weight(10, 4), "one": np.ones(1, np.float32)},
    ),
    "a table of 300 frames": (
        "(float[N,T,8] x) => (float[N,T,8] y) { a = Add(x, table) y = MatMul(a, w) }",
        {"table": weight(300, 8), "w": weight(8, 8)},
    ),
    "a table cut by the length": (
        """(int64[N,T] x) => (float y) {
            e = Gather(words, x) s = Shape(x) t = Gather(s, one) l = Unsqueeze(t, zero)
            p = Slice(places, zero, l, zero) y0 = Add(e, p) y = MatMul(y0, w)
        }""",
        {
            "words": weight(50, 8),
            "places": weight(20, 8),
            "w": weight(8, 8),
            "one": np.array(1),
            "zero": np.array([0]),
        },
    ),
    "images of a fixed size by Reshape": (
        "(float[N,3,H,W] x) => (float y) { c = Conv(x, k) r = Reshape(c, to) y = MatMul(r, w) }",
        {"k": weight(4, 3, 3, 3), "to": np.array([0, 4 * 30 * 30]), "w": weight(3600, 2)},
    ),
    "a window larger than the image": (
        "(float[N,3,H,W] x) => (float y) { c = Conv(x, k) y = GlobalAveragePool(c) }",
        {"k": weight(4, 3, 80, 80)},
    ),
    "axes named by numerals": (
        '(float["2","2","2"] x) => (float["2","2","5"] y) { y = MatMul(x, w) }',
        {"w": weight(2, 5)},
    ),
}


def network(text: str, weights: dict[str, np.ndarray], **settings: Any) -> Network:
    return Network.of(load(model(text, weights)), ScoreConfig.for_protocol(**QUICK | settings))


def feeds(single: Signature) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        spec.name: generator.integers(0, spec.high, spec.shape)
        if spec.kind == "ids"
        else generator.standard_normal(spec.shape).astype(np.float32)
        for spec in single.inputs
    }


@pytest.mark.parametrize("case", CASES)
def test_what_is_solved_runs_in_onnxruntime_and_is_scored(case: str) -> None:
    text, weights = CASES[case]
    if case == "axes named by numerals":
        proto = model("(float[A,B,C] x) => (float[D,E,F] y) { y = MatMul(x, w) }", weights)
        for value, names in ((proto.graph.input[0], "222"), (proto.graph.output[0], "225")):
            for dim, name in zip(value.type.tensor_type.shape.dim, names, strict=True):
                dim.dim_param = name
    else:
        proto = model(text, weights)
    config = ScoreConfig.for_protocol(**QUICK)
    found = Network.of(load(proto), config, runs_on(torch.device("cpu")))
    run_onnxruntime(proto, feeds(found.single))
    assert score(proto, config).document.score.layers > 0


def test_usual_sizes_that_fit_stay() -> None:
    text = "(float[N,3,H,W] x) => (float y) { c = Conv(x, k) y = GlobalAveragePool(c) }"
    graph = normalised(model(text, {"k": weight(4, 3, 3, 3)}))
    assert solve_sizes(graph, ScoreConfig.for_protocol()).sizes == {}


def test_sums_of_symbols_follow_from_the_others() -> None:
    """A decoder with a cache: the mask is as long as what is cached and what is new."""
    text = """(float[N,S,4] x, float[N,P,4] past, float[N,M] mask) => (float y) {
        k = Concat<axis = 1>(past, x) u = Unsqueeze(mask, last) m = Mul(k, u) y = MatMul(m, w)
    }"""
    proto = model(text, {"w": weight(4, 4), "last": np.array([2])})
    _name(proto, "mask", 1, "P + S")
    single = Network.of(load(proto), ScoreConfig.for_protocol(**QUICK, sequence=9)).single
    assert [spec.shape for spec in single.inputs] == [(1, 9, 4), (1, 9, 4), (1, 18)]
    told = ScoreConfig.for_protocol(**QUICK, input_shapes={"past": (1, 3, 4), "mask": (1, 10)})
    single = Network.of(load(proto), told).single
    assert [spec.shape for spec in single.inputs] == [(1, 7, 4), (1, 3, 4), (1, 10)]
    run_onnxruntime(proto, feeds(single))


def test_an_empty_past_can_be_told() -> None:
    text = """(float[N,S,4] x, float[N,P,4] past) => (float y) {
        k = Concat<axis = 1>(past, x) y = MatMul(k, w)
    }"""
    proto = model(text, {"w": weight(4, 4)})
    told = ScoreConfig.for_protocol(**QUICK, input_shapes={"past": (1, 0, 4)})
    assert [spec.shape[1] for spec in Network.of(load(proto), told).single.inputs] == [64, 0]
    assert score(proto, told).document.score.layers > 0


def test_shapes_that_contradict_each_other_are_refused() -> None:
    text = "(float[N,S,4] x, float[N,S,4] z) => (float y) { y = Add(x, z) }"
    with pytest.raises(SettingsError, match="'S' is 5 by axis 1 of 'x' and 7 by axis 1 of 'z'"):
        network(text, {}, input_shapes={"x": (1, 5, 4), "z": (1, 7, 4)})
    proto = model("(float[N,S,4] x, float[N,M] z) => (float y) { y = Identity(x) }")
    _name(proto, "z", 1, "2*S")
    with pytest.raises(SettingsError, match=r"'2\*S', which is 10 with S = 5, and not 12"):
        Network.of(
            load(proto), ScoreConfig.for_protocol(**QUICK, input_shapes={"x": (1, 5, 4), "z": (1, 12)})
        )


def _name(proto: onnx.ModelProto, value: str, axis: int, name: str) -> None:
    (found,) = (v for v in proto.graph.input if v.name == value)
    found.type.tensor_type.shape.dim[axis].dim_param = name
