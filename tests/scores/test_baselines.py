"""Baselines: counts by hand, closed forms, and the same figures in report, ranking, page and benchmark."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from builders import model, weight
from click.testing import CliRunner

import intrain_onnx
from intrain_onnx.cli import main
from intrain_onnx.config import ScoreConfig
from intrain_onnx.report.page.document import page
from intrain_onnx.scores.baselines import BASELINES, Counts, all_of

COUNTS = Counts(
    parameters=1000,
    embeddings=300,
    macs=None,
    layers=9,
    live_layers=7,
    elements=50,
    mean_log_channels=1.5,
    activation_functions=4,
)
TOKENS = """(int64[N,5] ids) => (float[N,5,3] out) {
    e = Gather(table, ids)  x = Add(e, positions)  h = MatMul(x, up)  b = Add(h, bias)
    a = Relu(b)  y = MatMul(a, down)  n = LayerNormalization(y, scale)  out = MatMul(n, head) }"""
WEIGHTS = {
    "table": weight(20, 4),
    "positions": weight(5, 4),
    "up": weight(4, 8),
    "bias": np.ones(8, np.float32),
    "down": weight(8, 4),
    "scale": np.full(4, 2, np.float32),
    "head": weight(4, 3),
}


def scored(source: object, protocol: str = "architecture") -> intrain_onnx.Report:
    config = ScoreConfig.for_protocol(protocol, seeds=1, batch=4, threads=1, device="cpu", parity=False)
    return intrain_onnx.score(source, config)


def test_the_closed_forms():
    found = all_of(COUNTS)
    assert list(found) == list(BASELINES)
    assert found["parameters_without_embeddings"] == 700
    assert found["parameters_and_layers"] == pytest.approx(math.log(1000) * math.log(10))
    assert found["macs"] is None


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
def test_a_network_is_counted_by_hand(protocol: str):
    found = scored(model(TOKENS, WEIGHTS), protocol).data["baselines"]
    weights = 4 * 8 + 8 * 4 + 4 * 3
    assert found == {
        "parameters": 20 * 4 + 5 * 4 + weights,
        "parameters_without_embeddings": weights,
        "macs": 5 * weights,
        "layers": 4,
        "live_layers": 4,
        "activations": 5 * (4 + 8 + 4 + 3),
        "mean_log_channels": pytest.approx(math.log(4 * 8 * 4 * 3) / 4),
        "activation_functions": 1,
        "parameters_and_layers": pytest.approx(math.log(100 + weights) * math.log(5)),
    }


def test_a_tied_head_is_an_embedding():
    text = """(int64[N,5] ids) => (float[N,5,20] out) {
        e = Gather(table, ids)  h = MatMul(e, up)  a = Relu(h)  t = Transpose(table)  out = MatMul(a, t) }"""
    found = scored(model(text, {"table": weight(20, 4), "up": weight(4, 4)})).data["baselines"]
    assert found["parameters"] == 20 * 4 + 16
    assert found["parameters_without_embeddings"] == 16


def test_a_layer_whose_output_is_multiplied_by_zero_is_not_live():
    text = """(float[N,4] x) => (float[N,3] out) {
        a = MatMul(x, up)  b = MatMul(x, side)  z = Mul(b, zero)  s = Add(a, z)  out = MatMul(s, head) }"""
    weights = {"up": weight(4, 8), "side": weight(4, 8, seed=1), "head": weight(8, 3)}
    found = scored(model(text, weights | {"zero": np.zeros(1, np.float32)})).data["baselines"]
    assert (found["layers"], found["live_layers"]) == (3, 2)


def test_each_view_shows_every_baseline(tmp_path: Path):
    reports = [scored(model(TOKENS, WEIGHTS), protocol) for protocol in ("architecture", "paper")]
    shown = page(reports)
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(model(TOKENS, WEIGHTS).SerializeToString())
    options = ["--seeds", "1", "--batch", "4", "--no-parity", "--device", "cpu", "-o", str(tmp_path)]
    one = CliRunner().invoke(main, ["score", str(tmp_path / "a.onnx"), *options])
    for baseline in BASELINES.values():
        assert f'<button type="button">{baseline.title}</button>' in shown
        assert baseline.title in one.stdout
    two = CliRunner().invoke(main, ["score", *(str(tmp_path / n) for n in ("a.onnx", "b.onnx")), *options])
    words = " ".join(two.output.split())
    assert all(word in words for b in BASELINES.values() for word in b.title.split())


def test_the_documentation_has_every_baseline():
    text = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    for name, baseline in BASELINES.items():
        assert f"| {baseline.title} | `{name}` | {baseline.meaning} |" in text


def test_a_report_of_the_version_before_has_none():
    data = dict(scored(model(TOKENS, WEIGHTS)).data)
    del data["baselines"]
    old = intrain_onnx.Report({**data, "schema_version": "1.1"})
    assert old.document.baselines == {}
    assert "To beat" not in page([old])
