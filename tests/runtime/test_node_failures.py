"""What a node's failure is put down to: the rule of its operator, and the inputs that it follows from."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from builders import model, normalised, weight

from intrain_onnx.runtime.convert import convert
from intrain_onnx.runtime.interpreter import NodeError, Samples, run
from intrain_onnx.runtime.node_failures import Cause, Failure

X = torch.zeros(2, 3, 8)


def failing(text: str, *fed: torch.Tensor | Samples, **constants: np.ndarray) -> Failure:
    proto = normalised(model(text, constants))
    with pytest.raises(NodeError) as caught:
        run(convert(proto), fed or [X])
    assert caught.value.message == f"the node cannot run on these inputs: {caught.value.failure.cause.text}"
    assert caught.value.hint is None
    return caught.value.failure


def three(body: str) -> str:
    return f"(float[2,3,8] x) => (y) {{ {body} }}"


CASES: dict[str, tuple[str, dict[str, np.ndarray], tuple[str, int, int, tuple[int, ...]]]] = {
    "Gather": ("y = Gather(t, i)", {"t": weight(5, 2), "i": np.array([0, 7])}, ("index", 7, 4, (1,))),
    "Gather, before the start": (
        "y = Gather<axis = 1>(t, i)",
        {"t": weight(2, 5), "i": np.array(-6)},
        ("index", -6, 4, (1,)),
    ),
    "GatherElements": (
        "y = GatherElements<axis = -1>(t, i)",
        {"t": weight(1, 5), "i": np.array([[9]])},
        ("index", 9, 4, (1,)),
    ),
    "GatherND": (
        "y = GatherND(t, i)",
        {"t": weight(9, 5), "i": np.array([[8, 4], [1, 6]])},
        ("index", 6, 4, (1,)),
    ),
    "ScatterND": (
        "y = ScatterND(t, i, u)",
        {"t": weight(5), "i": np.array([[5]]), "u": weight(1)},
        ("index", 5, 4, (1,)),
    ),
    "ScatterElements": (
        "y = ScatterElements(t, i, u)",
        {"t": weight(5), "i": np.array([5]), "u": weight(1)},
        ("index", 5, 4, (1,)),
    ),
    "Conv": ("y = Conv(x, w)", {"w": weight(4, 3, 9)}, ("window", 8, 9, (0,))),
    "Conv, padded": ("y = Conv<pads = [1, 1]>(x, w)", {"w": weight(4, 3, 11)}, ("window", 8, 9, (0,))),
    "Conv, channels": (
        "y = Conv<group = 2>(x, w)",
        {"w": weight(4, 2, 1)},
        ("fit", 3, 4, (0,)),
    ),
    "MaxPool": ("y = MaxPool<kernel_shape = [10]>(x)", {}, ("window", 8, 10, (0,))),
    "TopK": ("y, i = TopK<axis = 1>(x, k)", {"k": np.array([4])}, ("k", 3, 4, (0, 1))),
    "MatMul": ("y = MatMul(x, w)", {"w": weight(7, 4)}, ("fit", 8, 7, (0, 1))),
    "MatMul, leading axes": ("y = MatMul(x, w)", {"w": weight(5, 8, 4)}, ("fit", 2, 5, (0, 1))),
    "Gemm": (
        "f = Reshape(x, s) y = Gemm<transB = 1>(f, w)",
        {"s": np.array([6, 8]), "w": weight(4, 7)},
        ("fit", 8, 7, (0, 1)),
    ),
    "Add": ("y = Add(x, w)", {"w": weight(4, 1)}, ("fit", 3, 4, (0, 1))),
    "Where": ("c = Greater(x, x) y = Where(c, x, w)", {"w": weight(7)}, ("fit", 8, 7, (0, 2))),
    "Concat": ("y = Concat<axis = 1>(x, w)", {"w": weight(2, 1, 9)}, ("fit", 8, 9, (0, 1))),
    "Reshape": ("y = Reshape(x, s)", {"s": np.array([0, -1, 5])}, ("count", 48, 10, (0, 1))),
    "Expand": ("y = Expand(x, s)", {"s": np.array([3, 5, 8])}, ("fit", 3, 5, (0, 1))),
}


@pytest.mark.parametrize("name", CASES)
def test_each_rule_tells_what_there_is_and_what_it_takes(name: str):
    body, constants, (kind, have, want, operands) = CASES[name]
    cause = failing(three(body), **constants).cause
    assert (cause.kind, cause.have, cause.want, cause.operands) == (kind, have, want, operands)
    assert str(abs(have)) in cause.text


@pytest.mark.parametrize("op", ["Add", "MatMul", "Concat<axis = 0>", "Mul", "Max"])
def test_every_failure_of_two_shapes_is_explained(op: str):
    """All pairs of small shapes: what torch refuses, a rule tells; what it takes, none is asked about."""
    shapes = [s for rank in (2, 3) for s in itertools.product((1, 2, 3), repeat=rank)]
    module = convert(normalised(model(f"(float[A,B] x, float[C,D] z) => (y) {{ y = {op}(x, z) }}")))
    refused = 0
    for a, b in itertools.product(shapes, repeat=2):
        try:
            run(module, [torch.zeros(a), torch.zeros(b)])
        except NodeError as error:
            refused += 1
            cause = error.failure.cause
            if op.startswith("Concat") and len(a) != len(b):
                assert cause.kind == "other"
            else:
                assert cause.kind == "fit", (a, b, cause)
                assert cause.have != cause.want
    assert refused > 10


def test_a_reason_that_no_rule_knows_is_torchs_own():
    cause = failing("(float[3,4] x) => (y) { y = Det(x) }", torch.zeros(3, 4)).cause
    assert cause == Cause("other", cause.text)
    assert "square" in cause.text or "must be" in cause.text
    assert "\n" not in cause.text


def test_what_it_follows_from_is_told_by_values_and_by_sizes():
    text = """(float[N,L] x, int64[N] i, float[N] other) => (y) {
        s = Shape(x) r = Reshape(i, flat) c = Concat<axis = 0>(s, r) y = Gather(t, c) z = Neg(other) }"""
    found = failing(
        text,
        torch.zeros(2, 3),
        torch.tensor([1, 9]),
        torch.zeros(2),
        t=weight(5, 2),
        flat=np.array([-1]),
    )
    assert found.sources.values == {"i"}
    assert found.sources.all == {"i", "x"}


def test_of_samples_one_by_one_the_one_that_fails_is_told():
    text = "(int64[1] i) => (y) { y = Gather(t, i) }"
    parts = Samples(torch.tensor([n]) for n in (0, 3, 8))
    cause = failing(text, parts, t=weight(5, 2)).cause
    assert (cause.kind, cause.have) == ("index", 8)


LOOP = """(float[N,4] x, int64[N] i, float[N] other) => (y) { j = Neg(i) k = Neg(j) o = Neg(other)
    y = Loop<body = b (int64 r, bool c, float[N,4] s) => (bool d, float[N,4] u) {
        d = Identity(c) BODY }>(n, yes, x) }"""


@pytest.mark.parametrize(
    ("body", "values"),
    [
        ("g = Gather(t, k) u = Add(s, g)", {"i"}),  # captured
        (
            "f = Cast<to = 7>(s) h = Flatten(f) g = Gather(t, h) u = ReduceSum(g)",
            {"x"},
        ),  # formal
    ],
)
def test_inside_a_loop_it_follows_from_the_inputs_around_it(body: str, values: set[str]):
    fed = torch.full((2, 4), 9.0), torch.tensor([0, 9]), torch.zeros(2)
    constants = {"t": weight(5, 4), "n": np.array(2), "yes": np.array(True)}
    found = failing(LOOP.replace("BODY", body), *fed, **constants)
    assert found.cause.kind == "index"
    assert found.sources.values == values
