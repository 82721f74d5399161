"""Objectives and budgets of texts."""

from __future__ import annotations

import pytest

from intrain_onnx.errors import SettingsError
from intrain_onnx.proxy_table import LOWER, PROXIES
from intrain_onnx.search.goals import COSTS, Goals, Objective, budgets_of, goals, known_counts, ratio


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("macs=450M", 450_000_000),
        ("params=5M", 5_000_000),
        ("macs=1.5G", 1_500_000_000),
        ("params=64k", 64_000),
    ],
)
def test_suffixes(text: str, value: int):
    assert budgets_of([text]) == {text.partition("=")[0]: value}


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["latency=5"], "no budget 'latency=5'"),
        (["macs"], "budget 'macs'"),
        (["macs=0"], "macs=0"),
        (["macs=-1"], "macs=-1"),
        (["macs=450m"], "macs=450m"),
        (["macs=1", "macs=2"], "two budgets of macs"),
    ],
)
def test_what_is_no_budget(texts: list[str], said: str):
    with pytest.raises(SettingsError, match=said):
        budgets_of(texts)


def test_names_of_objectives():
    assert goals([], [], {}).objectives == (Objective("volume", 1),)
    assert goals([], ["macs"], {}).objectives == (Objective("volume", 1), Objective("macs", -1))
    for lower in LOWER:
        assert goals([lower], [], {}).objectives[0].sign == -1
    with pytest.raises(SettingsError, match=r"'nothing'.*naswot"):
        goals(["nothing"], [], {})
    with pytest.raises(SettingsError, match="macs is an objective twice"):
        goals(["macs"], ["macs"], {})


def test_every_part_of_a_proxy_names_the_proxy_that_is_measured():
    counted = known_counts()
    for name, proxy in PROXIES.items():
        for part in {*proxy.parts} - counted:
            assert goals([part], [], {}).proxies == (name,)
    for name in counted:
        assert goals([name], [], {}).proxies == ()


def test_only_what_a_goal_asks_for_is_counted_and_filled():
    assert (Goals().counted, Goals().fill) == ((), False)
    budget = goals([], [], {"params": 5})
    assert (budget.counted, budget.fill) == (("params",), True)
    front = goals([], ["macs"], {"params": 5})
    assert (front.counted, front.fill) == (COSTS, False)


def test_the_largest_share_of_a_budget_counts():
    assert ratio({"macs": 30, "params": 80}, {"macs": 100, "params": 100}) == 0.8
    assert ratio({"macs": 30, "params": 80}, {"macs": 20}) == 1.5
    assert ratio({"macs": 30}, {}) == 0
