"""The table of reference networks: whether it is what would be measured now, and which networks are alike."""

from __future__ import annotations

import math
import random
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import get_args

import pytest
from scipy.stats import percentileofscore

from intrain_onnx.config import ScoreConfig
from intrain_onnx.report.context import references
from intrain_onnx.report.context.references import FEWEST, LIKENESS, neighbours, percentile
from intrain_onnx.vocabulary import NetworkKind

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
TABLE = references.table()
SMALL = ("connected/1", "nas_bench_nlp/1", "gpt2/1", "transnas_macro/0", "digits/3", "squeezenet1_1")
"""One of each kind and more; each takes a second or two."""

OTHER_SIZES = ("images of 32x32", "images of 224x224")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delitem(sys.modules, "reference_networks", raising=False)
    import reference_networks

    return reference_networks


@pytest.mark.parametrize("name", SMALL)
def test_the_table_is_not_stale(script: ModuleType, name: str):
    """Scored again, a network has the stored scores and baselines, and the settings are today's defaults.

    Where this fails, formulas, defaults or draws have changed: run benchmarks/reference_networks.py.
    """
    stored = next(x for x in TABLE.networks if x.name == name and x.inputs not in OTHER_SIZES)
    size = ScoreConfig.for_protocol().size
    line = script.measured(script.Network(name, stored.family, size))
    assert line["settings"] == TABLE.settings
    row = line["row"]
    assert {k: v for k, v in row.items() if k not in ("scores", "baselines")} == {
        "name": name,
        "family": stored.family,
        "kind": stored.kind,
        "inputs": stored.inputs,
        "seeds": ScoreConfig.for_protocol().seeds,
    }
    assert row["scores"] == pytest.approx(dict(stored.scores), rel=1e-4)
    assert row["baselines"] == pytest.approx(dict(stored.baselines))


def test_every_network_is_in_the_table_or_said_to_be_left_out(script: ModuleType):
    at = {network.key: network for network in script.networks()}
    assert len(at) == len(TABLE.networks) + len(TABLE.left_out)
    assert set(TABLE.left_out) <= set(at)
    listed = Counter(x.name for x in TABLE.networks)
    assert listed == Counter(network.name for key, network in at.items() if key not in TABLE.left_out)
    assert all(math.isfinite(v) for x in TABLE.networks for v in x.scores.values())


def test_every_kind_and_size_has_enough_and_torchvision_is_there():
    kinds = Counter(x.kind for x in TABLE.networks)
    assert set(kinds) == set(get_args(NetworkKind))
    assert min(kinds.values()) >= 2 * FEWEST
    at = Counter(x.inputs for x in TABLE.networks)
    assert set(at) == {"images of 64x64", *OTHER_SIZES, "ids of 64", "vectors"}
    assert min(at.values()) >= 2 * FEWEST
    for inputs in ("images of 64x64", "images of 224x224"):
        names = {x.name for x in TABLE.networks if x.inputs == inputs}
        assert {"resnet18", "mobilenet_v2", "efficientnet_b0", "densenet121"} <= names


@pytest.mark.parametrize("seed", range(5))
def test_the_percentile_is_scipys(seed: int):
    rng = random.Random(seed)
    others = [float(rng.randint(0, 12)) for _ in range(23)]
    for value in (*others[:5], 0.5, -1.0, 99.0):
        assert percentile(value, others) == pytest.approx(percentileofscore(others, value, kind="mean"))


@pytest.mark.parametrize("name", ["resnet18", "nasbench201/3", "gpt2/4", "nas_bench_nlp/2", "connected/20"])
def test_neighbours_are_those_within_the_factors_nearest_first(name: str):
    own = next(x for x in TABLE.networks if x.name == name)
    size, depth = own.baselines["parameters"], own.baselines["layers"]
    found = neighbours(own.kind, own.inputs, size, depth)

    def within(factors: references.Likeness) -> set[str]:
        return {
            x.name
            for x in TABLE.networks
            if (x.kind, x.inputs) == (own.kind, own.inputs)
            and 1 / factors.parameters <= x.baselines["parameters"] / size <= factors.parameters
            and 1 / factors.layers <= x.baselines["layers"] / depth <= factors.layers
        }

    first = within(LIKENESS[0])
    wanted = first if len(first) >= FEWEST else within(LIKENESS[1])
    assert {x.name for x in found.networks} == wanted
    assert found.likeness == (LIKENESS[0] if len(first) >= FEWEST else LIKENESS[1])
    assert size == found.networks[0].baselines["parameters"]
    assert depth == found.networks[0].baselines["layers"]


def test_there_are_none_like_a_giant_or_of_other_inputs():
    assert neighbours("vision", "images of 64x64", 1e13, 10).networks == ()
    assert neighbours("vision", "images of 7x7", 1e6, 10).networks == ()
    assert neighbours("vision", "images of 64x64", 0, 0).networks == ()


def test_the_settings_are_those_that_must_be_equal():
    assert set(TABLE.settings) >= {"protocol", "weights", "batch_norm", "samples", "given inputs"}
    assert "seeds" not in TABLE.settings
