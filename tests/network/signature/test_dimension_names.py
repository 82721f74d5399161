"""Names of dimensions as arithmetic, against Python's own; and hostile ones."""

from __future__ import annotations

import pytest
from builders import for_all
from hypothesis import strategies as st

from intrain_onnx.network.signature.dimension_names import numeral, parse

SIZES = {"past": 5, "sequence_length": 7, "n": 3, "s0": 11, "batch.size": 2}


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("past + sequence_length", 12),
        ("past+sequence_length", 12),
        ("2*n", 6),
        ("n * 2 + 1", 7),
        ("s0 - n", 8),
        ("((s0 - 1)//2) + 1", 6),
        ("floor(s0/2)", 5),
        ("ceil(s0/2)", 6),
        ("batch.size * (n + 1)", 8),
        ("s0 - n - n", 5),
    ],
)
def test_arithmetic(name: str, size: int) -> None:
    found = parse(name)
    assert found is not None
    assert found.value(SIZES) == size
    assert set(found.symbols) <= set(SIZES)


@pytest.mark.parametrize(
    "name", ["n", "batch_size", "image width", "a,b", "é", "", "2", "n +", "(n", "1 + 2", "f(n)"]
)
def test_what_is_no_arithmetic_over_symbols_is_a_plain_name(name: str) -> None:
    assert parse(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "__import__('os').system('true')",
        "n.__class__",
        "(" * 5000 + "n" + ")" * 5000,
        "n" + "*n" * 5000,
        "n**n**n",
        "9" * 500 + "*n",
    ],
)
def test_hostile_names_are_refused_at_once(name: str) -> None:
    assert parse(name) is None


@pytest.mark.parametrize("name", ["n - s0", "n/2", "n//0", "n/0", "n*2147483648"])
def test_what_comes_to_no_size_is_none(name: str) -> None:
    found = parse(name)
    assert found is not None
    assert found.value(SIZES) is None


def test_numerals_are_sizes() -> None:
    assert [numeral(name) for name in ("2", "007", "n2", "-1", "99999999999", "²")] == [
        2,
        7,
        None,
        None,
        None,
        None,
    ]


@for_all(
    terms=st.lists(
        st.tuples(st.sampled_from("+-*"), st.sampled_from(["n", "s0", "4"])), min_size=1, max_size=6
    )
)
def test_random_arithmetic_is_that_of_python(terms: list[tuple[str, str]]) -> None:
    text = "past" + "".join(f" {operator} {operand}" for operator, operand in terms)
    wanted = eval(text, {"__builtins__": {}}, dict(SIZES))
    found = parse(text)
    assert found is not None
    assert found.value(SIZES) == (wanted if 0 <= wanted <= 2**31 else None)
