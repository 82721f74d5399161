"""Variants and forms: closed forms by hand, agreement with the report, and what must not change them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import model, weight
from onnx import numpy_helper

import intrain_onnx
from intrain_onnx.bench import ablation
from intrain_onnx.config import PROTOCOLS, ScoreConfig
from intrain_onnx.measure.statistics.ratios import standardised_ratio
from intrain_onnx.report.rows import Document
from intrain_onnx.report.saved_values import saved_values
from intrain_onnx.scores import variants
from intrain_onnx.scores.run_values import LayerValue, PointValue, RunValues, TensorValue
from intrain_onnx.scores.static_twins import static_twins

SAMPLES = Path(__file__).parents[2] / "samples"
VALUES = RunValues(
    layers=(LayerValue(2.0, "measured"), LayerValue(1.0, "measured"), LayerValue(3.0, "dead")),
    tensors=(
        TensorValue(0.25, 1e-3, 100, weight=True, live=True),
        TensorValue(0.20, 1e-2, 1000, weight=True, live=True),
        TensorValue(0.50, 1e-2, 10, weight=False, live=True),
        TensorValue(0.00, 0.0, 100, weight=False, live=False),
    ),
    points=(
        PointValue(standardised=1.5, plain=1.2, read=False, join=True, cut=True),
        PointValue(standardised=0.5, plain=0.4, read=True, join=False, cut=True),
        PointValue(standardised=0.7, plain=0.6, read=True, join=False, cut=False),
    ),
)
RESILIENCE = 0.25 * math.sqrt(2 * math.log(100)) * math.log(101)
RESILIENCE += 0.2 * math.sqrt(2 * math.log(1000)) * math.log(1001)


def scored(source: Any, protocol: str = "architecture", **settings: Any) -> Document:
    chosen = {"seeds": 1, "batch": 8, "threads": 1, "device": "cpu", "parity": False} | settings
    return intrain_onnx.score(source, ScoreConfig.for_protocol(protocol, **chosen)).document


def lstm() -> onnx.ModelProto:
    """A recurrence over six steps, whose last state is read."""
    text = """(float[N,6,8] x) => (float[N,4] y) {
        t = Transpose<perm = [1, 0, 2]>(x) h, l = LSTM<hidden_size = 16>(t, w, r)
        s = Squeeze(l, first) y = MatMul(s, head) }"""
    first = np.array([0], dtype=np.int64)
    return model(text, {"w": weight(1, 64, 8), "r": weight(1, 64, 16), "head": weight(16, 4), "first": first})


def small_cnn() -> onnx.ModelProto:
    """A convolution with an image of 6x6 and a head."""
    text = """(float[N,3,8,8] x) => (float[N,4] y) {
        a = Conv(x, w) r = Relu(a) p = GlobalAveragePool(r) f = Flatten(p) y = MatMul(f, head) }"""
    return model(text, {"w": weight(8, 3, 3, 3), "head": weight(8, 4)})


OF_KIND: dict[str, Callable[[], Any]] = {
    "vision": lambda: SAMPLES / "keras_mobile.onnx",
    "other": lambda: model(
        "(float[N,6] x) => (float[N,4] y) { a = MatMul(x, w) r = Relu(a) y = MatMul(r, head) }",
        {"w": weight(6, 16), "head": weight(16, 4)},
    ),
    "language": lambda: SAMPLES / "pytorch_encoder_dynamo.onnx",
    "recurrent": lstm,
}


def test_the_variants_are_what_their_formulas_say():
    found = variants.all_of(VALUES)
    assert found["width"] == pytest.approx((1.5 + 0.5) / 2)
    assert found["width_depth"] == pytest.approx(1.0 * math.log(1 + RESILIENCE))
    assert set(found) == set(variants.VARIANTS)


def test_a_network_without_a_live_layer_scores_zero():
    dead = RunValues((LayerValue(3.0, "dead"),), (), (PointValue(3.0, None, False, False, cut=True),))
    assert set(variants.all_of(dead).values()) == {0.0}


def test_what_is_dead_changes_no_variant():
    more = RunValues(
        layers=(*VALUES.layers, LayerValue(9.0, "unreached"), LayerValue(9.0, "not_run")),
        tensors=(*VALUES.tensors, TensorValue(0.0, 0.0, 10**6, weight=False, live=False)),
        points=VALUES.points,
    )
    assert variants.all_of(more) == variants.all_of(VALUES)


def test_a_gaussian_gradient_has_corrected_health_near_one_whatever_its_size():
    for size in (10**3, 10**5, 10**7):
        g = torch.randn(size, generator=torch.Generator().manual_seed(0))
        health = float(g.std() / g.abs().max())
        corrected = TensorValue(health, 1.0, size, weight=True, live=True).corrected_health
        assert 0.85 < corrected < 1.1


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
@pytest.mark.parametrize("kind", ["vision", "other", "language", "recurrent"])
def test_a_saved_report_holds_all_that_the_scores_read(kind: str, protocol: str):
    data = scored(OF_KIND[kind](), protocol)
    found = saved_values(data)
    assert found.kind == data.kind == kind
    assert found.kept == (protocol == "checkpoint")
    named = {k: v for k, v in data.scores.items() if k != "intrain"}
    assert variants.all_of(found) == pytest.approx({k: v.value for k, v in named.items()})
    twins = static_twins(found, PROTOCOLS[protocol])
    assert twins == pytest.approx({k: v.static for k, v in data.scores.items()})
    live = [t for t in found.tensors if t.weight]
    assert live
    assert all(0 < t.expected <= 1 for t in live)
    assert not any(t.expected for t in found.tensors if not t.weight)


def test_static_twins_by_hand():
    """Counts alone: a convolution of 8 channels at 36 positions, and a head of 4."""
    data = scored(small_cnn(), batch=2)
    twin = {name: row.static for name, row in data.scores.items()}
    widths = math.log(8), math.log(4)
    assert twin["width"] == pytest.approx(sum(widths) / 2)
    deep = math.log1p(math.log1p(8 * 3 * 9) + math.log1p(8 * 4))
    assert twin["width_depth"] == pytest.approx(twin["width"] * deep)
    assert twin["volume"] == pytest.approx(sum(widths) / 2 * deep * math.log1p(8 * 36 + 4))
    noise = sum(1 / math.sqrt(2 * math.log(n)) for n in (8 * 3 * 9, 8 * 4))
    assert twin["intrain"] == pytest.approx(sum(widths) * (1 + noise) / math.log(3))


@pytest.mark.parametrize(("protocol", "form"), [("paper", ablation.PAPER), ("architecture", ablation.LIVE)])
def test_the_grid_of_forms_holds_the_score_and_the_variants(protocol: str, form: ablation.Form):
    data = scored(SAMPLES / "keras_mobile.onnx", protocol, points="all")
    found = saved_values(data)
    assert form(found) == pytest.approx(data.scores["intrain"].value)
    assert form(found.static()) == pytest.approx(data.scores["intrain"].static)
    by_name = {choice: form for _, choice, form in ablation.forms()}
    for name in variants.VARIANTS:
        final = next(form for choice, form in by_name.items() if choice.endswith(f": {name}"))
        assert final(found) == pytest.approx(data.scores[name].value)
        assert final(found.static()) == pytest.approx(data.scores[name].static)


def test_forms_by_hand():
    paper = ablation.PAPER
    health = 0.25 + 0.2 + 0.5
    assert paper(VALUES) == pytest.approx(6 * (1 + health) / math.log(4))
    assert replace(paper, combine="sum", depth="none")(VALUES) == pytest.approx(6 + health)
    assert replace(paper, combine="capacity only", depth="L")(VALUES) == pytest.approx(2.0)
    assert replace(paper, combine="resilience only", depth="none")(VALUES) == pytest.approx(health)
    live = ablation.LIVE
    assert live(VALUES) == pytest.approx(3 * 1.45 / math.log(3))
    assert replace(live, where="joins", depth="mean")(VALUES) == pytest.approx(1.2 * 1.45)
    assert replace(live, where="read", depth="mean")(VALUES) == pytest.approx(0.5 * 1.45)
    assert replace(live, where="standardised cuts", depth="mean")(VALUES) == pytest.approx(1.0 * 1.45)
    eps = replace(live, eps=1e-2)
    assert eps(VALUES) == pytest.approx(3 * (1 + 0.25 / 11 + 0.1) / math.log(3))


def test_forms_are_named_once():
    keys = [(axis, choice) for axis, choice, _ in ablation.forms()]
    assert len(keys) == len(set(keys))


def ratio_of_the_correlation(x: torch.Tensor) -> float:
    """From the eigenvalues, over the columns that vary."""
    wide = x.double().numpy()
    wide = wide[:, wide.std(0) > 0]
    values = np.linalg.eigvalsh(np.atleast_2d(np.corrcoef(wide.T)))
    return float(values.sum() ** 2 / (values**2).sum())


def test_standardised_channels_give_the_participation_ratio_of_the_correlation_matrix():
    x = torch.randn(200, 12, generator=torch.Generator().manual_seed(0)) @ torch.randn(
        12, 12, generator=torch.Generator().manual_seed(1)
    )
    expected = pytest.approx(ratio_of_the_correlation(x), rel=1e-5)
    assert standardised_ratio(x) == expected
    assert standardised_ratio(x * torch.logspace(-6, 6, 12)) == expected
    for scale in (1e-18, 1e18):
        assert standardised_ratio(x * scale) == expected
    kept = ratio_of_the_correlation(x[:, 5:])  # what round-off hides under the shift does not vary
    assert standardised_ratio(x * torch.tensor([1e-12] * 5 + [1.0] * 7) + 3) == pytest.approx(kept, rel=1e-5)


@pytest.mark.parametrize("shape", [(300, 20), (12, 40), (40, 40), (2, 3), (700, 300), (200, 300)])
@pytest.mark.parametrize("shift", [0.0, 0.5, 1e3])
def test_few_rows_and_many_give_the_same_ratio(shape: tuple[int, int], shift: float):
    g = torch.Generator().manual_seed(3)
    x = torch.randn(shape, generator=g) @ torch.randn(shape[1], shape[1], generator=g) * 3 + shift
    assert standardised_ratio(x) == pytest.approx(ratio_of_the_correlation(x), rel=1e-5)
    assert standardised_ratio(torch.ones(shape)) is None


@pytest.mark.parametrize("rows", [50, 3])
def test_constant_channels_are_left_out(rows: int):
    x = torch.randn(rows, 4, generator=torch.Generator().manual_seed(0))
    x[:, 1] = 7.0
    x[:, 3] = 0.0
    assert standardised_ratio(x) == pytest.approx(ratio_of_the_correlation(x[:, [0, 2]]), rel=1e-5)


def test_a_scale_between_layers_changes_no_cut():
    """A per-channel scale that the next layer's weights could undo: at inference it is often folded away."""
    text = """(float[N,6] x) => (float[N,4] y) {{ a = Gemm<transB = 1>(x, w1) {scale}
              r = Tanh(b) c = Gemm<transB = 1>(r, w2) d = Add({last}, c) y = Gemm<transB = 1>(d, w3) }}"""
    tensors = {"w1": weight(16, 6), "w2": weight(16, 16), "w3": weight(4, 16)}
    scale = np.geomspace(0.1, 10, 16).astype(np.float32)
    plain = model(text.format(scale="b = Identity(a)", last="a"), tensors)
    scaled = model(
        text.format(scale="s = Mul(a, k) b = Div(s, k) e = Mul(a, k)", last="a"), tensors | {"k": scale}
    )
    ratios = [
        [p.log_participation_ratio_standardised for p in scored(m, "checkpoint").points]
        for m in (plain, scaled)
    ]
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-5)


def test_renaming_changes_no_variant():
    proto = onnx.load(SAMPLES / "keras_mobile.onnx")
    renamed = onnx.load(SAMPLES / "keras_mobile.onnx")
    mapping = {i.name: f"p{k}" for k, i in enumerate(renamed.graph.initializer)}
    for tensor in renamed.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor), mapping[tensor.name]))
    for node in renamed.graph.node:
        node.input[:] = [mapping.get(name, name) for name in node.input]
    first, second = (scored(m).scores for m in (proto, renamed))
    assert {k: v.value for k, v in first.items()} == pytest.approx({k: v.value for k, v in second.items()})
