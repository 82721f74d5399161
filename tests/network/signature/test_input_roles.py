"""What an input is, from how the graph reads it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from builders import model, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure.inputs import draw
from intrain_onnx.network.input_shapes import InputSpec, Signature
from intrain_onnx.rewrites.network import Network

CONSTANTS = {
    "zero": np.array(0),
    "one": np.array(1),
    "two": np.array(2),
    "zeros": np.array([0]),
    "ones": np.array([1]),
    "twos": np.array([2]),
    "threes": np.array([3]),
    "three": np.array(3, np.float32),
    "frequencies": weight(1, 4, scale=1.0),
    "big": weight(100, 4),
    "middle": weight(50, 4),
    "small": weight(20, 4),
    "all": weight(170, 4),
    "starts": np.array([[0, 100, 150]]),
    "w": weight(4, 5),
    "kernel": weight(4, 1, 3, 3),
}


def signature(text: str, **settings: object) -> Signature:
    weights = {n: a for n, a in CONSTANTS.items() if n in text}
    config = ScoreConfig.for_protocol(**settings)  # type: ignore[arg-type]
    return Network.of(load(model(text, weights)), config).single


def spec(text: str, name: str = "x") -> InputSpec:
    (found,) = (s for s in signature(text).inputs if s.name == name)
    return found


@pytest.mark.parametrize(
    ("text", "kind", "high"),
    [
        # timesteps: an angle for each sample; positions: an angle for each step
        ("(int64[N] x) => (float y) { f = Cast<to = 1>(x) u = Unsqueeze(f, ones) a = Mul(u, frequencies) "
         "s = Sin(a) y = MatMul(s, w) }", "timestep", 1000),
        ("(int64[N,T] x) => (float y) { f = Cast<to = 1>(x) u = Unsqueeze(f, twos) a = Mul(u, frequencies) "
         "s = Cos(a) y = MatMul(s, w) }", "positions", 2**31 - 1),
        # a position that is shifted before it is looked up
        ("(int64[N,T] x) => (float y) { p = Add(x, two) y = Gather(small, p) }", "ids", 18),
        # bounds of slices, a size of an image, a length that is compared with positions
        ("(int64[N] x, float[T,4] d) => (float y) { s = Gather(x, zero) u = Unsqueeze(s, zeros) "
         "p = Slice(d, u, twos, zeros) y = MatMul(p, w) }", "offsets", 0),
        ("(int64[2] x, float[N,1,8,8] d) => (float y) { s = Slice(x, zeros, twos) y = Expand(d, s) }",
         "size", 64),
        ("(int64[N] x, float[N,T,4] d) => (float y) { s = Shape(d) t = Gather(s, one) "
         "r = Range(zero, t, one) u = Unsqueeze(x, ones) m = Less(r, u) f = Cast<to = 1>(m) "
         "g = Unsqueeze(f, twos) y = Mul(d, g) }",
         "length", 64),
        # labels that are compared one by one, as floats and as integers
        ("(float[N,T] x, float[N,T,4] d) => (float y) { e = Equal(x, three) f = Cast<to = 1>(e) "
         "g = Unsqueeze(f, twos) y = Mul(d, g) }", "ids", 4),
        # floats: a control, a mask by name, an image that is named one
        ("(float[3] x, float[N,4] d) => (float y) { s = Gather(x, one) m = Mul(d, s) y = MatMul(m, w) }",
         "control", 0),
        ("(float[N,4] x_mask, float[N,4] d) => (float y) { m = Mul(d, x_mask) y = MatMul(m, w) }", "ones", 0),
        ("(float[N,1,8,8] x_mask) => (float y) { y = Conv(x_mask, kernel) }", "noise", 0),
    ],
)  # fmt: skip
def test_a_role_is_told_by_use(text: str, kind: str, high: int) -> None:
    found = spec(text, "x_mask" if "x_mask" in text else "x")
    assert (found.kind, found.high) == (kind, high)


COLUMNS = {
    "gathers": """(int64[N,3] x) => (float y) {
        a = Gather<axis = 1>(x, zero) b = Gather<axis = 1>(x, one) c = Gather<axis = 1>(x, two)
        p = Gather(big, a) q = Gather(middle, b) r = Gather(small, c) y = Concat<axis = 1>(p, q, r)
    }""",
    "split": """(int64[N,3] x) => (float y) {
        a, b, c = Split<axis = 1, num_outputs = 3>(x)
        p = Gather(big, a) q = Gather(middle, b) r = Gather(small, c) y = Concat<axis = 1>(p, q, r)
    }""",
    "slices": """(int64[N,3] x) => (float y) {
        a = Slice(x, zeros, ones, ones) b = Slice(x, ones, twos, ones) c = Slice(x, twos, threes, ones)
        p = Gather(big, a) q = Gather(middle, b) r = Gather(small, c) y = Concat<axis = 1>(p, q, r)
    }""",
    "one table with offsets": "(int64[N,3] x) => (float y) { s = Add(x, starts) y = Gather(all, s) }",
}


@pytest.mark.parametrize("case", COLUMNS)
def test_columns_index_tables_of_their_own(case: str) -> None:
    """onnxruntime refuses an id past a table; every table is used beyond the smallest one's end."""
    found = signature(COLUMNS[case], batch=256)
    (x,) = found.inputs
    assert x.role.columns is not None
    assert x.role.columns[1] == (100, 50, 20)
    whole = Signature((_sized(x, 256),), 256, None)
    (ids,) = draw(whole, torch.Generator().manual_seed(0), torch.device("cpu"))
    highs = x.role.columns[1]
    assert all(int(c.max()) >= high * 3 // 4 for c, high in zip(ids.T, highs, strict=True))


def _sized(found: InputSpec, batch: int) -> InputSpec:
    return replace(found, shape=(batch, *found.shape[1:]))
