"""Nested concatenations are one; onnxruntime sees the same function, and the score is the same."""

from __future__ import annotations

import numpy as np
import pytest
from builders import model, normalised, run_onnxruntime, weight

from intrain_onnx import ScoreConfig, score
from intrain_onnx.network.input_shapes import resolve
from intrain_onnx.rewrites.infer_shapes import infer_shapes
from intrain_onnx.rewrites.merge_concats import merge_concats

HEAD = "(float[2,3] a, float[2,4] b, float[2,5] c) => (float y{more}) {{ {body} }}"
CASES = {
    "first": ("i = Concat<axis = 1>(a, b) y = Concat<axis = 1>(i, c)", 1),
    "last": ("i = Concat<axis = 1>(b, c) y = Concat<axis = 1>(a, i)", 1),
    "from the end": ("i = Concat<axis = -1>(a, b) y = Concat<axis = 1>(i, c)", 1),
    "three deep": ("i = Concat<axis = 1>(a, b) j = Concat<axis = 1>(i, c) y = Concat<axis = 1>(j, a)", 1),
    "twice the same": ("i = Concat<axis = 1>(a, b) y = Concat<axis = 1>(i, i)", 1),
    "read elsewhere": ("i = Concat<axis = 1>(a, b) r = Relu(i) y = Concat<axis = 1>(i, r)", 3),
    "of one operand": ("i = Concat<axis = 1>(a) y = Concat<axis = 1>(i, b)", 2),
    "another axis": ("i = Concat<axis = 0>(a, a) y = Concat<axis = 1>(i, i)", 2),
    "an operator between": ("i = Concat<axis = 1>(a, b) r = Relu(i) y = Concat<axis = 1>(r, c)", 3),
}


@pytest.mark.parametrize("case", CASES)
def test_nested_concatenations_are_one(case: str) -> None:
    body, nodes = CASES[case]
    proto = model(HEAD.format(body=body, more=""))
    prepared = normalised(proto)
    infer_shapes(prepared, resolve(prepared, ScoreConfig.for_protocol()))
    before = len(list(prepared.graph))
    assert merge_concats(prepared) == before - nodes
    assert len(list(prepared.graph)) == nodes
    feeds = {"a": weight(2, 3), "b": weight(2, 4), "c": weight(2, 5)}
    np.testing.assert_array_equal(run_onnxruntime(prepared, feeds)[0], run_onnxruntime(proto, feeds)[0])


def test_an_output_of_the_graph_keeps_its_name() -> None:
    proto = model(HEAD.format(body="z = Concat<axis = 1>(a, b) y = Concat<axis = 1>(z, c)", more=", float z"))
    prepared = normalised(proto)
    merge_concats(prepared)
    assert [value.name for value in prepared.graph.outputs] == ["y", "z"]
    feeds = {"a": weight(2, 3), "b": weight(2, 4), "c": weight(2, 5)}
    for ours, theirs in zip(run_onnxruntime(prepared, feeds), run_onnxruntime(proto, feeds), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_the_score_is_that_of_one_concatenation() -> None:
    layers = """(int64[N] i, int64[N] j, float[N,4] x) => (float[N,7] y) {{
        a = Gather(s, i) b = Gather(t, j) {} y = MatMul(c, w) }}"""
    weights = {"s": weight(9, 5), "t": weight(30, 6), "w": weight(15, 7)}
    config = ScoreConfig.for_protocol(seeds=1, threads=1, device="cpu", parity=False)
    nested = "d = Concat<axis = 1>(a, b) c = Concat<axis = -1>(d, x)"
    found = [
        score(model(layers.format(text), weights), config).document
        for text in ("c = Concat<axis = 1>(a, b, x)", nested)
    ]
    assert [row.key for row in found[0].layers] == [row.key for row in found[1].layers]
    assert found[0].score.intrain == found[1].score.intrain
