"""``score --resume``: what did not change is not scored again, and whatever did is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from builders import weight

import intrain_onnx.pipeline

from .helpers import Run, mlp, save

QUICK = ("--batch", 4, "--seeds", 1, "--no-parity", "-o", ".", "--resume")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the models that are scored, in this process."""
    names: list[str] = []
    score = intrain_onnx.pipeline.score

    def told(source, *args, **options):
        names.append(Path(source).name)
        return score(source, *args, **options)

    monkeypatch.setattr(intrain_onnx.pipeline, "score", told)
    return names


def test_only_what_changed_is_scored_again(cli: Run, tmp_path: Path, scored: list[str]):
    models = [save(tmp_path, mlp(weight(8, 3) * (i + 1)), f"{i}.onnx") for i in range(3)]
    first = cli("score", *models, *QUICK)
    assert first.exit_code == 0, first.output
    assert scored == ["0.onnx", "1.onnx", "2.onnx"]
    save(tmp_path, mlp(weight(8, 3) * 7), "1.onnx")
    (tmp_path / "2.intrain.json").write_text("{", encoding="utf-8")
    again = cli("score", *models, *QUICK)
    assert scored[3:] == ["1.onnx", "2.onnx"]
    assert "1 of 3 reports are kept" in again.stderr
    assert [line.split()[1] for line in again.stdout.splitlines() if line.strip()[:2] in ("1 ", "2 ", "3 ")]
    third = cli("score", *models, *QUICK)
    assert len(scored) == 5
    assert "3 of 3 reports are kept" in third.stderr
    assert third.exit_code == 0
    assert third.stdout.count(".onnx") == again.stdout.count(".onnx")


@pytest.mark.parametrize(
    "change", [("--seed", 5), ("--protocol", "checkpoint"), ("--batch", 8), ("--input", "x=1.0")]
)
def test_other_settings_are_another_score(
    cli: Run, tmp_path: Path, scored: list[str], change: tuple[str, object]
):
    model = save(tmp_path, mlp())
    for options, count in ((QUICK, 1), ((*QUICK, *change), 2), ((*QUICK, *change), 2), (QUICK, 3)):
        assert cli("score", model, *options).exit_code == 0
        assert len(scored) == count


def test_a_report_of_another_version_is_made_again(cli: Run, tmp_path: Path, scored: list[str]):
    model, file = save(tmp_path, mlp()), tmp_path / "model.intrain.json"
    assert cli("score", model, *QUICK).exit_code == 0
    for name in ("tool", "torch"):
        data = json.loads(file.read_text(encoding="utf-8"))
        place = data["tool"] if name == "tool" else data["environment"]["packages"]
        place["version" if name == "tool" else name] = "0.0.1"
        file.write_text(json.dumps(data), encoding="utf-8")
        before = len(scored)
        assert cli("score", model, *QUICK).exit_code == 0
        assert len(scored) == before + 1


def test_what_goes_to_standard_output_cannot_be_kept(cli: Run, tmp_path: Path):
    result = cli("score", save(tmp_path, mlp()), "-o", "-", "--resume")
    assert result.exit_code == 2
    assert "--resume needs reports in files" in result.stderr
