"""What the report says of weights that no layer has, and that it says so wherever there are some."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import model, weight

from intrain_onnx import ScoreConfig, inspect, score
from intrain_onnx.audit import policy
from intrain_onnx.audit.run import audit
from intrain_onnx.commands.terminal.compare import comparison as show
from intrain_onnx.commands.terminal.ranking import ranking
from intrain_onnx.commands.terminal.summary import summary
from intrain_onnx.pipeline import canonical_network
from intrain_onnx.report import comparison
from intrain_onnx.report.page.document import page

QUICK = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu")
SAMPLES = sorted((Path(__file__).parents[2] / "samples").glob("*.onnx"))

MISSED = {
    "three operands": (
        'h = MatMul(x, w) y = Einsum<equation = "ni,ij,jk->nk">(h, a, b)',
        {"w": weight(6, 6), "a": weight(6, 5), "b": weight(5, 3)},
        "Einsum",
        45,
    ),
    "a weight that depends on a shape": (
        "h = MatMul(x, w) s = Shape(h) e = Expand(a, s) t = Transpose(e) y = MatMul(h, t)",
        {"w": weight(6, 6), "a": weight(1, 6)},
        "MatMul",
        6,
    ),
}
"""Nodes, constants, the operator that is named, and its elements."""


def build(name: str) -> onnx.ModelProto:
    nodes, weights, _, _ = MISSED[name]
    return model(f"(float[N,6] x) => (y) {{ {nodes} }}", weights)


@pytest.mark.parametrize("name", MISSED)
def test_a_product_that_is_no_layer_is_named(name: str):
    _, weights, op, elements = MISSED[name]
    data = score(build(name), QUICK).data
    found = data["coverage"]
    total = sum(w.size for w in weights.values())
    assert [(m["op"], m["elements"]) for m in found["not_recognised"]] == [(op, elements)]
    assert found["elements"] == total
    assert found["share"] == pytest.approx(1 - elements / total, abs=1e-6)
    assert found["share"] < 1
    (row,) = [w for w in data["warnings"] if w["code"] == "weights_not_recognised"]
    assert op in row["message"]
    assert f"{elements} of {total} elements" in row["message"]
    assert inspect(build(name)).data["coverage"] == found


def test_a_terminal_and_a_ranking_say_it():
    reports = [score(build(name), QUICK) for name in MISSED] + [score(SAMPLES[0], QUICK)]
    stream = io.StringIO()
    ranking(reports, stream)
    assert stream.getvalue().count("*") == len(MISSED) + 1
    assert "weights_not_recognised" in stream.getvalue()
    stream = io.StringIO()
    summary(reports[0], stream)
    assert "of the weights are in no layer" in stream.getvalue()


def test_the_page_says_it():
    reports = [score(build(name), QUICK) for name in MISSED]
    alone, ranked = page(reports[:1]), page(reports)
    assert "of the weights are in no layer" in alone
    assert "Weights are missing from this score" in ranked
    assert "Weights are missing" not in page([score(SAMPLES[0], QUICK)] * 2)


def test_equal_layers_are_not_the_same_where_weights_are_missed(tmp_path: Path):
    name = next(iter(MISSED))
    networks = [canonical_network(build(name)) for _ in range(2)]
    found = comparison.compare(*networks)
    assert not found.same
    stream = io.StringIO()
    show(found, (tmp_path, tmp_path), stream)
    assert "not known to be the same" in stream.getvalue()
    whole = canonical_network(SAMPLES[0])
    assert comparison.compare(whole, whole).same


def test_an_audit_fails_on_it(tmp_path: Path):
    path = tmp_path / "m.onnx"
    onnx.save(build(next(iter(MISSED))), path)
    result = audit(path, policy.default())
    assert "weights-not-recognised" in {f.check for f in result.findings}
    assert not result.passed


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_samples_are_covered(path: Path):
    found = inspect(path).data["coverage"]
    assert found["share"] == 1
    assert found["not_recognised"] == []
    held = sum(int(np.prod(t.dims)) for t in onnx.load(path).graph.initializer if t.data_type == 1)
    assert found["elements"] <= held  # the oracle: the file's own float initializers


def test_roles_add_up_to_the_elements_of_the_file():
    weights = {"w": weight(6, 6), "b": weight(6), "s": weight(6), "t": weight(4, 6), "m": weight(4, 6)}
    nodes = "h = Gemm(x, w, b) n = LayerNormalization<axis = 1>(h, s, b) e = Add(n, t) y = Mul(e, m)"
    found = inspect(model(f"(float[4,6] x) => (y) {{ {nodes} }}", weights)).data["coverage"]
    assert found["by_role"] == {"weight": 36, "bias": 6, "scale": 6, "offset": 24, "constant": 24}
