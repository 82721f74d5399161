"""Text of a model file on the terminal: no escape of a stranger reaches it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .helpers import ESCAPES, SAMPLES, Run, mlp, save


def hostile(folder: Path, operator: str = "Relu") -> Path:
    """Escapes in every name that a file holds."""
    proto = mlp(act=operator)
    proto.producer_name = proto.producer_version = f"maker{ESCAPES}"
    for node in proto.graph.node:
        node.name += ESCAPES
        node.input[:] = [name + ESCAPES for name in node.input]
        node.output[:] = [name + ESCAPES for name in node.output]
    for item in (*proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        item.name += ESCAPES
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = f"N{ESCAPES}"
    return save(folder, proto, f"a{ESCAPES.replace('/', '')}.onnx")


def visible(text: str) -> bool:
    return all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.skipif(os.name == "nt", reason="no such file names")
@pytest.mark.parametrize("operator", ["Relu", "Magic", "Log"])
def test_escapes_in_names_do_not_reach_the_terminal(cli: Run, tmp_path: Path, operator: str):
    file = hostile(tmp_path, operator)
    for args in (("inspect", file), ("score", file, "--seeds", 1), ("score", file, SAMPLES / "jax_cnn.onnx")):
        result = cli(*args)
        assert visible(result.stdout), result.stdout
        assert visible(result.stderr), result.stderr
        assert "\\x1b[2J" in result.stdout + result.stderr
    if operator == "Relu":
        assert json.loads(cli("inspect", file, "--json").stdout)["layers"][0]["name"] == f"one{ESCAPES}"


@pytest.mark.skipif(os.name == "nt", reason="needs a pseudo-terminal")
def test_a_terminal_gets_colours_of_ours_alone(tmp_path: Path):
    import pty

    master, slave = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-m", "intrain_onnx", "inspect", hostile(tmp_path)],
        stdout=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(slave)
    shown = b""
    try:
        while part := os.read(master, 65536):
            shown += part
    except OSError:  # how Linux says that the other end is closed
        pass
    assert done.wait(60) == 0
    assert b"one\\x1b[2J" in shown
    assert b"\x1b[2J" not in shown
    assert b"\x1b]" not in shown
    assert b"\x07" not in shown
