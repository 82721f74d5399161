"""``report``: a page of saved reports, or a table that pandas reads."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd
import pytest

from intrain_onnx import Report, ScoreConfig, score

from .helpers import Run, mlp


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    config = ScoreConfig.for_protocol(seeds=1, batch=4, parity=False, threads=1, device="cpu")
    made = []
    for seed in (0, 1):
        made.append(
            score(mlp(), ScoreConfig(**{**vars(config), "seed": seed})).save(tmp_path / f"{seed}.json")
        )
    return made


@pytest.mark.parametrize("form", ["csv", "parquet"])
@pytest.mark.parametrize("listed", ["models", "layers", "parameters", "points", "depth_profile"])
def test_a_table_is_read_by_pandas(cli: Run, files: list[Path], form: str, listed: str):
    result = cli("report", *files, "--format", form, "--table", listed)
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Table: report.{form}\n"
    read = (pd.read_csv if form == "csv" else pd.read_parquet)(f"report.{form}")
    reports = [Report.load(file).data for file in files]
    assert len(read) == (2 if listed == "models" else sum(len(r[listed]) for r in reports))
    assert list(read.columns)[:2][listed == "models"] == "model"
    if listed == "models":
        assert read["intrain"].tolist() == pytest.approx(
            [r["score"]["intrain"] for r in sorted(reports, key=lambda r: -r["scores"]["volume"]["value"])]
        )


def test_a_table_goes_to_standard_output(cli: Run, files: list[Path]):
    result = cli("report", *files, "--format", "csv", "-o", "-")
    assert len(pd.read_csv(io.StringIO(result.stdout))) == 2


def test_a_page_is_what_is_made_otherwise(cli: Run, files: list[Path], tmp_path: Path):
    assert cli("report", files[0]).stdout == "Page: report.html\n"
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_report_itself_is_not_written_over(cli: Run, files: list[Path]):
    result = cli("report", files[0], "--format", "csv", "-o", files[0])
    assert result.exit_code == 2
    assert Report.load(files[0]).intrain
