"""Which way round a mask is: what is found lets the outputs follow the other inputs in onnxruntime too."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import model, run_onnxruntime, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure.inputs import as_arrays, draw
from intrain_onnx.measure.prepare import runs_on
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
}
CASES = {
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
    proto = model(text, {n: a for n, a in CONSTANTS.items() if n in text})
    config = ScoreConfig.for_protocol(sequence=5)
    single = Network.of(load(proto), config, runs_on(torch.device("cpu"))).single
    assert {spec.name: spec.kind for spec in single.inputs}["seen"] == kind
    outputs = []
    for seed in (0, 1):
        arrays = as_arrays(draw(single, torch.Generator().manual_seed(seed), torch.device("cpu")), single)
        feeds = dict(zip((s.name for s in single.inputs), arrays, strict=True))
        outputs.append(run_onnxruntime(proto, feeds)[0])
    assert np.isfinite(outputs).all()
    assert not np.array_equal(*outputs)
