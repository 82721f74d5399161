"""A network's answer to round-off is its condition, whatever its sizes follow from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import model, normalised

from intrain_onnx.parity.comparable import Comparable
from intrain_onnx.parity.round_off import ROUND_OFF, response_to_round_off
from intrain_onnx.runtime.convert import convert

X = torch.linspace(0.5, 1.0, 32).reshape(4, 8)


def answer(text: str, rounding: float = 0.0, **constants: object) -> float | None:
    arrays = {"zero": np.float32(0), "one": np.float32(1)} | {n: np.asarray(a) for n, a in constants.items()}
    prepared = normalised(model(f"(float[N,8] x) => (y) {{ {text} }}", arrays), batch=None)
    found = response_to_round_off(convert(prepared), [X], ["y"], rounding, graph=Comparable(prepared))
    return found.most if found is not None else None


def test_the_answer_to_round_off_is_the_condition_of_the_network():
    """(x + c) - c multiplies an error of the sum by c / |x|; a product answers with the error itself."""
    calm = answer("y = Mul(x, c)", c=np.float32(3))
    cancelling = answer("h = Add(x, c) y = Sub(h, c)", c=np.float32(1000))
    assert calm is not None
    assert cancelling is not None
    assert 1.0 < calm / ROUND_OFF < 5.0  # the largest of a hundred normal numbers
    assert cancelling / calm == pytest.approx(1000, rel=0.5)
    half = answer("y = Mul(x, c)", 2.0**-8, c=np.float32(3))
    assert half == pytest.approx(calm * 2.0**-8 / ROUND_OFF, rel=0.01)


SIZES = "s = Shape(x) f = Cast<to = 1>(s) g = Mul(f, one) i = Cast<to = 7>(g)"


@pytest.mark.parametrize(
    "text",
    [
        f"{SIZES} h = Mul(x, c) y = Reshape(h, i)",  # 7.9999 columns are 7
        f"{SIZES} e = Expand(c, i) y = Mul(e, x)",
    ],
)
def test_arithmetic_on_sizes_is_exact(text: str):
    calm = answer("y = Mul(x, c)", c=np.float32(3))
    assert answer(text, c=np.float32(3)) == pytest.approx(calm, rel=0.6)


def test_what_leads_to_a_length_is_left_alone_where_the_lengths_change():
    """The mean of the length's cause is 6 to the last bit: disturbed, the ceiling is 6 or 7."""
    text = """d = Mul(x, zero) m = ReduceSum<keepdims = 0>(d) a = Add(m, six) n = Ceil(a)
        r = Range(zero, n, one) y = Mul(r, c)"""
    found = answer(text, c=np.float32(3), six=np.float32(6))
    assert found is not None
    assert 0 < found < 10 * ROUND_OFF


def test_where_no_trial_can_be_read_nothing_is_known():
    assert answer("y = Div(x, zero)") is None


def test_a_choice_between_what_is_almost_equal_is_told():
    """Beside a million, what tells the entries of a row apart is of the size of round-off."""
    text = """(float[N,8] x) => (i, j) {
        h = Add(x, c) i = ArgMax<axis = 1>(h) k = Mul(x, far) j = ArgMax<axis = 1>(k) }"""
    constants = {"c": np.full(8, 1e6, np.float32), "far": np.arange(8, dtype=np.float32)}
    prepared = normalised(model(text, constants), batch=None)
    found = response_to_round_off(convert(prepared), [X], ["i", "j"], graph=Comparable(prepared))
    assert found is not None
    assert found.integers == {"i"}
    assert found.said("i") == "round-off alone changes it too"
