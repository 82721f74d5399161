"""Tables of results, as pandas and the standard library read them."""

from __future__ import annotations

import csv
import io
import sys

import pandas as pd
import pytest

from intrain_onnx.errors import SettingsError
from intrain_onnx.report.frames.table import FORMATS, Table

TABLE = Table.of(
    ["model", "volume", "layers", "counted", "note"],
    [
        ["a,b.onnx", 1.5, 3, True, None],
        ['q"uote\n.onnx', None, None, False, "=HYPERLINK(1)"],
        ["ü.onnx", 1e-300, 2**40, True, "+1"],
    ],
)


def test_csv_is_read_back_by_pandas_with_the_same_values():
    read = pd.read_csv(io.BytesIO(Table.of(["x", "n"], [["a,b", 1.5], ['"', None]]).csv()))
    assert read["x"].tolist() == ["a,b", '"']
    assert read["n"].isna().tolist() == [False, True]
    assert read["n"][0] == 1.5


def test_a_cell_that_a_spreadsheet_would_run_is_kept_from_it():
    rows = list(csv.DictReader(io.StringIO(TABLE.csv().decode())))
    assert [row["note"] for row in rows] == ["", "'=HYPERLINK(1)", "'+1"]
    assert [row["model"] for row in rows] == ["a,b.onnx", 'q"uote\n.onnx', "ü.onnx"]
    assert Table.of(["n"], [[-1.5]]).csv() == b"n\n-1.5\n"  # a number is none


def test_parquet_keeps_types():
    read = pd.read_parquet(
        io.BytesIO(Table.of(["s", "f", "i", "b"], [["a", 1.5, 3, True], [None, None, None, None]]).parquet())
    )
    assert read["f"].dtype == float
    assert read["s"][0] == "a"
    assert read.isna().all(axis=1).tolist() == [False, True]


def test_frame_has_the_columns_in_order():
    frame = TABLE.frame()
    assert list(frame.columns) == list(TABLE.columns)
    assert frame["volume"].isna().tolist() == [False, True, False]
    assert frame["layers"][2] == 2**40


@pytest.mark.parametrize(("package", "call"), [("pandas", Table.frame), ("pyarrow", Table.parquet)])
def test_what_is_not_installed_is_named_with_its_extra(package, call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError, match=r"intrain-onnx\[(pandas|parquet)\]"):
        call(TABLE)


@pytest.mark.parametrize("form", FORMATS)
def test_a_table_without_rows_still_has_its_columns(form):
    content = Table.of(["a", "b"], []).written(form)
    read = pd.read_csv(io.BytesIO(content)) if form == "csv" else pd.read_parquet(io.BytesIO(content))
    assert list(read.columns) == ["a", "b"]
    assert len(read) == 0
