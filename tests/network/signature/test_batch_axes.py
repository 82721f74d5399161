"""Which axis holds the samples, and when none does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builders import model, weight

from intrain_onnx import score
from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.rewrites.network import Network

QUICK: dict[str, Any] = {"seeds": 1, "batch": 3, "threads": 1, "device": "cpu", "parity": False}
GRAPH = """(float[num_nodes,6] x, int64[2,num_edges] edges) => (float[num_nodes,4] y) {
    from = Gather(edges, zero) to = Gather(edges, one)
    h = MatMul(x, w) r = Relu(h) sent = Gather(r, from)
    i = Unsqueeze(to, last) e = Expand(i, width) nothing = Mul(r, naught)
    got = ScatterElements<axis = 0, reduction = "add">(nothing, e, sent)
    y = MatMul(got, v)
}"""
NODES = {
    "w": weight(6, 5),
    "v": weight(5, 4),
    "zero": np.array(0),
    "one": np.array(1),
    "last": np.array([1]),
    "width": np.array([1, 5]),
    "naught": np.array(0, np.float32),
}
MEAN = "(float[{},6] x) => (float[5] y) {{ h = MatMul(x, w) y = ReduceMean<keepdims = 0>(h, zeros) }}"


def single(text: str, weights: dict[str, np.ndarray]) -> Signature:
    return Network.of(load(model(text, weights)), ScoreConfig.for_protocol(**QUICK)).single


def test_the_nodes_of_a_graph_are_no_samples() -> None:
    found = single(GRAPH, NODES)
    assert found.separate
    assert [spec.batch_axis for spec in found.inputs] == [None, None]
    assert [(spec.kind, spec.high) for spec in found.inputs] == [("noise", 0), ("edge_index", 64)]


def test_samples_without_an_axis_are_calls_of_their_own() -> None:
    report = score(model(GRAPH, NODES), ScoreConfig.for_protocol(**QUICK)).document
    assert (report.settings.execution, report.settings.samples) == ("sample_by_sample", 3)
    assert [row.rows for row in report.layers] == [3 * 64] * 2
    assert "no_batch_axis" in {row.code for row in report.warnings}


@pytest.mark.parametrize(
    ("text", "separate"),
    [
        ("(float[3,H,W] x) => (float[5] y) { r = ReduceMean(x) e = Mul(r, five) y = Reshape(e, to) }", True),
        (
            "(float[frames,6] x) => (float[5] y) { h = MatMul(x, w) y = ReduceMean<keepdims = 0>(h, zeros) }",
            True,
        ),
        ("(float[N,6] x) => (float[N,5] y) { y = MatMul(x, w) }", False),
        ("(float[N,6] x) => (float[Gemm_dim_0,5] y) { y = MatMul(x, w) }", False),
        ("(float[4,6] x) => (float[4,5] y) { y = MatMul(x, w) }", False),
        ("(float[1,6] x) => (float[5] y) { h = MatMul(x, w) y = Reshape(h, to) }", False),
        (
            "(float[batch,6] x) => (float[5] y) { h = MatMul(x, w) y = ReduceMean<keepdims = 0>(h, zeros) }",
            False,
        ),
    ],
)
def test_an_axis_that_no_output_has_holds_no_samples(text: str, separate: bool) -> None:
    weights = {
        "w": weight(6, 5),
        "five": np.ones(5, np.float32),
        "to": np.array([5]),
        "zeros": np.array([0]),
    }
    assert single(text, weights).separate == separate


def test_an_embedding_that_is_looked_up_by_ids_keeps_its_samples() -> None:
    text = "(int64[N,T] ids, float[N,6] x) => (float[N,T,4] y) { y = Gather(table, ids) }"
    assert not single(text, {"table": weight(9, 4)}).separate
