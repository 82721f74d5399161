"""Failures: an exit code, one line, the place and the next step, each by a real cause."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from builders import model, weight
from loading.hostile import not_a_model, runtime

from .helpers import CHECKPOINT, SAMPLES, Run, mlp, save, unknown_operators


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bogus"], "No such option"),
        (["--protocol", "guess"], "'guess' is not one of 'architecture', 'checkpoint', 'paper'"),
        (["--seeds", "0"], "0 is not in the range x>=1"),
        (["--batch", "many"], "'many' is not a valid integer"),
        (["--input-shape", "x"], "'x' is not NAME:1x3x64x64"),
        (["--input-shape", "x:1x"], "'x:1x' is not NAME:1x3x64x64"),
        (["--input-shape", "x:1x0"], "input 'x' fixes axis 1 at 4"),
        (["-o", "none/report.json"], "its folder does not exist. Create it first"),
        (["-o", "none/"], "no such folder. Create it first"),
        (["other.onnx", "-o", "one.json"], "is one file for 2 models. Name a folder that exists"),
        (["--input-shape", "z:1x4"], "the model has no input 'z'. Its inputs are 'x'"),
        (["--input-shape", "x:1x5"], "input 'x' fixes axis 1 at 4. Declared: Nx4"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_wrong_usage(cli: Run, tmp_path: Path, options: list[str], says: str):
    file = save(tmp_path, mlp())
    result = cli("score", file, *options)
    assert result.exit_code == 2
    assert says in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == [file]


def test_no_model_and_no_command_are_wrong_usage(cli: Run):
    assert cli("score").exit_code == 2
    assert cli().exit_code == 2
    assert cli("bogus").exit_code == 2


def truncated(folder: Path) -> Path:
    file = folder / "model.onnx"
    file.write_bytes((SAMPLES / "keras_mobile.onnx").read_bytes()[:100_000])
    return file


def missing(folder: Path) -> Path:
    return folder / "nowhere.onnx"


def no_weights(folder: Path) -> Path:
    return save(folder, model("(float[N,4] x) => (float[N,4] y) { y = Relu(x) }"))


def nan_weight(folder: Path) -> Path:
    second = weight(8, 3)
    second[3, 1] = np.nan
    return save(folder, mlp(second))


def overflowing_activation(folder: Path) -> Path:
    return save(folder, mlp(act="Exp", first=weight(4, 8) * 1e4))


def overflowing_layer(folder: Path) -> Path:
    return save(folder, mlp(weight(8, 3) * 1e30, first=weight(4, 8) * 1e30))


def infinite_gradient(folder: Path) -> Path:
    return save(folder, mlp(act="Sqrt", first=np.zeros((4, 8), np.float32)))


FAILURES: list[tuple[Callable[[Path], Path], tuple[str, ...], int, str, str]] = [
    (not_a_model.empty_file, (), 3, "the file is empty", "Copy or download it again"),
    (not_a_model.png_image, (), 3, "a PNG image, not an ONNX model", "Give the .onnx file"),
    (truncated, (), 3, "it is truncated", "Copy or download it again"),
    (missing, (), 3, "No such file or directory", ""),
    (not_a_model.a_folder, (), 3, "folder", "Name the .onnx file itself"),
    (
        unknown_operators,
        (),
        4,
        "unsupported operators: acme::Magic-1 (3 nodes), other::Trick-1 (1 node)",
        "Export with another opset or exporter, or add a handler",
    ),
    (no_weights, (), 4, "no output passes a gradient", "A model without trainable weights has no score"),
    (runtime.string_tensors, (), 4, "input 'x' holds strings", "Cut the text processing off the model"),
    (
        nan_weight,
        CHECKPOINT,
        5,
        "the weight 'v' holds values that are not finite",
        "Repair the checkpoint, or score it with --protocol architecture",
    ),
    (
        overflowing_activation,
        CHECKPOINT,
        5,
        "it began here (at Exp node 'act')",
        "Try --protocol architecture",
    ),
    (overflowing_layer, CHECKPOINT, 5, "it began here (at MatMul node 'two')", "Try --protocol architecture"),
    (
        infinite_gradient,
        CHECKPOINT,
        5,
        "the gradient of 'w' is not finite; it began here (at Sqrt node 'act')",
        "Try --protocol architecture",
    ),
    (
        runtime.constant_of_shape_of_terabytes,
        (),
        6,
        "4,000,000,000,000 elements",
        "If you trust the file, allow it with --limit folded_elements=1e12",
    ),
    (runtime.expand_to_terabytes, (), 6, "4000000000000 elements", "--limit elements=4e12"),
    (runtime.input_of_terabytes, (), 6, "input 'x'", "--limit elements=1e12"),
    (
        runtime.loop_of_a_quadrillion_trips,
        (),
        6,
        "(at Loop node 'y')",
        "If you trust the file, allow it with --limit loop_rounds=1e6",
    ),
]


@pytest.mark.parametrize(
    ("build", "options", "code", "says", "step"), FAILURES, ids=[f[0].__name__ for f in FAILURES]
)
def test_every_failure_is_one_line_and_an_exit_code(
    cli: Run,
    tmp_path: Path,
    build: Callable[[Path], Path],
    options: tuple[str, ...],
    code: int,
    says: str,
    step: str,
):
    (tmp_path / "models").mkdir()
    file = build(tmp_path / "models")
    result = cli("score", file, "--seeds", 1, *options)
    assert result.exit_code == code, result.output
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith(f"error: {file}: ")
    assert says in line
    assert step in line
    assert "internal error" not in line
    assert [p.name for p in tmp_path.iterdir()] == ["models"]


def test_every_exit_code_is_caused_and_documented(cli: Run):
    text = cli("score", "--help").stdout
    for code in {0, 1, 2, *(failure[2] for failure in FAILURES)}:
        assert re.search(rf"\b{code}  \w", text), code


def test_debug_shows_the_traceback_beside_the_line(cli: Run, tmp_path: Path):
    file = overflowing_activation(tmp_path)
    result = cli("score", file, *CHECKPOINT, "--seeds", 1, "--debug")
    assert result.exit_code == 5
    assert result.stderr.startswith("Traceback")
    assert result.stderr.splitlines()[-1].startswith(f"error: {file}: ")
    assert "Traceback" not in cli("inspect", tmp_path).stderr
    assert "Traceback" in cli("inspect", tmp_path, "--debug").stderr
