"""The help of every command, and what a command imports."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from intrain_onnx.cli import main
from intrain_onnx.config import PROTOCOLS

from .helpers import SAMPLES, Run


def commands(
    command: click.Command, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """A command and all below it."""
    yield path, command
    for name, child in getattr(command, "commands", {}).items():
        yield from commands(child, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"), list(commands(main)), ids=lambda v: "-".join(v) if type(v) is tuple else ""
)
def test_help_documents_every_option(cli: Run, path: tuple[str, ...], command: click.Command):
    result = cli(*path, "--help")
    assert result.exit_code == 0
    assert result.stdout == cli(*path, "-h").stdout
    assert command.help
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert not option.hidden
            for name in option.opts:
                assert name in result.stdout
            for word in option.help.split():
                assert word in result.stdout
        else:
            assert (option.metavar or str(option.name).upper()) in result.stdout
    for name in getattr(command, "commands", {}):
        assert re.search(rf"^  {name} ", result.stdout, re.MULTILINE)


def test_defaults_in_the_help_are_those_of_the_settings(cli: Run):
    text = re.sub(r"\s+", " ", cli("score", "--help").stdout)
    assert f"[default: {PROTOCOLS['architecture']['batch']}; paper: {PROTOCOLS['paper']['batch']}]" in text
    assert PROTOCOLS["checkpoint"]["batch"] == PROTOCOLS["architecture"]["batch"]


def imported(code: str, *args: object) -> set[str]:
    """Top-level modules that a fresh interpreter has after running code."""
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit as e:\n    assert not e.code\n" + (
        "print('\\n' + ' '.join({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, args)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(done.stdout.splitlines()[-1].split())


HEAVY = {"torch", "onnx", "onnx_ir", "onnxruntime", "onnx2torch", "scipy", "numpy"}


@pytest.mark.parametrize("args", [("--help",), ("score", "--help"), ("inspect", "--help"), ("--version",)])
def test_help_imports_nothing_heavy(args: tuple[str, ...]):
    modules = imported("from intrain_onnx.cli import main; main()", *args)
    assert "click" in modules
    assert not modules & (HEAVY | {"rich"})


def test_importing_the_package_imports_nothing_heavy():
    assert not imported("import intrain_onnx") & (HEAVY | {"click", "rich"})
    assert "torch" in imported("import intrain_onnx; intrain_onnx.score")


def test_inspect_imports_no_torch():
    modules = imported("from intrain_onnx.cli import main; main()", "inspect", SAMPLES / "jax_cnn.onnx")
    assert "onnx_ir" in modules
    assert not modules & {"torch", "onnxruntime", "onnx2torch", "scipy"}
