"""What notebooks show: well-formed, escaped, bounded; and a short repr."""

from __future__ import annotations

import html5lib
import pytest

import intrain_onnx
from intrain_onnx import Ranking, Report
from intrain_onnx.report.frames.notebook import MOST_ROWS, Card, shown
from intrain_onnx.report.frames.table import Table


def parsed(fragment: str):
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    return parser.parseFragment(fragment)


def test_every_result_shows_itself(reports: list[Report]):
    inspection = intrain_onnx.inspect("samples/keras_mobile.onnx")
    for result in (*reports, Ranking.of(reports), inspection):
        tree = parsed(result._repr_html_())
        assert tree.findall(".//table")
        assert not tree.findall(".//script")
        assert len(repr(result)) < 300
        assert repr(result).startswith("<")
    assert "mobile_1/conv2d_9_1" in inspection._repr_html_()


def test_names_of_strangers_are_text():
    name = '<script>alert(1)</script>"&\x1b[2J\u202e'
    fragment = shown(Card(name, {name: name}, [name], {name: Table({name: [name]})}))
    assert "<script>" not in fragment
    assert "\x1b" not in fragment
    text = "".join(parsed(fragment).itertext())
    assert text.count("<script>alert(1)</script>") == 7  # a table has it as title, column and cell


def test_a_long_table_is_cut_and_says_by_how_much():
    tree = parsed(shown(Card("t", tables={"rows": Table({"n": list(range(MOST_ROWS + 7))})})))
    assert len(tree.findall(".//tbody/tr")) == MOST_ROWS
    assert "and 7 more" in "".join(tree.itertext())


@pytest.mark.parametrize("value", [None, 0.1234567, 3, True, "x"])
def test_numbers_stand_right(value):
    (cell,) = parsed(shown(Card("t", tables={"rows": Table({"n": [value]})}))).findall(".//td")
    assert cell.get("align") == ("right" if type(value) in (int, float) else "left")
    assert (cell.text or "") == {None: "", 0.1234567: "0.12346"}.get(value, str(value))
