"""Models in half precision: what they may differ by, and bfloat16 that onnxruntime does not run."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
import torch
from builders import model, normalised, weight

from intrain_onnx import ScoreConfig, score
from intrain_onnx.parity.compare import compare
from intrain_onnx.rewrites import half_precision

TEXT = "({0}[N,8] x) => ({0}[N,5] y) {{ h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }}"
NARROW = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def network(kind: str, **options):
    weights = {"w": weight(8, 16), "v": weight(16, 5)}
    return model(TEXT.format(kind), {n: a.astype(NARROW[kind]) for n, a in weights.items()}, **options)


@pytest.mark.parametrize("kind", NARROW)
def test_half_precision_is_checked_and_scored(kind: str):
    data = score(network(kind), ScoreConfig.for_protocol(seeds=1, threads=1, device="cpu")).data
    assert data["parity"]["ok"] is True
    assert data["parity"]["reference"].endswith(", bfloat16 as float32") == (kind == "bfloat16")
    assert [layer["status"] for layer in data["layers"]] == ["measured", "measured"]
    assert data["gradient_reach"]["share"] == 1


def test_what_onnx_has_not_in_bfloat16_is_checked_too():
    """Conv takes it from version 22 on; files of older versions exist."""
    text = "(bfloat16[N,3,8,8] x) => (y) { y = Conv(x, w) }"
    proto = model(text, {"w": weight(4, 3, 3, 3).astype(ml_dtypes.bfloat16)}, opset=20)
    data = score(proto, ScoreConfig.for_protocol(seeds=1, threads=1, device="cpu")).data
    assert data["parity"]["ok"] is True
    assert data["parity"]["max_rel_diff"] < 1e-5  # weights and inputs are the same; nothing is rounded


def test_the_narrowest_type_that_is_computed_in_counts():
    assert half_precision.rounding(normalised(network("float16"))) == 2**-11
    assert half_precision.rounding(normalised(network("bfloat16", opset=22))) == 2**-8
    stored = "(float[N,8] x) => (y) { u = Cast<to = 1>(w) y = MatMul(x, u) }"
    assert half_precision.rounding(normalised(model(stored, {"w": weight(8, 16).astype(np.float16)}))) == 0


def test_widening_changes_no_value():
    text = """(bfloat16[N,4] x) => (y) {
        c = Cast<to = 16>(k) h = Mul(x, c)
        y = If<then_branch = a () => (t) { t = Add(h, w) },
            else_branch = b () => (e) { e = Identity(h) }>(q) }"""
    values = {"w": weight(4).astype(ml_dtypes.bfloat16), "k": weight(4, seed=1), "q": np.array(True)}
    built = normalised(model(text, values, opset=16))
    half_precision.widen(built)
    assert not half_precision.has_bfloat16(built)
    wide = built.graph.initializers["w"].const_value
    assert wide is not None
    assert wide.dtype == ir.DataType.FLOAT
    np.testing.assert_array_equal(wide.numpy(), values["w"].astype(np.float32))


@pytest.mark.parametrize(("rounding", "limit"), [(0.0, 1e-3), (2**-11, 2**-7), (2**-8, 2**-4)])
def test_the_tolerance_follows_the_type(rounding: float, limit: float):
    for factor, ok in ((0.9, True), (1.1, False)):
        ours, reference = torch.tensor([1 + factor * limit, 1.0]), np.array([1.0, 1.0], np.float32)
        assert compare([ours], [reference], ["y"], 1, rounding=rounding).ok is ok
