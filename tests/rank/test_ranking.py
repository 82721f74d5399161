"""Rankings in memory: of reports, and of the folder that ``rank`` wrote."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner

import intrain_onnx
from intrain_onnx import Ranking, ScoreConfig
from intrain_onnx.cli import main
from intrain_onnx.errors import SettingsError

SAMPLES = Path(__file__).parents[2] / "samples"
MODELS = [SAMPLES / f"{name}.onnx" for name in ("jax_cnn", "keras_mobile", "pytorch_resnet_dynamo")]


@pytest.fixture(scope="module")
def reports() -> list[intrain_onnx.Report]:
    config = ScoreConfig.for_protocol(seeds=1, batch=4, parity=False, threads=1, device="cpu")
    return [intrain_onnx.score(model, config) for model in MODELS]


@pytest.mark.parametrize("by", ["volume", "intrain", "parameters", "layers"])
def test_reports_are_ranked_by_any_value(reports: list[intrain_onnx.Report], by: str):
    ranking = Ranking.of(reports, by)
    values = [row.value(by) for row in ranking]
    assert values == sorted(values, reverse=True)
    assert len(ranking) == 3
    frame = ranking.to_frame()
    assert frame["rank"].tolist() == [1, 2, 3]
    assert frame[by].tolist() == values


def test_a_value_that_no_report_has_is_refused(reports: list[intrain_onnx.Report]):
    with pytest.raises(SettingsError, match="no model has 'nothing'"):
        Ranking.of(reports, "nothing")


@pytest.mark.workers
def test_the_folder_of_a_run_is_the_ranking_that_it_wrote(tmp_path: Path):
    folder = tmp_path / "results"
    told = CliRunner().invoke(main, ["rank", *map(str, MODELS[:2]), "-o", str(folder), "--batch", "4"])
    assert told.exit_code == 0, told.output
    ranking = Ranking.load(folder)
    written = pd.read_csv(folder / "ranking.csv")
    frame = ranking.to_frame()
    assert frame["model"].tolist() == written["model"].tolist()
    assert frame["volume"].tolist() == pytest.approx(written["volume"].tolist())
    assert repr(ranking).startswith("<Ranking of 2 models by volume: 2 have a rank, best")
    with pytest.raises(SettingsError, match=r"no results\.jsonl"):
        Ranking.load(tmp_path)
