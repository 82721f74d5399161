"""A GatherND that looks up rows is a Gather: to onnxruntime the same function, and the same score."""

from __future__ import annotations

import numpy as np
import pytest
from builders import model, normalised, run_onnxruntime, weight

from intrain_onnx import ScoreConfig, score
from intrain_onnx.network.input_shapes import resolve
from intrain_onnx.rewrites.infer_shapes import infer_shapes
from intrain_onnx.rewrites.lookups import restore_lookups

CASES = {
    "unsqueezed": ("(int64[2,3] i) => (float y) { u = Unsqueeze(i, last) y = GatherND(t, u) }", {"Gather"}),
    "one component": (
        "(int64[2,3,1] i) => (float y) { y = GatherND(t, i) }",
        {"Gather", "Squeeze"},
    ),
    "unsqueezed elsewhere": (
        "(int64[2] i) => (float y) { u = Unsqueeze(i, first) r = Reshape(u, to) y = GatherND(t, r) }",
        {"Gather", "Squeeze", "Unsqueeze", "Reshape"},
    ),
    "two components": ("(int64[2,2] i) => (float y) { y = GatherND(t, i) }", {"GatherND"}),
    "of data": (
        "(int64[2,3,1] i, float[9,4] x) => (float y) { y = GatherND(x, i) }",
        {"GatherND"},
    ),
}
CONSTANTS = {"t": weight(9, 4), "last": np.array([-1]), "first": np.array([0]), "to": np.array([2, 1])}


@pytest.mark.parametrize("case", CASES)
def test_rows_are_looked_up(case: str) -> None:
    text, left = CASES[case]
    words = text.replace("(", " ").replace(")", " ").replace(",", " ").split()
    proto = model(text, {name: array for name, array in CONSTANTS.items() if name in words})
    prepared = normalised(proto)
    infer_shapes(prepared, resolve(prepared, ScoreConfig.for_protocol()))
    restore_lookups(prepared)
    assert {node.op_type for node in prepared.graph} == left
    shape = [d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]
    feeds = {"i": np.random.default_rng(0).integers(-4, 4, shape)}
    if case == "of data":
        feeds["x"] = weight(9, 4)
    np.testing.assert_array_equal(run_onnxruntime(prepared, feeds)[0], run_onnxruntime(proto, feeds)[0])


def test_a_table_is_the_same_layer_either_way() -> None:
    layers = "(int64[N,T] i) => (float[N,T,7] y) {{ {} y = MatMul(e, w) }}"
    weights = {"t": weight(9, 4), "w": weight(4, 7)}
    config = ScoreConfig.for_protocol(seeds=1, threads=1, device="cpu", parity=False)
    plain = score(model(layers.format("e = Gather(t, i)"), weights), config).document
    proto = model(
        layers.format("u = Unsqueeze(i, last) e = GatherND(t, u)"), weights | {"last": np.array([-1])}
    )
    found = score(proto, config).document
    assert [row.kind for row in found.layers] == ["embedding", "linear"]
    assert found.score.intrain == plain.score.intrain
    assert found.model.parameters == plain.model.parameters
