"""Completion in the shell, by click's own scripts: names of commands, options, choices and files."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from intrain_onnx.cli import main

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")
PROGRAMS = {
    "intrain-onnx": "from intrain_onnx.cli import main",
    "intrain-onnx-convert": "from intrain_onnx.commands.convert import main",
}


def variable(program: str) -> str:
    return f"_{program.replace('-', '_').upper()}_COMPLETE"


def run(program: str, instruction: str, **more: str) -> str:
    code = f"{PROGRAMS[program]}; main(prog_name={program!r})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), variable(program): instruction, **more},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def completed(program: str, words: str) -> set[tuple[str, ...]]:
    """What bash is offered at the end of these words: (type, value)."""
    count = len(words.split(" ")) - 1
    told = run(program, "bash_complete", COMP_WORDS=f"{program} {words}", COMP_CWORD=str(count + 1))
    return {tuple(line.split(",", 1)) for line in told.splitlines()}


def test_a_command_is_completed():
    assert completed("intrain-onnx", "sco") == {("plain", "score")}
    assert {("plain", "rank"), ("plain", "report")} <= completed("intrain-onnx", "r")


def test_an_option_is_completed_and_its_choices():
    assert completed("intrain-onnx", "score --max") == {("plain", "--max-macs"), ("plain", "--max-memory")}
    choices = {("plain", name) for name in ("architecture", "checkpoint", "paper")}
    assert completed("intrain-onnx", "score --protocol ") == choices


def test_a_model_is_completed_as_a_file():
    assert completed("intrain-onnx", "score --seeds 2 mo") == {("file", "mo")}
    assert completed("intrain-onnx", "audit --policy po") == {("file", "po")}


def takes_files(parameter: click.Parameter) -> bool:
    """Whether its values are files or folders alone: not NAME=FILE, where nothing can be completed."""
    words = re.split(r"[|. ]+", parameter.metavar or parameter.human_readable_name)
    return bool({"FILE", "DIR", "MODEL", "SOURCE", "REPORT", "RESULTS", "CSV", "A", "B"} & {*words})


PATHS = [
    (command, parameter)
    for command in main.commands.values()
    for parameter in command.params
    if takes_files(parameter)
]


@pytest.mark.parametrize(("command", "parameter"), PATHS, ids=lambda x: x.name)
def test_all_files_and_folders_are_completed(command: click.Command, parameter: click.Parameter):
    items = parameter.shell_complete(click.Context(command), "mo")
    [found] = [item for item in items if item.type != "plain"]  # a space has a name, too
    assert (found.type, found.value) in (("file", "mo"), ("dir", "mo"))


def test_those_are_most_commands():
    assert {command.name for command, _ in PATHS} >= {*main.commands} - {"ops"}


def test_a_framework_is_completed_and_what_follows_as_a_file():
    assert completed("intrain-onnx-convert", "ke") == {("plain", "keras")}
    assert completed("intrain-onnx-convert", "keras mo") == {("file", "mo")}


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_the_page_says_how_for_each_shell(shell: str, program: str):
    assert f"_INTRAIN_ONNX_COMPLETE={shell}_source intrain-onnx" in PAGE
    assert variable(program) in PAGE
    script = run(program, f"{shell}_source", PATH=os.environ["PATH"])
    assert f"{variable(program)}={shell}_complete" in script
    if shutil.which(shell):  # a script of this shell
        asked = "-n" if shell != "fish" else "--no-execute"
        assert subprocess.run([shell, asked], input=script, text=True, check=False).returncode == 0


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_after_the_line_of_the_page(tmp_path: Path):
    """The line that the page appends to ~/.bashrc, and what bash then calls when Tab is pressed."""
    [line] = re.findall(r"^echo '(eval .*bash_source intrain-onnx\)\")' >> ~/\.bashrc$", PAGE, re.MULTILINE)
    program = tmp_path / "intrain-onnx"
    program.write_text(f"#!{sys.executable}\n{PROGRAMS['intrain-onnx']}\nmain(prog_name='intrain-onnx')\n")
    program.chmod(0o755)
    press = 'COMP_WORDS=({words}); COMP_CWORD={at}; COMPREPLY=(); "$f" intrain-onnx {last} "" 2>/dev/null'
    told = []
    for words in ("intrain-onnx sco", "intrain-onnx score --no-par", "intrain-onnx score mod"):
        parts = words.split(" ")
        pressed = press.format(words=words, at=len(parts) - 1, last=parts[-1])
        told.append(f'{pressed}; echo "${{COMPREPLY[*]}}"')
    find = "compopt() { echo compopt $*; }; f=$(complete -p intrain-onnx | sed 's/.*-F \\([^ ]*\\).*/\\1/')"
    done = subprocess.run(
        ["bash", "--norc", "-c", "\n".join([line, find, *told])],
        env={**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # `default` is what bash itself completes: files.
    assert done.stdout.split() == ["score", "--no-parity", "compopt", "-o", "default"], done.stderr
