"""The table of several scored models: its order, marks, width, and what it says of inputs and counting."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
from builders import weight

from intrain_onnx import Report, ScoreConfig, score
from intrain_onnx.commands.terminal.ranking import ranking
from intrain_onnx.commands.terminal.ranks import ranks
from intrain_onnx.rank import tables
from intrain_onnx.rank.rows import of_report

from .helpers import Run, mlp, save

LONG = "a_name_that_is_longer_than_eighty_columns_" * 3


class Terminal(io.StringIO):
    """A stream that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture(scope="module")
def base() -> Report:
    return score(mlp(), ScoreConfig.for_protocol(seeds=1, batch=4, parity=False))


def made(base: Report, name: str, *, volume: float, fed: list[int] | None = None, **baselines: int) -> Report:
    """A report under a name, with other values."""
    data: dict[str, Any] = copy.deepcopy(dict(base.data))
    data["model"]["path"] = f"{name}.onnx"
    data["scores"]["volume"]["value"] = volume
    data["baselines"] |= baselines
    if fed is not None:
        data["settings"]["inputs_fed"][0]["shape"] = fed
    return Report(data)


def dozen(base: Report) -> list[Report]:
    """As many layers as volume; every other one with more parameters."""
    return [
        made(base, f"net{i:02d}", volume=10.0 + i, layers=i + 1, parameters=10_000 * (1 + (7 * i) % 12))
        for i in range(12)
    ]


def shown(reports: list[Report], by: str = "volume", stream: io.StringIO | None = None) -> str:
    stream = stream or io.StringIO()
    ranking(reports, stream, by)
    return stream.getvalue()


def names(text: str) -> list[str]:
    found = [word for line in text.splitlines() for word in line.split() if word.endswith(".onnx")]
    return list(dict.fromkeys(found))


def test_it_is_sorted_by_any_value_which_has_a_column(base: Report):
    reports = dozen(base)
    by_volume = [f"net{i:02d}.onnx" for i in reversed(range(12))]
    assert names(shown(reports)) == by_volume
    text = shown(reports, "parameters")
    order = sorted(range(12), key=lambda i: -(7 * i % 12))
    assert names(text) == [f"net{i:02d}.onnx" for i in order]
    header = next(line.split() for line in text.splitlines() if line.strip())
    assert header[:4] == ["rank", "model", "parameters", "volume"]
    first = next(line.split() for line in text.splitlines() if "net05" in line)
    assert first[:5] == ["1", "net05.onnx", "120", "k", "15"]


def test_what_adds_little_to_counting_is_told(base: Report):
    text = shown(dozen(base))
    assert "Kendall's tau with what can be counted (95 % interval), 12 networks" in text
    assert "volume adds little to counting layers here" in text
    row = next(line for line in text.splitlines() if line.strip().startswith("volume "))
    assert row.split()[1] == "1.000"
    assert "Kendall" not in shown(dozen(base)[:9])


def test_different_inputs_are_told(base: Report):
    same = shown(dozen(base))
    assert "different inputs" not in same
    other = made(base, "image", volume=3.0, fed=[4, 3, 32, 32])
    text = shown([*dozen(base), other])
    assert "scores at different inputs cannot be compared: here vectors (12), images of 32x32 (1)" in text


def test_a_score_of_nothing_is_marked_in_its_row(base: Report):
    text = shown([*dozen(base), made(base, "dead", volume=0.0)])
    row = next(line for line in text.splitlines() if "dead.onnx" in line)
    assert row.split()[:3] == ["13", "dead.onnx", "0!"]
    assert text.count("!") == 2
    assert "! a score of 0 says nothing of the network" in text


def test_a_network_without_a_live_layer_is_marked(cli: Run, tmp_path: Path):
    """Its second weight is 0, so that nothing before it learns, and nothing of it is live."""
    dead = save(tmp_path, mlp(0 * weight(8, 3)), "dead.onnx")
    live = save(tmp_path, mlp(), "live.onnx")
    result = cli("score", dead, live, "--seeds", 1, "--protocol", "checkpoint", "--no-parity")
    assert result.exit_code == 0
    assert Report.load(tmp_path / "dead.intrain.json").data["scores"]["volume"]["value"] < 1e-200
    ranked = result.stdout.partition("To beat")[0]
    rows = {line.split()[1]: line.split()[2] for line in ranked.splitlines() if ".onnx" in line}
    assert rows["dead.onnx"].endswith("!")
    assert not rows["live.onnx"].endswith("!")
    assert "! a score of 0" in result.stdout


def test_names_are_whole_where_no_terminal_is(base: Report, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    reports = [made(base, f"{LONG}{i}", volume=1.0 + i) for i in range(2)]
    lines = shown(reports).splitlines()
    assert sum(f"{LONG}{i}.onnx" in line for line in lines for i in range(2)) == 4
    rows = [of_report(f"{LONG}{i}.onnx", {}, report, 0.1) for i, report in enumerate(reports)]
    stream = io.StringIO()
    ranks(tables.ranked(rows, "volume"), "volume", 9, stream)
    assert sum(f"{LONG}{i}.onnx" in line for line in stream.getvalue().splitlines() for i in range(2)) == 2


def test_a_narrow_terminal_shows_the_main_values_on_few_lines(base: Report, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    reports = [made(base, f"a_model_of_this_length_{i:02d}", volume=9.0 + i) for i in range(12)]
    text = shown(reports, "macs", Terminal())
    assert max(len(line) for line in text.splitlines() if "\x1b" not in line) <= 80
    assert text.count("a_model_of_this_length_00") == 2
    assert "mean log channels" not in text


def test_a_ranking_by_another_value_keeps_the_leading_score(base: Report):
    rows = [of_report(f"{i}.onnx", {}, report, 0.1) for i, report in enumerate(dozen(base))]
    ordered = tables.ranked(rows, "layers")
    stream = io.StringIO()
    ranks(ordered, "layers", 3, stream, tables.overlapping(ordered))
    text = stream.getvalue()
    header = next(line.split() for line in text.splitlines() if line.strip())
    assert header == ["rank", "model", "layers", "volume", "intrain", "parameters", "macs", "warnings"]
    assert "volume adds little to counting layers here" in text


def test_a_name_that_no_report_has_is_refused_before_anything_is_scored(cli: Run, tmp_path: Path):
    path = save(tmp_path, mlp())
    result = cli("score", path, "--by", "charm")
    assert result.exit_code == 2
    assert "--by 'charm' is no value of a report. --by takes volume, width_depth" in result.stderr
    assert not list(tmp_path.glob("*.json"))
    result = cli("score", path, "--by", "synflow")
    assert result.exit_code == 2  # a proxy that is not measured
    other = save(tmp_path, mlp(weight(8, 3, seed=3)), "b.onnx")
    asked = ("--by", "synflow", "--proxies", "synflow", "--no-parity", "--seeds", 1)
    result = cli("score", path, other, *asked)
    assert result.exit_code == 0
    assert "synflow" in result.stdout
