"""Tables of a ranking: the order, the cells, and names that no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import os
import re
from pathlib import Path

import pytest

from intrain_onnx.errors import SettingsError
from intrain_onnx.rank import tables
from intrain_onnx.rank.rows import Error, Row, Score
from intrain_onnx.report.page.ranks import page


def scored(model: str, volume: float, **more: object) -> Row:
    values = {"scores": {"volume": Score(volume, 0.5)}, "baselines": {"parameters": 10}, **more}
    return Row(model=model, status="scored", sha256="0" * 64, kind="vision", layers=2, coverage=1.0, **values)  # type: ignore[arg-type]


FAILED = Row(model="no.onnx", status="failed", error=Error("ModelFileError", "no.onnx: <b>no</b>", 3))


def test_the_best_come_first_and_failures_last():
    rows = [FAILED, scored("b", 1.0), scored("a", 1.0), scored("c", 2.0)]
    assert [r.model for r in tables.ranked(rows, "volume")] == ["c", "a", "b", "no.onnx"]


def test_a_proxy_of_which_less_is_better_is_ranked_so(monkeypatch: pytest.MonkeyPatch):
    rows = [scored("a", 1.0, proxies={"x": 2.0}), scored("b", 1.0, proxies={"x": 1.0})]
    assert [r.model for r in tables.ranked(rows, "x")] == ["a", "b"]
    monkeypatch.setattr(tables, "LOWER", {"x"})
    assert [r.model for r in tables.ranked(rows, "x")] == ["b", "a"]


def test_a_name_that_nothing_has_is_told():
    with pytest.raises(SettingsError, match=r"no model has 'nothing'.*--by takes parameters, volume"):
        tables.ranked([scored("a", 1.0)], "nothing")


def test_csv_and_parquet_hold_the_same(tmp_path: Path):
    from pyarrow import parquet

    name = os.fsdecode(b"\xff.onnx")
    rows = tables.ranked(
        [scored(name, 1.0, given={"accuracy": "0.5"}), scored("=1+1", 3.0), FAILED], "volume"
    )
    tables.write_csv(tmp_path / "r.csv", rows, "volume")
    assert tables.write_parquet(tmp_path / "r.parquet", rows, "volume")
    with (tmp_path / "r.csv").open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    table = parquet.read_table(tmp_path / "r.parquet").to_pylist()
    assert [row["rank"] for row in table] == [1, 2, None]
    assert [row["model"] for row in table] == ["=1+1", "\\xff.onnx", "no.onnx"]
    assert [row["model"] for row in found] == ["'=1+1", "\\xff.onnx", "no.onnx"]
    for a, b in zip(found, table, strict=True):
        assert a["volume"] == ("" if b["volume"] is None else repr(b["volume"]))
        assert (a["given_accuracy"] or None) == b["given_accuracy"]
    assert table[2]["exit_code"] == 3


def test_rank_correlations_have_a_table_of_their_own(tmp_path: Path):
    rows = [
        scored(f"{i:02d}", float(i), baselines={"parameters": i * i + 1, "layers": -i}) for i in range(12)
    ]
    found = tables.overlapping([*rows, FAILED])
    tables.write_overlap(tmp_path / "c.csv", found)
    with (tmp_path / "c.csv").open(encoding="utf-8", newline="") as stream:
        listed = list(csv.DictReader(stream))
    assert [row["baseline"] for row in listed] == ["layers", "parameters", "macs", "activations"]
    assert [row["tau"] for row in listed[2:]] == ["", ""]  # nobody has these
    assert [float(row["tau"]) for row in listed[:2]] == pytest.approx([-1, 1])
    assert {(row["score"], row["networks"]) for row in listed} == {("volume", "12")}
    text = page(tables.for_page(rows, "volume", found))
    assert "volume adds little to counting #Params here" in text
    assert "with what can be counted" in text
    assert "with what can be counted" not in page(tables.for_page(rows, "volume"))


def test_the_page_shows_each_network_against_its_parameters():
    rows = [scored(f"{x}.onnx", 1.0 + i, baselines={"parameters": 10**i}) for i, x in enumerate("abc")]
    text = page(tables.for_page(tables.ranked(rows, "volume"), "volume"))
    plot = text.partition('<figure class="chart">')[2].partition("</figure>")[0]
    assert "volume against #Params" in plot
    assert plot.count("<title>") == 3
    assert re.search(r"<title>b\.onnx\s+volume 2, 10 #Params</title>", plot)
    by_size = page(tables.for_page(tables.ranked(rows, "parameters"), "parameters"))
    assert "3 networks, ranked by parameters" in by_size
    assert "volume against #Params" in by_size  # what is counted is no score
    assert '<figure class="chart">' not in page(tables.for_page(rows[:1], "volume"))


def test_inputs_and_scores_of_nothing_are_told():
    rows = [
        scored("a", 2.0, inputs="ids of 64"),
        scored("b", 0.0, inputs="images of 64x64"),
        scored("c", 1.0),
    ]
    names, values = tables.columns(rows, "volume")
    assert [row[names.index("inputs")] for row in values] == ["ids of 64", "images of 64x64", None]
    text = page(tables.for_page(tables.ranked(rows, "volume"), "volume"))
    assert "different inputs cannot be compared: here ids of 64 (1), images of 64x64 (1)" in text
    assert text.count("! says nothing") == 1


def test_the_page_escapes_what_strangers_wrote():
    rows = tables.ranked([scored("<script>alert(1)</script>", 1.0), FAILED], "volume")
    text = page(tables.for_page(rows, "volume"))
    assert "<script>alert" not in text
    assert "<b>no</b>" not in text
    assert "2 models: 1 have a rank, 1 have no score." in text
    assert page(tables.for_page(rows, "volume")) == text
