"""Transposes that cancel around an operator go; onnxruntime sees the same function."""

from __future__ import annotations

import numpy as np
import pytest
from builders import model, normalised, run_onnxruntime, weight

from intrain_onnx.rewrites.forms.cancel_transposes import cancel_transposes


def graph(second: str, body: str = "e = Exp(t)") -> str:
    return f"""(float[2,3,4] x) => (float y) {{
        t = Transpose<perm = [2, 0, 1]>(x) {body} y = Transpose<perm = {second}>(e)
    }}"""


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (graph("[1, 2, 0]"), {"Exp"}),
        (graph("[1, 2, 0]", "e = LeakyRelu<alpha = 0.3>(t)"), {"LeakyRelu"}),
        (graph("[2, 0, 1]"), {"Transpose", "Exp"}),
        (graph("[1, 2, 0]", "e = Softmax(t)"), {"Transpose", "Softmax"}),
        (graph("[1, 2, 0]", "e = Mul(t, t)"), {"Transpose", "Mul"}),
    ],
)
def test_transposes_that_cancel_go(text: str, left: set[str]) -> None:
    proto = model(text)
    prepared = normalised(proto)
    removed = cancel_transposes(prepared)
    assert {node.op_type for node in prepared.graph} == left
    assert removed == (0 if "Transpose" in left else 2)
    x = {"x": weight(2, 3, 4, scale=1.0)}
    np.testing.assert_allclose(run_onnxruntime(prepared, x)[0], run_onnxruntime(proto, x)[0], rtol=1e-6)


def test_what_is_read_between_stays() -> None:
    text = """(float[2,3] x) => (float y, float z) {
        t = Transpose<perm = [1, 0]>(x) e = Exp(t) y = Transpose<perm = [1, 0]>(e) z = Neg(e)
    }"""
    proto = model(text)
    prepared = normalised(proto)
    cancel_transposes(prepared)
    x = {"x": weight(2, 3, scale=1.0)}
    for ours, theirs in zip(run_onnxruntime(prepared, x), run_onnxruntime(proto, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)
