"""Results on disk: they survive being cut off, and never mix with other settings."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import pytest

from intrain_onnx.bench import records
from intrain_onnx.errors import SettingsError
from intrain_onnx.scores.run_values import Evidence, LayerValue, PointValue, TensorValue

EVIDENCE = Evidence(
    layers=(LayerValue(1.25, "measured"), LayerValue(0.0, "dead")),
    tensors=(TensorValue(0.2, 1e-3, 144, True, True),),
    points=(PointValue(1.0, None, True, False, True), PointValue(0.5, 0.75, False, True, False)),
)


def test_evidence_survives_being_packed():
    assert records.unpack(records.pack(EVIDENCE)) == EVIDENCE


def test_evidence_is_kept_to_nine_digits():
    third = Evidence((LayerValue(1 / 3, "measured"),), (), ())
    found = records.unpack(records.pack(third))
    assert astuple(found.layers[0])[0] == pytest.approx(1 / 3, rel=1e-9)


def test_records_are_read_back(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    assert records.start(path, {"seed": 0}, resume=False) == []
    rows = [{"architecture": name, "protocols": {}} for name in ("a", "ü\u2028b")]
    for row in rows:
        records.append(path, row)
    assert records.read(path) == rows
    assert records.start(path, {"seed": 0}, resume=True) == rows


def test_a_line_that_was_cut_off_is_dropped(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    records.start(path, {}, resume=False)
    records.append(path, {"architecture": "a"})
    with path.open("a") as stream:
        stream.write('{"architecture": "b", "prot')
    assert records.start(path, {}, resume=True) == [{"architecture": "a"}]
    records.append(path, {"architecture": "c"})
    assert [r["architecture"] for r in records.read(path)] == ["a", "c"]


def test_results_are_not_overwritten(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    records.start(path, {}, resume=False)
    with pytest.raises(SettingsError, match="--resume"):
        records.start(path, {}, resume=False)


def test_results_of_other_settings_are_refused_and_named(tmp_path: Path):
    path = tmp_path / "results.jsonl"
    records.start(path, {"seed": 0, "batch": 16}, resume=False)
    with pytest.raises(SettingsError, match="seed was 0, is 1"):
        records.start(path, {"seed": 1, "batch": 16}, resume=True)


@pytest.mark.parametrize("text", ["", "[]\n", "no json\n", '{"format": "other"}\n'])
def test_what_holds_no_results_is_refused(tmp_path: Path, text: str):
    path = tmp_path / "results.jsonl"
    path.write_text(text)
    with pytest.raises(SettingsError, match=r"results\.jsonl"):
        records.read(path)
