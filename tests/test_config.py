"""Settings of a score: each is checked, and each lands in the report."""

from __future__ import annotations

import json
import math
from dataclasses import fields

import pytest

from intrain_onnx.config import PROTOCOLS, RANGES, ScoreConfig, most_threads
from intrain_onnx.errors import SettingsError

DEFAULTS = ScoreConfig()
NUMBERS = {
    "seeds": 1,
    "batch": 1,
    "size": 1,
    "sequence": 1,
    "threads": 0,
    "seed": 0,
    "max_macs": 0,
    "max_memory": 0,
    "projections": 0,
}
TEXTS = [f.name for f in fields(ScoreConfig) if isinstance(getattr(DEFAULTS, f.name), str)]


@pytest.mark.parametrize("name", TEXTS)
def test_a_word_that_is_no_choice_is_refused_with_the_choices(name: str):
    with pytest.raises(SettingsError, match=rf"^{name} is 'guess'\. Use one of .*{getattr(DEFAULTS, name)}"):
        ScoreConfig(**{name: "guess"})


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_too_small_is_refused_with_the_least(name: str):
    least = NUMBERS[name]
    assert getattr(ScoreConfig(**{name: least}), name) == least
    with pytest.raises(SettingsError, match=rf"^{name} is {least - 1}\. It must be at least {least}$"):
        ScoreConfig(**{name: least - 1})


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_is_too_large_is_refused_with_the_most(name: str):
    most = most_threads() if name == "threads" else RANGES[name][1]
    assert getattr(ScoreConfig(**{name: most}), name) == most
    for value in (most + 1, 2**70, 2**2000):
        if value > most:
            with pytest.raises(SettingsError, match=rf"^{name} is .*\. It must be at most "):
                ScoreConfig(**{name: value})


def test_no_number_is_nan():
    with pytest.raises(SettingsError, match="max_macs is nan"):
        ScoreConfig(max_macs=math.nan)


def test_every_number_and_word_is_checked():
    """A field that is neither is checked by its own rule, or is of no bound kind: true or false, or eps."""
    others = {"calibrate", "live_layers_only", "eps", "parity", "proxies"}
    others |= {"input_shapes", "batch_axes", "inputs"}
    assert {f.name for f in fields(ScoreConfig)} == {*TEXTS, *NUMBERS, *others}


def test_shapes_have_no_negative_dimensions():
    ScoreConfig(input_shapes={"x": (1, 3), "past": (1, 0, 8)})
    with pytest.raises(SettingsError, match=r"input_shapes\['x'\] is \(1, -1\)\. No dimension may be"):
        ScoreConfig(input_shapes={"x": (1, -1)})
    with pytest.raises(SettingsError, match=r"A dimension may be 2147483647 at most"):
        ScoreConfig(input_shapes={"x": (1, 2**31)})


@pytest.mark.parametrize("changed", [{"calibrate": True}, {"batch_norm": "fold"}])
def test_kept_weights_are_not_changed(changed: dict[str, object]):
    kept = {"weights": "keep", "calibrate": False, "batch_norm": "inference"}
    ScoreConfig(**kept)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="can be neither calibrated nor folded"):
        ScoreConfig(**kept | changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_protocol_sets_its_fields_and_gives_way_to_what_is_named(protocol: str):
    found = ScoreConfig.for_protocol(protocol)
    for name, value in PROTOCOLS[protocol].items():
        assert getattr(found, name) == value
    rest = {f.name for f in fields(found)} - set(PROTOCOLS[protocol]) - {"protocol"}
    assert all(getattr(found, name) == getattr(DEFAULTS, name) for name in rest)
    assert ScoreConfig.for_protocol(protocol, batch=7, seed=3).as_dict() == found.as_dict() | {
        "batch": 7, "seed": 3
    }  # fmt: skip


def test_what_no_setting_is_called_is_refused():
    with pytest.raises(SettingsError, match="no setting is called batches, sed"):
        ScoreConfig.for_protocol(sed=1, batches=2)
    with pytest.raises(SettingsError, match="protocol is 'guess'"):
        ScoreConfig.for_protocol("guess")


def test_all_fields_are_values_of_json():
    given = {"d": object(), "c": [1, 2.5], "b": "@x.npy", "a": True}
    config = ScoreConfig(input_shapes={"b": (1, 2), "a": (3,)}, inputs=given, proxies=("snip",))
    assert json.loads(json.dumps(config.as_dict())) == config.as_dict()
    assert set(config.as_dict()) == {f.name for f in fields(ScoreConfig)}
    assert list(config.as_dict()["input_shapes"]) == ["a", "b"]
    assert config.as_dict()["inputs"] == {"a": "1", "b": "@x.npy", "c": "1,2.5", "d": "array"}
