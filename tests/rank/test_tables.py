"""Tables of a ranking: the order, the cells, and names that no spreadsheet takes for a formula."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

from intrain_onnx.errors import SettingsError
from intrain_onnx.rank import tables
from intrain_onnx.rank.rows import Error, Row, Score


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
    monkeypatch.setattr(tables, "_LOWER", {"x"})
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


def test_the_page_escapes_what_strangers_wrote():
    from intrain_onnx.report.page.ranks import page

    rows = tables.ranked([scored("<script>alert(1)</script>", 1.0), FAILED], "volume")
    text = page(tables.for_page(rows, "volume"))
    assert "<script>alert" not in text
    assert "<b>no</b>" not in text
    assert "2 models: 1 have a rank, 1 have no score." in text
    assert page(tables.for_page(rows, "volume")) == text
