"""The whole command on a small table: files, resuming, failures, and the plot looked at by its parts."""

from __future__ import annotations

import json
import random
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from intrain_onnx.bench import measure, records, run
from intrain_onnx.bench.measures import measures
from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.cli import main
from intrain_onnx.config import ScoreConfig

Run = Callable[..., Result]
SPACE = SPACES["nasbench201"]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six architectures with accuracies that nobody measured."""
    rng = random.Random(0)
    names = [*{SPACE.sample(rng): None for _ in range(6)}]
    path = tmp_path_factory.mktemp("bench") / "made_up.csv"
    rows = [f'"{name}",{60 + 5 * i},{30 + i}' for i, name in enumerate(names)]
    path.write_text("\n".join(["arch_str,cifar10_test,imagenet16_test", *rows]) + "\n")
    return path


def bench(*args: object) -> Result:
    result = CliRunner().invoke(main, ["bench", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


SMALL = ("--size", 16, "--batch", 4)


@pytest.mark.workers
def test_workers_measure_and_everything_is_written(table: Path, tmp_path: Path):
    out = tmp_path / "out"
    result = bench("nasbench201", "--accuracies", table, *SMALL, "--proxies", "params,naswot", "-o", out)
    assert result.exit_code == 0, result.output
    assert {p.name for p in out.iterdir()} == {"results.jsonl", "summary.json", "table.md", "scatter.svg"}
    found = json.loads((out / "summary.json").read_text())
    assert found["architectures"] == 6
    assert found["failures"] == []
    titles = {"CIFAR-10", "ImageNet16-120"}
    assert set(found["measures"][0]["results"]) == titles
    names = {(row["group"], row["name"]) for row in found["measures"]}
    assert {("baseline", "#Params"), ("paper", "intrain"), ("architecture", "width_depth")} <= names
    for group in ("paper", "architecture"):
        twins = {name for g, name in names if g == f"{group}, static twin"}
        assert twins == {name for g, name in names if g == group} >= {"volume", "intrain"}
    for row in found["measures"]:
        assert set(row["over_static"]) == (titles if row["group"] in ("paper", "architecture") else set())
    assert ("proxy", "NASWOT") in names
    assert set(found["ablation"]) == {"paper", "architecture"}
    assert "paper: intrain" in (out / "table.md").read_text()
    assert "paper: intrain" in result.output
    svg = ElementTree.parse(out / "scatter.svg").getroot()
    assert svg.tag.endswith("svg")
    text = (out / "scatter.svg").read_text()
    assert text.count("<image") + text.count("PathCollection") >= 2 * 2


def test_it_goes_on_where_it_was_cut_off(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    real = measure.measure

    def counted(space: str, architecture: str, *rest: object) -> records.Record:
        asked.append(architecture)
        if len(asked) == 4:
            raise KeyboardInterrupt
        return real(space, architecture, *rest)

    monkeypatch.setattr(measure, "measure", counted)
    args = ("nasbench201", "--accuracies", table, *SMALL, "--protocol", "paper", "-o", tmp_path)
    assert bench(*args).exit_code == 130
    assert len(records.read(tmp_path / "results.jsonl")) == 3
    assert bench(*args).exit_code == 2  # results are there, and nothing says to go on
    assert bench(*args, "--resume").exit_code == 0
    assert len(asked) == 4 + 3
    assert len(records.read(tmp_path / "results.jsonl")) == 6
    assert bench(*args, "--resume", "--seed", "1").exit_code == 2
    resumed = (tmp_path / "table.md").read_text()
    whole = tmp_path / "whole"
    assert bench(*args[:-1], whole).exit_code == 0
    lines = [line.rpartition("|")[0].rpartition("|")[0] for line in resumed.splitlines()]  # without seconds
    again = [
        line.rpartition("|")[0].rpartition("|")[0] for line in (whole / "table.md").read_text().splitlines()
    ]
    assert lines == again


def test_an_architecture_that_fails_loses_no_other(
    table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    real, calls = measure.score, []

    def failing(model: object, config: ScoreConfig) -> object:
        calls.append(model)
        if len(calls) == 2:
            raise RuntimeError("a flaw")
        return real(model, config)

    monkeypatch.setattr(measure, "score", failing)
    result = bench("nasbench201", "--accuracies", table, *SMALL, "--protocol", "paper", "-o", tmp_path)
    assert result.exit_code == 0
    assert "internal error: RuntimeError: a flaw" in result.output
    found = json.loads((tmp_path / "summary.json").read_text())
    assert len(found["failures"]) == 1
    results = [row["results"]["CIFAR-10"] for row in found["measures"]]
    assert {(r["count"], r["failed"]) for r in results} == {(6, 1)}
    assert {tuple(r["within"]) for r in results} == {("equal layers", "fifths of #Params")}
    assert "1 scores failed, and count as the worst" in (tmp_path / "table.md").read_text()


def test_a_score_in_a_benchmark_is_that_of_the_file(tmp_path: Path):
    import onnx

    import intrain_onnx

    name = SPACE.sample(random.Random(3))
    config = ScoreConfig.for_protocol(
        "architecture", seeds=1, batch=4, size=32, threads=1, parity=False, points="all"
    )
    record = measure.measure("nasbench201", name, 32, [config])
    onnx.save(SPACE.build(name, fold=True), tmp_path / "net.onnx")
    data = intrain_onnx.score(tmp_path / "net.onnx", config).data
    found = record.protocols["architecture"]
    assert found.scores == {k: v["value"] for k, v in data["scores"].items()}
    again = measures([record, record])
    assert {m.name: m.values[0] for m in again if m.group == "architecture"} == found.scores
    twins = {m.name: m.values[0] for m in again if m.group == "architecture, static twin"}
    assert twins == pytest.approx({k: v["static"] for k, v in data["scores"].items()})


def test_the_help_names_every_space():
    text = bench("--help").output
    assert all(name in text for name in SPACES)
    assert [SPACES[name].name for name in SPACES] == list(SPACES)


def test_the_count_of_workers_changes_no_settings():
    plans = [
        run.Plan("nasbench201", "nasbench201", 32, (ScoreConfig.for_protocol("paper"),), n) for n in (1, 2)
    ]
    assert plans[0].settings() == plans[1].settings()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--accuracies", "none.csv"), "none.csv cannot be read"),
        (("--where", "x"), "COLUMN=VALUE"),
        (("--where", "x=1"), "no column 'x'"),
        (("--proxies", "nothing"), "no proxy is called 'nothing'"),
    ],
)
def test_wrong_options_are_one_line(table: Path, tmp_path: Path, args: tuple[str, ...], message: str):
    given = args if "--accuracies" in args else ("--accuracies", table, *args)
    result = bench("nasbench201", *given, "-o", tmp_path)
    assert result.exit_code == 2
    assert message in result.output
    assert "Traceback" not in result.output
