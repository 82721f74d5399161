"""Layers inside If and Loop are measured where they run, over all rounds and samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import model, run_onnxruntime, weight

from intrain_onnx import ScoreConfig, score, to_torch

LOOP = """({0} x) => ({0} y) {{
    h = MatMul(x, u)
    y = Loop<body = b (int64 i, bool c, {0} s) => (bool d, {0} t) {{
        d = Identity(c) g = MatMul(s, v) t = Tanh(g)
    }}>(m, , h) }}"""
IF = """({0} x) => (y) {{
    n = Shape(x) k = Size(n) c = Equal(k, two)
    h = If<then_branch = a () => (t) {{ p = MatMul(x, u) t = Relu(p) }},
           else_branch = b () => (e) {{ e = MatMul(x, v) }}>(c)
    y = MatMul(h, w) }}"""
ROUNDS = {"u": weight(4, 4), "v": weight(4, 4, seed=1), "m": np.array(3)}
BRANCHES = {"u": weight(4, 4), "v": weight(4, 4, seed=1), "w": weight(4, 3), "two": np.array(2)}


def scored(proto: onnx.ModelProto, **options: Any) -> dict[str, Any]:
    config = ScoreConfig.for_protocol("checkpoint", seeds=1, batch=6, threads=1, device="cpu", **options)
    return dict(score(proto, config).data)


def by_weight(data: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {layer["weights"][0]: layer for layer in data["layers"]}


def test_the_rows_of_all_rounds_are_measured_together():
    layers = by_weight(scored(model(LOOP.format("float[N,4]"), ROUNDS)))
    assert (layers["u"]["rows"], layers["v"]["rows"]) == (6, 3 * 6)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)
    proto = model(LOOP.format("float[N,4]"), ROUNDS)

    ours = to_torch(proto)(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(ours, run_onnxruntime(proto, {"x": x})[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("text", "values"), [(LOOP, ROUNDS), (IF, BRANCHES)])
def test_samples_one_by_one_are_the_samples_of_a_batch(text: str, values: dict[str, np.ndarray]):
    """The Reshape bakes the batch of one in, so that all calls run in lock step."""
    free = model(text.format("float[N,4]"), values)
    proto = model(text.format("float[1,4]"), values | {"s": np.array([4]), "first": np.array([0])})
    flat = onnx.helper.make_node("Reshape", ["x", "s"], ["flat"])
    back = onnx.helper.make_node("Unsqueeze", ["flat", "first"], ["x1"])
    for node in proto.graph.node:
        for graph in [proto.graph, *(a.g for a in node.attribute if a.type == onnx.AttributeProto.GRAPH)]:
            for inner in graph.node:
                inner.input[:] = ["x1" if name == "x" else name for name in inner.input]
    proto.graph.node.insert(0, back)
    proto.graph.node.insert(0, flat)
    one, many = scored(proto), scored(free)
    assert (one["settings"]["execution"], many["settings"]["execution"]) == ("sample_by_sample", "batched")
    for name, layer in by_weight(many).items():
        assert by_weight(one)[name]["status"] == layer["status"]
        assert by_weight(one)[name]["rows"] == layer["rows"]
        if layer["status"] == "measured":
            same = pytest.approx(layer["participation_ratio"], rel=1e-4)
            assert by_weight(one)[name]["participation_ratio"] == same


def test_a_branch_that_is_not_taken_does_not_count():
    data = scored(model(IF.format("float[N,4]"), BRANCHES))
    layers = by_weight(data)
    assert {name: layer["status"] for name, layer in layers.items()} == {
        "u": "measured",
        "v": "not_run",
        "w": "measured",
    }
    assert data["score"]["layers"] == 2
    assert data["nodes"]["not_run"] == 1


def test_layers_inside_are_drawn_and_calibrated():
    config = ScoreConfig.for_protocol(seeds=1, batch=64, threads=1, device="cpu")
    data = score(model(IF.format("float[N,4]"), BRANCHES), config).data
    assert by_weight(dict(data))["u"]["status"] == "measured"
    assert {p["layer"] for p in data["parameters"] if p["role"] == "bias"} >= {
        layer["name"] for layer in data["layers"] if layer["status"] == "measured"
    }


def test_a_failure_inside_names_the_node_inside():
    text = IF.replace("p = MatMul(x, u)", "p = MatMul(u, x)")
    with pytest.raises(Exception, match="MatMul"):
        scored(model(text.format("float[N,4]"), BRANCHES))
