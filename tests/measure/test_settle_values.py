"""What masks and positive data are fed: onnxruntime's outputs are finite and follow the other inputs."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import model, run_onnxruntime, weight

from intrain_onnx import score
from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure.inputs import as_arrays, draw
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.rewrites.network import Network

ATTENTION = """(float[N,T,4] x, bool[N,T] seen) => (float y) {{
    t = Transpose<perm = [0, 2, 1]>(x) s = MatMul(x, t) u = Unsqueeze(seen, one)
    {mask}
    p = Softmax(m) a = MatMul(p, x) y = MatMul(a, w)
}}"""
CONSTANTS = {
    "w": weight(4, 5),
    "one": np.array([1]),
    "lowest": np.array(-np.inf, np.float32),
    "low": np.array(-1e9, np.float32),
    "unit": np.array(1, np.float32),
    "far": np.array(1e9, np.float32),
    "nought": np.array(0, np.float32),
    "whole": np.array(1),
    "tri": np.tri(5, dtype=bool),
}
CASES = {
    "true lowers scores": (
        "f = Cast<to = 1>(u) b = Mul(f, low) m = Add(s, b)",
        "zeros",
    ),
    "true lowers scores, by a sum": (
        "f = Cast<to = 1>(u) d = Mul(f, far) h = Add(d, unit) b = Neg(h) m = Add(s, b)",
        "zeros",
    ),
    "of two masks, one hides scores": (
        "t2 = Cast<to = 1>(u) g = Sub(unit, t2) b = Mul(g, low) k = Mul(s, t2) m = Add(k, b)",
        "ones",
    ),
    "not equal to one": ("c = Cast<to = 7>(u) e = Equal(c, whole) n = Not(e) m = Where(n, low, s)", "ones"),
    "chosen between two numbers": ("b = Where(u, low, nought) m = Add(s, b)", "zeros"),
    "and a causal mask": ("k = And(u, tri) m = Where(k, s, low)", "ones"),
    "true hides": ("m = Where(u, lowest, s)", "zeros"),
    "true shows": ("n = Not(u) m = Where(n, lowest, s)", "ones"),
    "false is added as a large negative number": (
        "f = Cast<to = 1>(u) g = Sub(unit, f) b = Mul(g, low) m = Add(s, b)",
        "ones",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mask_leaves_something_to_see(case: str) -> None:
    mask, kind = CASES[case]
    text = ATTENTION.format(mask=mask)
    proto = model(text, {n: a for n, a in CONSTANTS.items() if re.search(rf"\b{n}\b", text)})
    config = ScoreConfig.for_protocol(sequence=5)
    single = Network.of(load(proto), config, runs_on(torch.device("cpu"))).single
    (seen,) = (spec for spec in single.inputs if spec.name == "seen")
    assert (seen.kind, seen.role.sure) == (kind, True)
    outputs = []
    for seed in (0, 1):
        arrays = as_arrays(draw(single, torch.Generator().manual_seed(seed), torch.device("cpu")), single)
        feeds = dict(zip((s.name for s in single.inputs), arrays, strict=True))
        outputs.append(run_onnxruntime(proto, feeds)[0])
    assert np.isfinite(outputs).all()
    assert not np.array_equal(*outputs)


LIMITED = {
    "a logarithm": ("l = Log(s)", True),
    "a scaled logarithm": ("h = Mul(s, half) l = Log(h)", True),
    "a root": ("l = Sqrt(s)", True),
    "a fraction for an exponent": ("l = Pow(s, half)", True),
    "a share": ("o = Sub(unit, s) d = Div(s, o) l = Log(d)", True),
    "an arc cosine": ("l = Acos(s)", True),
    "a square": ("l = Pow(s, two)", False),
    "a root of a square": ("p = Mul(s, s) b = Add(p, unit) l = Sqrt(b)", False),
    "a quotient": ("l = Div(s, two)", False),
}


@pytest.mark.parametrize("case", LIMITED)
def test_data_in_a_limited_domain_are_positive(case: str) -> None:
    text, positive = LIMITED[case]
    graph = f"(float[N,4] x, float[N,4] s) => (float y) {{ {text} a = Add(x, l) y = MatMul(a, w) }}"
    constants = {
        "w": weight(4, 5),
        "half": np.float32(0.5),
        "two": np.float32(2),
        "unit": np.float32(1),
    }
    proto = model(graph, {n: a for n, a in constants.items() if re.search(rf"\b{n}\b", graph)})
    config = ScoreConfig.for_protocol(seeds=1, batch=8, threads=1, device="cpu")
    single = Network.of(load(proto), config, runs_on(torch.device("cpu"))).single
    kinds = {spec.name: spec.kind for spec in single.inputs}
    assert kinds == {"x": "noise", "s": "positive" if positive else "noise"}
    report = score(proto, config).document
    assert report.parity is not None
    assert report.parity.ok
    for seed in range(8):
        arrays = as_arrays(draw(single, torch.Generator().manual_seed(seed), torch.device("cpu")), single)
        feeds = dict(zip((s.name for s in single.inputs), arrays, strict=True))
        assert np.isfinite(run_onnxruntime(proto, feeds)[0]).all()


def test_what_no_operator_tells_is_said() -> None:
    """A flag that is added to data hides nothing either way."""
    flag = """(float[N,4] x, bool[N,4] flag) => (float y) {
        f = Cast<to = 1>(flag) a = Add(x, f) y = MatMul(a, w) }"""
    config = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu", parity=False)
    report = score(model(flag, {"w": weight(4, 5)}), config).document
    (row,) = (row for row in report.warnings if row.code == "input_unsure")
    assert "'flag'" in row.message
    assert row.message.endswith("--input flag=0")
    told = replace(config, inputs={"flag": 1})
    again = score(model(flag, {"w": weight(4, 5)}), told).document
    assert not [row for row in again.warnings if row.code == "input_unsure"]
    assert again.score.intrain == report.score.intrain


def test_every_output_counts_when_a_mask_is_settled() -> None:
    """One output follows the input whatever the mask is; the other only where it hides nothing."""
    text = """(float[N,4] x, bool[N,4] hidden) => (float y, float z) {
        y = MatMul(x, w) n = Not(hidden) f = Cast<to = 1>(n) c = Floor(f) g = Mul(c, x) z = MatMul(g, w) }"""
    config = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu")
    single = Network.of(load(model(text, {"w": weight(4, 5)})), config, runs_on(torch.device("cpu"))).single
    (hidden,) = (spec for spec in single.inputs if spec.name == "hidden")
    assert (hidden.kind, hidden.role.sure) == ("zeros", True)
