"""``intrain-onnx-convert``: a command for each script of ``converters/``, which loads no framework itself."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from intrain_onnx.commands.convert import main

ROOT = Path(__file__).parents[2]
SCRIPTS = {file.stem.removeprefix("from_"): file for file in sorted(ROOT.glob("converters/from_*.py"))}
CODE = "from intrain_onnx.commands.convert import main; main(prog_name='intrain-onnx-convert')"


def run(*arguments: str | Path, first: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"{first}\n{CODE}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def test_each_script_is_a_command_with_its_purpose():
    told = CliRunner().invoke(main, ["--help"]).output
    assert set(SCRIPTS) == {"jax", "keras", "paddle", "pytorch", "sklearn", "tensorflow"}
    for name, file in SCRIPTS.items():
        purpose = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").split()
        assert f"  {name}" in told
        assert " ".join(purpose[:4]) in " ".join(told.split())


@pytest.mark.parametrize("framework", SCRIPTS)
def test_help_is_that_of_the_script(framework: str):
    ours, alone = run(framework, "--help"), run_alone(framework, "--help")
    assert ours.returncode == 0, ours.stderr
    assert ours.stderr == ""
    assert ours.stdout.startswith(f"usage: intrain-onnx-convert {framework} [-h]")
    end = "\n\nExport "
    assert ours.stdout.partition(end)[2] == alone.partition(end)[2] != ""


def run_alone(framework: str, *arguments: str) -> str:
    command = [sys.executable, str(SCRIPTS[framework]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


LISTS = (["--help"], ["--version"], ["nothing"], ["keras", "--help"])
HEAVY = ("torch", "tensorflow", "keras", "jax", "paddle", "sklearn", "onnx", "onnxruntime", "numpy")


@pytest.mark.parametrize("arguments", LISTS, ids=" ".join)
def test_the_command_itself_loads_no_framework(arguments: list[str]):
    block = f"import sys; sys.modules.update(dict.fromkeys({HEAVY!r}))"
    done = run(*arguments, first=block)
    assert done.returncode == (2 if arguments == ["nothing"] else 0), done.stderr
    assert "Traceback" not in done.stderr


def test_a_framework_that_is_not_there_is_told_in_one_line(tmp_path: Path):
    arguments = ("keras", "model.keras", "-o", tmp_path / "model.onnx")
    done = run(*arguments, first="import sys; sys.modules['keras'] = None")
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("intrain-onnx-convert keras: ")
    assert f"`uv run {SCRIPTS['keras']}`" in line
    assert "'keras>=" in line


def test_an_unknown_framework_is_told_in_one_line():
    done = run("mxnet", "net.params")
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert "no converter for 'mxnet'" in line
    assert all(name in line for name in SCRIPTS)


def test_it_converts_and_passes_options_on_as_they_stand(tmp_path: Path):
    """Among them some that click would read: one that it does not know, ``--``-less values, JSON."""
    arguments = ("--factory=torch.nn:Linear", "--kwargs", '{"in_features": 4, "out_features": 3}')
    options = ("--input", "x=1x4", "--exporter", "torchscript", "--seed", "1", "-o", tmp_path / "model.onnx")
    done = run("pytorch", *arguments, *options)
    assert done.returncode == 0, done.stderr
    assert f"{tmp_path / 'model.onnx'}: torch.nn:Linear by torch" in done.stdout
    assert "15 parameters" in done.stdout
    assert (tmp_path / "model.onnx").is_file()
