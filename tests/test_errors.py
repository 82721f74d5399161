"""An error is one line that names file, node and operator, and holds no character that could act."""

from __future__ import annotations

import pytest
from builders import for_all
from hypothesis import strategies as st

from intrain_onnx import errors
from intrain_onnx.errors import IntrainError, MissingOpsError, NumericalError, printable

KINDS = [
    kind for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, IntrainError) and kind is not MissingOpsError
]  # fmt: skip


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (IntrainError("it broke"), "it broke"),
        (IntrainError("it broke", path="a.onnx"), "a.onnx: it broke"),
        (IntrainError("it broke", op="Conv"), "it broke (at Conv)"),
        (IntrainError("it broke", node="c1"), "it broke (at node 'c1')"),
        (IntrainError("it broke", op="Conv", node="c1"), "it broke (at Conv node 'c1')"),
        (IntrainError("it broke", hint="Mend it"), "it broke. Mend it"),
        (IntrainError("It broke.", hint="Mend it"), "It broke. Mend it"),
        (IntrainError("It broke.", op="Conv", hint="Mend it"), "It broke. (at Conv). Mend it"),
        (IntrainError("it broke", node=""), "it broke (at node '')"),
    ],
)
def test_the_line_names_the_place_and_the_next_step(error: IntrainError, text: str):
    assert str(error) == text


def test_the_place_that_is_known_first_stays():
    error = NumericalError("it broke", node="inner")
    assert error.at(path="a.onnx", node="outer", op="Loop") is error
    assert (error.path, error.node, error.op) == ("a.onnx", "inner", "Loop")


def test_missing_operators_are_counted_and_sorted():
    error = MissingOpsError({"b::Y-1": 1, "a::X-2": 3})
    assert str(error).startswith("unsupported operators: a::X-2 (3 nodes), b::Y-1 (1 node). Export with")


@for_all(text=st.text(max_size=300))
@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_no_text_of_a_file_breaks_the_line(kind: type[IntrainError], text: str):
    assert str(kind(text, path=text, node=text, op=text, hint=text)).isprintable()


@for_all(text=st.text(max_size=50), limit=st.integers(1, 60))
def test_what_is_shown_is_printable_and_the_text_where_it_can_be(text: str, limit: int):
    shown = printable(text, limit)
    assert shown.isprintable()
    if text.isprintable():
        left = len(text) - limit
        assert shown == (f"{text[:limit]}… (+{left} characters)" if left > 0 else text)
