"""The documentation: its commands and examples run, its links lead somewhere, nothing is left out."""

from __future__ import annotations

import doctest
import importlib
import re
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from shell import run

import intrain_onnx
from intrain_onnx.cli import main

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *(ROOT / folder / "README.md" for folder in ("samples", "converters")),
]
SOURCES = sorted(Path(intrain_onnx.__file__).parent.rglob("*.py"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the samples, and room for what commands write."""
    shutil.copytree(ROOT / "samples", tmp_path / "samples")
    return tmp_path


INSTALLS = [b for b in blocks("shell") if "venv" in b]
OTHERS = [line for b in blocks("shell") if "venv" not in b for line in b.splitlines()]


def test_two_commands_install():
    """They are run as they stand by .ci/run; here, what follows the installation."""
    assert len(INSTALLS) == 2
    for command in INSTALLS:
        assert len(command.splitlines()) == 1
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert "'.[gpu]'" in INSTALLS[0]
    assert "'.[gpu,test]'" in INSTALLS[1]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_first_command_scores_a_sample(folder: Path):
    command = INSTALLS[0].split("&&")[2].strip()
    assert command.startswith(".venv/bin/intrain-onnx score samples/")
    assert "InTrain" in run(command.removeprefix(".venv/bin/"), folder)
    assert list(folder.glob("*.intrain.json"))


def test_the_second_command_names_what_is_there():
    fetch, test = (part.strip().split() for part in INSTALLS[1].split("&&")[2:])
    assert fetch[0] == test[0] == ".venv/bin/python"
    assert (ROOT / fetch[1]).is_file()
    assert test[1:3] == ["-m", "pytest"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_other_commands_run(folder: Path):
    assert len(OTHERS) >= 3
    for command in OTHERS:
        run(command, folder)
    assert (folder / "report.json").stat().st_size > 1000
    assert len(list((folder / "reports").glob("*.intrain.json"))) == 2


def test_the_library_example_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
):
    monkeypatch.chdir(folder)
    [example] = blocks("python")
    names: dict[str, object] = {}
    exec(compile(example, "README.md", "exec"), names)
    score, ratio = map(float, capsys.readouterr().out.split())
    assert score > 0
    assert ratio >= 1
    assert names["layers"]
    assert dict(names["module"].named_parameters())  # type: ignore[attr-defined]


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_examples_of_real_samples_run(folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Pillow is no dependency: without it, the array that its example makes is made here."""
    page = (ROOT / "docs" / "inputs.md").read_text(encoding="utf-8")
    decoding, library = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    [commands] = re.findall(r"^```shell\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    monkeypatch.chdir(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), np.uint8)
    if find_spec("PIL") is not None:
        image = importlib.import_module("PIL.Image")
        (folder / "photos").mkdir()
        for number, array in enumerate(pixels):
            image.fromarray(array).save(folder / "photos" / f"{number}.png")
        exec(compile(decoding, "inputs.md", "exec"), {})
    else:
        np.savez("samples.npz", image=pixels[:, :32, :32].transpose(0, 3, 1, 2) / 255)
    assert np.load("samples.npz")["image"].shape == (3, 3, 32, 32)
    score, audit = commands.splitlines()
    assert "input 3x3x32x32 (given)" in run(score, folder)
    run(f"{audit} || [ $? -eq 1 ]", folder)
    names: dict[str, Any] = {}
    exec(compile(library, "inputs.md", "exec"), names)
    assert names["report"].data["settings"]["samples"] == 24


def test_every_option_and_exit_code_is_in_the_readme():
    for command in main.commands.values():
        for option in command.params:
            if isinstance(option, click.Option):
                assert any(f"`{name}" in README for name in option.opts), f"{command.name} {option.opts}"
    for code in range(9):
        assert re.search(rf"\b{code} [\w`]", README.split("Exit codes:")[1].split("##")[0])


def test_the_benchmarks_in_the_readme_are_those_of_their_page():
    rows = [line for line in README.splitlines() if re.match(r"\|.*\| -?\.\d{3} \|", line)]
    assert len(rows) > 4
    assert set(rows) <= set((ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_paths_in_backticks_exist(page: Path):
    """Below the root, or below the package."""
    roots = {folder: {p.name for p in folder.iterdir()} for folder in (ROOT, ROOT / "intrain_onnx")}
    for name in re.findall(r"`([\w.]+/[\w./-]*)`", page.read_text(encoding="utf-8")):
        found = [folder for folder, top in roots.items() if name.split("/")[0] in top]
        assert not found or any((folder / name).exists() for folder in found), name


def test_the_picture_fetches_nothing_and_shows_what_is_printed():
    picture = (ROOT / "docs" / "score.svg").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"' )]+", picture)) == {"http://www.w3.org/2000/svg"}
    for word in ("InTrain", "resilience", "#Params", "keras_mobile.onnx"):
        assert word in picture


@pytest.mark.parametrize(
    "source", [s for s in SOURCES if ">>>" in s.read_text(encoding="utf-8")], ids=lambda s: s.stem
)
def test_examples_in_docstrings(source: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    parts = source.relative_to(ROOT).with_suffix("").parts
    name = ".".join(parts).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted > 0
