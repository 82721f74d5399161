"""What the benchmark of trainings holds against the alarms, and the pages that it made."""

from __future__ import annotations

import math
import re
from pathlib import Path

import html5lib
import pytest
import trainings

from checkpoints.conftest import ROOT

PAGES = sorted((ROOT / "docs" / "series").glob("*.html"))


@pytest.mark.parametrize(
    ("loss", "fault", "step"),
    [
        ([2.0, 1.0, 0.5, 0.4], 0, None),
        ([2.0, 0.5, 0.76], 0, 3),
        ([2.0, 0.01, 0.05, 0.109], 0, None),  # ten times the least, but by less than 0.1
        ([2.0, math.nan], 0, 2),
        ([0.5, 2.0, 0.5, 2.0], 2, 4),
    ],
)
def test_when_the_loss_shows_it(loss: list[float], fault: int, step: int | None):
    assert trainings.shows_in_loss(dict(enumerate(loss, start=1)), fault) == step


@pytest.mark.parametrize(
    ("accuracy", "step"), [([10.0, 50.0, 90.0, 86.0], None), ([90.0, 85.0], 2), ([80.0, 70.0, 90.0], 2)]
)
def test_when_the_accuracy_shows_it(accuracy: list[float], step: int | None):
    assert trainings.shows_in_accuracy(dict(enumerate(accuracy, start=1)), 0) == step


def test_an_alarm_before_the_fault_is_false_and_no_first():
    found = trainings.Result(
        "dying", "MLP", 0, ((30, "jump", None), (90, "death", "a")), None, None, None, 9.0
    )
    assert found.false
    assert found.alarm == 90


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_pages_are_small_whole_and_fetch_nothing(page: Path):
    text = page.read_text(encoding="utf-8")
    assert len(text) < 200_000
    html5lib.HTMLParser(strict=True).parse(text)
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", text)
    assert "default-src 'none'" in text.replace("&#39;", "'")


def test_there_are_three_pages():
    assert [page.stem for page in PAGES] == ["dying", "healthy", "rate"]
