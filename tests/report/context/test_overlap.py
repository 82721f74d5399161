"""Rank correlation of scores with what can be counted, against scipy and against what the names promise."""

from __future__ import annotations

import random

import pytest
from scipy.stats import kendalltau

from intrain_onnx.report.context.overlap import COUNTED, FEWEST, HEADER, cells, overlaps, remarks
from intrain_onnx.scores.baselines import BASELINES


def networks(number: int, seed: int = 0) -> list[dict[str, float | None]]:
    """`intrain` follows the layers, `volume` nothing."""
    rng = random.Random(seed)
    made: list[dict[str, float | None]] = []
    for index in range(number):
        counted: dict[str, float | None] = {name: float(rng.randint(1, 10**6)) for name in COUNTED}
        counted["layers"] = float(index)
        made.append({**counted, "volume": rng.random(), "intrain": index + 1.5 * rng.random(), "width": 3.0})
    return made


def test_taus_are_scipys_and_what_follows_the_layers_is_told():
    rows = networks(25)
    rows[3]["macs"] = None
    found = overlaps(["width", "intrain", "volume"], 25, lambda i, name: rows[i][name])
    assert [x.score for x in found] == ["volume", "intrain", "width"]
    for x in found[:2]:
        for name in COUNTED:
            kept = [row for row in rows if row[name] is not None]
            wanted = kendalltau([row[x.score] for row in kept], [row[name] for row in kept]).statistic
            tau = x.taus[name]
            assert tau.value == pytest.approx(wanted)
            assert tau.low is not None
            assert tau.low < tau.value < tau.high
    assert found[1].repeats == ["layers"]
    assert remarks(found) == [
        "intrain adds little to counting layers here: it orders these networks almost alike"
    ]
    table = cells(found)
    assert ("score", *(BASELINES[name].title for name in COUNTED)) == HEADER
    assert table[2] == ["width", *["-"] * len(COUNTED)]  # constant: it orders nothing


def test_few_networks_say_nothing():
    rows = networks(FEWEST)
    assert overlaps(["volume"], FEWEST - 1, lambda i, name: rows[i][name]) == []
    assert [x.networks for x in overlaps(["volume"], FEWEST, lambda i, name: rows[i][name])] == [FEWEST]
    rows[0]["volume"] = None
    assert overlaps(["volume"], FEWEST, lambda i, name: rows[i][name]) == []
