"""The page of a search: valid HTML under its policy, with what was found, and hostile names as text."""

from __future__ import annotations

import re

import html5lib
import pytest

from intrain_onnx.rank.rows import Error, Row, Score
from intrain_onnx.report.templates import digest
from intrain_onnx.search.goals import Goals, Objective
from intrain_onnx.search.page import Summary, page
from intrain_onnx.search.rows import Evaluation, Made

HOSTILE = "<script>alert(1)</script>\x1b[31m"
BOTH = (Objective("volume", 1), Objective("macs", -1))


def evaluation(number: int, volume: float | None, name: str = "") -> Evaluation:
    name = name or f"net {number}"
    if volume is None:
        row = Row(model=name, status="failed", error=Error("LimitError", f"{name}: too slow", 6))
    else:
        scores = {"volume": Score(volume, None)}
        row = Row(model=name, status="scored", scores=scores, baselines={"parameters": 10 + number})
    return Evaluation(
        number=number, genes=(number,), costs={"macs": 100 * number + 5}, rejected=number, row=row
    )


def summary(evaluations: list[Evaluation], objectives: tuple[Objective, ...] = BOTH[:1]) -> Summary:
    picked = [e for e in evaluations if e.row.status == "scored"][:2]
    made = [Made(file="1.onnx", costs={"macs": 450, "params": 7}, onnxruntime="ok") for _ in picked]
    return Summary(
        title="A space",
        goals=Goals(objectives, {"macs": 500}),
        settings=[("space", HOSTILE)],
        evaluations=evaluations,
        picked=picked,
        made=made,
        exhausted=True,
    )


FEW = [evaluation(0, 1.0), evaluation(1, None), evaluation(2, 3.0), evaluation(3, 2.0, HOSTILE)]


@pytest.mark.parametrize("objectives", [BOTH[:1], BOTH], ids=["one", "front"])
@pytest.mark.parametrize("evaluations", [[], FEW[1:2], FEW[:1], FEW], ids=["none", "failed", "one", "few"])
def test_it_is_valid_and_its_policy_allows_what_is_in_it(evaluations: list, objectives: tuple):
    text = page(summary(evaluations, objectives))
    html5lib.HTMLParser(strict=True).parse(text)
    assert "alert(1)</script>" not in text
    assert "\x1b" not in text
    (style,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy is not None
    for part in (style, script):
        assert digest(part).replace("'", "&#39;") in policy[1] or digest(part) in policy[1]


def test_it_says_what_was_found():
    found = summary(FEW)
    assert found.said() == (
        "4 evaluations; 1 without a score; 6 were over a budget and not scored; nothing was left to evaluate."
    )
    header, rows = found.columns(), found.cells()
    assert header == ["", "architecture", "volume", "macs", "params", "% of macs", "onnxruntime"]
    assert [text for text, _ in rows[0]] == ["1", "net 0", "1", "450", "7", "90.00", "ok"]
    text = page(found)
    assert "the best goes from 1 to 3" in text
    assert "too slow" in text


def test_the_front_is_drawn():
    """Of volumes 1, 3 and 2 at 5, 205 and 305 operations the first two are on it."""
    assert "2 are on the front" in page(summary(FEW, BOTH))
