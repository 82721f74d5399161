"""Numbers as they are shown, read back: within their rounding, and never in a computer's notation."""

from __future__ import annotations

import math
import re

import pytest
from builders import for_all
from hypothesis import strategies as st

from intrain_onnx.report import numbers

UNITS = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}
MOST = 10**12 - 10**9


def number(shown: str) -> float:
    """What a person reads, of powers of ten as 2.5e9."""
    assert re.fullmatch(r"-?[\d,]*\.?\d+(e-?\d+)?", shown), shown
    return float(shown.replace(",", ""))


@for_all(
    value=st.one_of(
        st.integers(0, MOST), st.sampled_from([10**n - k for n in range(2, 12) for k in (0, 1, 40)])
    )
)
def test_a_count_has_three_digits_and_a_unit(value: int):
    digits, _, unit = numbers.count(value).partition(" ")
    assert number(digits) * UNITS[unit] == pytest.approx(value, rel=0.5e-2)
    assert 1 <= number(digits) < 1000 or unit in ("", "G")


@for_all(
    value=st.one_of(
        st.floats(-1e12, 1e12), st.floats(1e-12, 1e-2), st.sampled_from([999.4, 999.6, 999_999.6, 9.999e-4])
    )
)
def test_a_quantity_has_three_digits_and_an_exponent_only_where_one_is_needed(value: float):
    shown = numbers.quantity(value)
    assert number(shown) == pytest.approx(value, rel=0.06 if "e" in shown else 0.6e-2)
    assert ("e" in shown) is not (value == 0 or 1e-3 <= abs(value) < 1e6)


@for_all(value=st.floats(-1e9, 1e9), places=st.one_of(st.none(), st.integers(0, 6)))
def test_a_decimal_is_rounded_to_its_places(value: float, places: int | None):
    shown = numbers.decimal(value, places)
    kept = len(shown.partition(".")[2])
    assert number(shown) == pytest.approx(value, abs=0.51 * 10.0**-kept)
    assert (
        kept == places if places is not None else abs(number(shown)) < 10 ** (4 - kept) * 1.0001 or kept == 0
    )


@for_all(value=st.floats(-1e300, 1e300).filter(lambda v: v == 0 or abs(v) > 1e-300))
def test_a_power_of_ten_has_two_digits(value: float):
    assert number(numbers.power(value)) == pytest.approx(value, rel=0.05)


@for_all(value=st.floats(-20, 20))
def test_three_decimals_go_without_the_leading_zero(value: float):
    shown = numbers.decimals(value)
    assert number(shown) == pytest.approx(value, abs=0.5001e-3)
    assert not re.match(r"-?0", shown)
    assert len(shown.partition(".")[2]) == 3


def test_what_is_not_known_is_left_out():
    shown = (
        numbers.decimals,
        numbers.decimal,
        numbers.quantity,
        numbers.power,
        numbers.percent,
        numbers.span,
    )
    assert [show(None) for show in shown] == [""] * 6
    assert (numbers.count(None), numbers.shape(None), numbers.shape([2, None, "N"])) == (
        "?",
        "unknown rank",
        "2\N{MULTIPLICATION SIGN}?\N{MULTIPLICATION SIGN}N",
    )
    assert numbers.with_interval(0.5, None, None) == ".500"
    assert numbers.with_interval(0.5, -0.25, 1.0) == ".500 (-.250 to 1.000)"
    assert math.isclose(float(numbers.percent(0.999).removesuffix(" %")), 99.9)
