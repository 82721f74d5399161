"""Results on disk: they survive being cut off, never mix with other settings, and old ones are still read."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from report.mutations import at, kind, places, replaced

from intrain_onnx.bench import records, summary
from intrain_onnx.bench.records import Factors, Failed, Measured, Proxy, Record, Settings
from intrain_onnx.bench.table import Entry
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.log import as_line
from intrain_onnx.errors import SettingsError
from intrain_onnx.scores.run_values import LayerValue, PointValue, RunValues, TensorValue

from .make_stored import STORED, summarised

VALUES = RunValues(
    layers=(LayerValue(1.25, "measured"), LayerValue(0.0, "dead")),
    tensors=(TensorValue(0.2, 1e-3, 144, True, True),),
    points=(PointValue(1.0, None, True, False, True), PointValue(0.5, 0.75, False, True, False)),
)
MEASURED = Measured(
    seconds=0.5,
    baselines={"parameters": 10, "macs": None, "mean_log_channels": 2.5},
    score=Factors(1.5, 2.0, 2),
    scores={"intrain": 3.25},
    proxies={
        "params": Proxy({"params": 10.0}, 1, None, 0.125),
        "jacov": Proxy({"jacov": None}, 1, "no", 0.5),
    },
    values=VALUES,
)
CONFIG = ScoreConfig.for_protocol("paper", input_shapes={"x": (1, 3)})
SETTINGS = Settings("0.1", None, "nasbench201", 32, (CONFIG,))


def record(name: str) -> Record:
    return Record(name, {"paper": MEASURED, "architecture": Failed("no way")})


def start(
    path: Path, settings: Settings = SETTINGS, *, resume: bool, add: Sequence[Record] = ()
) -> list[Record]:
    """Open the results, append records, close; what they held before."""
    with records.opened(path, settings, resume=resume) as log:
        found = records.read(path)
        for row in add:
            log.append(records.row(row))
    return found


def test_values_are_kept_to_nine_digits():
    found = records.rounded(RunValues((LayerValue(1 / 3, "measured"),), (), ()))
    assert found.layers[0].log_ratio == 0.333333333
    assert records.rounded(VALUES) == VALUES


def test_records_are_read_back(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    rows = [record(name) for name in ("a", "ü\u2028b")]
    assert start(path, resume=False, add=rows) == []
    assert records.read(path) == rows
    assert start(path, resume=True) == rows
    assert rows[0].measured("paper") == MEASURED
    assert rows[0].measured("architecture") is None


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    start(path, resume=False, add=[record("a")])
    with path.open("a") as stream:
        stream.write('{"architecture": "b", "prot')
    assert start(path, resume=True, add=[record("c")]) == [record("a")]
    assert [r.architecture for r in records.read(path)] == ["a", "c"]


def test_results_are_not_overwritten(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    start(path, resume=False)
    with pytest.raises(SettingsError, match="--resume"):
        start(path, resume=False)


def test_results_of_other_settings_are_refused_and_named(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    start(path, resume=False)
    with pytest.raises(SettingsError, match=": size was 32, is 16"):
        start(path, msgspec.structs.replace(SETTINGS, size=16), resume=True)
    other = msgspec.structs.replace(SETTINGS, configs=(replace(CONFIG, seed=1),))
    with pytest.raises(SettingsError, match="configs was"):
        start(path, other, resume=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]\n",
        "no json\n",
        '{"format": "other"}\n',
        f'{{"format": "{records.FORMAT}", "settings": {{}}}}\n{{"architecture": "a"}}\n',
        f'{{"format": "{records.FORMAT}"}}\n{{"protocols": {{"p": {{"error": null}}}}}}\n',
    ],
)
def test_what_holds_no_results_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"results\.jsonl"):
        records.read(path)


def test_stored_results_are_written_again_as_they_were():
    text = (STORED / "results.jsonl").read_text(encoding="utf-8")
    lines = text.splitlines()
    found = [as_line(records.row(record)) for record in records.read(STORED / "results.jsonl")]
    assert b"".join(found).decode() == text.partition("\n")[2]
    settings = json.loads(lines[0])["settings"]
    assert json.loads(json.dumps(records.as_stored(msgspec.convert(settings, Settings)))) == settings


def test_stored_results_go_on_under_the_same_settings(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    text = (STORED / "results.jsonl").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    settings = msgspec.convert(json.loads(text.partition("\n")[0])["settings"], Settings)
    found = start(path, settings, resume=True)
    assert [r.measured("paper") is None for r in found] == [False, False, False, True]
    assert path.read_text(encoding="utf-8") == text


def test_stored_results_give_the_summary_that_they_gave():
    expected = (STORED / "summary.json").read_text(encoding="utf-8")
    found = records.read(STORED / "results.jsonl")
    made, markdown = summarised(found)
    assert made == expected
    table = (STORED / "table.md").read_text(encoding="utf-8")
    assert markdown == table


@pytest.mark.parametrize("resume", [False, True])
def test_results_of_the_format_before_are_refused(tmp_path: Path, resume: bool):
    """They lack the baselines."""
    path = tmp_path / "results.jsonl"
    text = (STORED / "results.jsonl").read_text(encoding="utf-8")
    path.write_text(text.replace(records.FORMAT, "intrain-onnx bench 1", 1), encoding="utf-8")
    with pytest.raises(SettingsError, match="there already" if not resume else "another format"):
        start(path, resume=resume)


def test_a_space_of_families_is_ranked_within_them():
    found = records.read(STORED / "results.jsonl")
    entries = [Entry(r.architecture, {"CIFAR-10": float(i)}) for i, r in enumerate(found)]
    made = summary.summarise(entries, found, family=lambda name: name[:5], seed=0, rounds=5)
    assert list(made.measures[0].results["CIFAR-10"].within)[-1] == "families"
    assert "tau within families" in summary.markdown(made, "A space", "")


WRONG = (None, {}, 2**70, 1e308)


def changed(line: str) -> Iterator[str]:
    """A line with another value at one place, of each kind, or without it."""
    row, seen = json.loads(line), set()
    for path in places(row):
        if kind(path) not in seen and "architecture" not in path[1:]:  # it is built as the other is
            seen.add(kind(path))
            yield from (json.dumps(replaced(row, path, value)) for value in WRONG)
            if path:
                made = copy.deepcopy(row)
                del at(made, path[:-1])[path[-1]]
                yield json.dumps(made)


def summary_of(path: Path) -> str | None:
    """None where the results are refused."""
    try:
        return summarised(records.read(path))[1]
    except SettingsError:
        return None


@pytest.mark.filterwarnings("ignore")
def test_results_that_nobody_measured_are_refused_or_summarised(tmp_path: Path):
    head, first, *others = (STORED / "results.jsonl").read_text(encoding="utf-8").splitlines()
    path, found = tmp_path / "results.jsonl", []
    for line in changed(first):
        path.write_text("\n".join([head, line, *others]) + "\n", encoding="utf-8")
        found.append(summary_of(path))
    assert 50 < found.count(None) < len(found) - 50


@pytest.mark.parametrize("text", ["[" * 100_000, "\ufeff", "NaN", "9" * 5000, '{"format": "\ud800"}'])
def test_a_header_that_nobody_wrote_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "results.jsonl"
    path.write_bytes(text.encode("utf-8", "surrogatepass") + b"\n")
    assert summary_of(path) is None
