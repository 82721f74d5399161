"""The command line: what it prints and writes, every exit code by a real cause, and what it imports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import click
import corpus
import jsonschema
import numpy as np
import onnx
import pytest
from builders import model, weight
from click.testing import CliRunner, Result

import intrain_onnx.pipeline
from intrain_onnx import Report, memory
from intrain_onnx.cli import main
from intrain_onnx.config import PROTOCOLS
from intrain_onnx.report import document

SAMPLES = Path(__file__).parents[2] / "samples"
CHECKPOINT = ("--protocol", "checkpoint")
ESCAPES = "\x1b[2J\x1b]0;owned\x07\r\n\u202e"
"""Clears a screen, renames its window, rings, breaks the line, turns the text around."""

Run = Callable[..., Result]


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command in an empty folder and in this process, which keeps its own limit on memory."""
    monkeypatch.setattr(memory, "cap_process", lambda: None)
    monkeypatch.chdir(tmp_path)
    for name in ("OMP_WAIT_POLICY", "KMP_BLOCKTIME", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, os.environ.get(name, ""))  # so that what is set is unset again

    def run(*args: object) -> Result:
        result = CliRunner().invoke(main, [str(a) for a in args], prog_name="intrain-onnx")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


def strict(text: str) -> Any:
    """JSON without NaN and infinities."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} in JSON")

    return json.loads(text, parse_constant=refuse)


def valid(text: str) -> dict[str, Any]:
    """A report, checked against the schema in the package."""
    data = strict(text)
    jsonschema.Draft202012Validator(document.schema()).validate(data)
    return data


def save(folder: Path, proto: onnx.ModelProto, name: str = "model.onnx") -> Path:
    onnx.save(proto, folder / name)
    return folder / name


def mlp(
    second: np.ndarray | None = None, *, act: str = "Relu", first: np.ndarray | None = None
) -> onnx.ModelProto:
    """Two linear layers; their nodes are called one, act and two."""
    proto = model(
        f"(float[N,4] x) => (float[N,3] y) {{ h = MatMul(x, w)\n r = {act}(h)\n y = MatMul(r, v) }}",
        {
            "w": weight(4, 8) if first is None else first,
            "v": weight(8, 3) if second is None else second,
        },
    )
    for node, name in zip(proto.graph.node, ("one", "act", "two"), strict=True):
        node.name = name
    return proto


# Scoring one model


def test_score_prints_a_summary_and_writes_a_valid_report(cli: Run, tmp_path: Path):
    result = cli("score", SAMPLES / "pytorch_resnet_dynamo.onnx", "--batch", 8)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    file = tmp_path / "pytorch_resnet_dynamo.intrain.json"
    assert list(tmp_path.iterdir()) == [file]
    data = valid(file.read_text(encoding="utf-8"))
    score = data["score"]
    low, high = score["ci95"]
    assert data["settings"]["samples"] == 8
    assert [run["seed"] for run in score["runs"]] == [0, 1, 2]
    assert data["parity"]["ok"] is True
    assert data["model"]["sha256"]
    weakest = min(data["layers"], key=lambda x: x["participation_ratio"] / min(x["rows"] - 1, x["channels"]))
    for text in (
        f"InTrain {score['intrain']:.4g} ± {score['std']:.3g} (standard deviation over 3 seeds)",
        f"95 % interval of the mean    {low:.4g} to {high:.4g}",
        f"geometric capacity           {score['geometric_capacity']:.4g}",
        f"optimisation resilience      {score['optimization_resilience']:.4g}",
        "10 layers, 10 parameter tensors",
        "architecture, input 8x3x32x32",
        "parity with onnxruntime      ok",
        "Weakest layers",
        "batch_norm_folded: BatchNorm was folded into 9 of 10 layers",
        f"Report: {file.name}",
    ):
        assert text in result.stdout
    assert result.stdout.index("Weakest layers") < result.stdout.index(weakest["name"])
    assert weakest["name"] in result.stdout.split("share")[1].splitlines()[2]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_protocol_writes_a_valid_report(cli: Run, protocol: str):
    result = cli(
        "score", SAMPLES / "pytorch_resnet_training.onnx", "--protocol", protocol, "--seeds", 1, "-o", "-"
    )
    assert result.exit_code == 0, result.output
    data = valid(result.stdout)
    assert data["settings"]["protocol"] == protocol
    for name, value in PROTOCOLS[protocol].items():
        assert data["settings"][name] == value
    assert data["score"]["std"] is None
    assert data["score"]["ci95"] is None
    assert f"{protocol}, input" in result.stderr


def test_the_schema_is_a_schema_and_refuses_what_is_no_report(cli: Run, tmp_path: Path):
    schema = document.schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    data = valid(cli("score", save(tmp_path, mlp()), "--seeds", 1, "-o", "-").stdout)
    assert not validator.is_valid({})
    assert not validator.is_valid(data | {"more": 1})
    assert not validator.is_valid(data | {"score": data["score"] | {"intrain": None}})
    for name in schema["required"]:
        assert not validator.is_valid({k: v for k, v in data.items() if k != name})


def test_options_land_in_the_settings(cli: Run, tmp_path: Path):
    proto = model(
        "(float[N,3,H,W] x) => (float[N,4,H,W] y) { y = Conv<pads = [1, 1, 1, 1]>(x, w) }",
        {"w": weight(4, 3, 3, 3)},
    )
    proto.graph.input[0].name = proto.graph.node[0].input[0] = "a:b"
    options = ("--seed", 7, "--seeds", 2, "--batch", 5, "--threads", 1, "--device", "cpu", "--no-parity")
    result = cli("score", save(tmp_path, proto), *options, "--input-shape", "a:b:1x3x6x5", "-o", "-")
    assert result.exit_code == 0, result.output
    data = valid(result.stdout)
    settings = data["settings"]
    assert (settings["seed"], settings["seeds"], settings["batch"], settings["threads"]) == (7, 2, 5, 1)
    assert (settings["device"], settings["parity"], data["parity"]) == ("cpu", False, None)
    assert settings["input_shapes"] == {"a:b": [1, 3, 6, 5]}
    assert settings["inputs_fed"] == [{"name": "a:b", "shape": [5, 3, 6, 5], "kind": "noise", "ids": None}]
    assert [run["seed"] for run in data["score"]["runs"]] == [7, 8]
    assert (data["environment"]["device"], data["environment"]["threads"]) == ("cpu", 1)
    assert "parity with onnxruntime      not asked for" in result.stderr


def test_same_seed_gives_the_same_bytes_but_for_the_timings(cli: Run, tmp_path: Path):
    file = save(tmp_path, mlp())

    def once(*options: object) -> str:
        data = valid(cli("score", file, "-o", "-", *options).stdout)
        assert all(seconds >= 0 for seconds in data.pop("timings_s").values())
        return json.dumps(data)

    assert once() == once()
    assert once("--seed", 1) != once()


# Where the report goes


def test_output_names_a_file_or_a_folder(cli: Run, tmp_path: Path):
    file = save(tmp_path, mlp())
    (tmp_path / "out").mkdir()
    for option, written in (
        ("named.json", "named.json"),
        ("out", "out/model.intrain.json"),
        ("out/", "out/model.intrain.json"),
        ("out/other.json", "out/other.json"),
    ):
        result = cli("score", file, "--seeds", 1, "--no-parity", "-o", option)
        assert result.exit_code == 0, result.output
        assert valid((tmp_path / written).read_text())["model"]["path"] == str(file)
        assert f"Report: {written}" in result.stdout
    assert not list(tmp_path.rglob("*.tmp"))


def test_output_dash_is_json_alone_on_standard_output(cli: Run, tmp_path: Path):
    file = save(tmp_path, mlp())
    result = cli("score", file, "--seeds", 1, "-o", "-")
    assert valid(result.stdout)["model"]["path"] == str(file)
    assert "InTrain" in result.stderr
    two = cli("score", file, SAMPLES / "jax_cnn.onnx", "--seeds", 1, "-o", "-")
    assert [Path(valid(line)["model"]["path"]).name for line in two.stdout.splitlines()] == [
        "model.onnx",
        "jax_cnn.onnx",
    ]
    assert "#Params" in two.stderr
    assert list(tmp_path.iterdir()) == [file]


def test_models_of_one_name_do_not_overwrite_each_other(cli: Run, tmp_path: Path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder, mlp())
    result = cli("score", "a/model.onnx", "b/model.onnx", "--seeds", 1)
    assert result.exit_code == 0, result.output
    paths = [Report.load(tmp_path / f"model{s}.intrain.json").data["model"]["path"] for s in ("", "-2")]
    assert paths == ["a/model.onnx", "b/model.onnx"]
    assert "a/model.onnx" in result.stdout
    assert "b/model.onnx" in result.stdout


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_written_to_and_stays_a_pipe(cli: Run, tmp_path: Path):
    file, pipe = save(tmp_path, mlp()), tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    assert cli("score", file, "--seeds", 1, "-o", pipe).exit_code == 0
    reader.join(10)
    valid(read[0])
    assert pipe.is_fifo()


def test_a_failed_write_names_the_report_and_keeps_the_old_one(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    file = save(tmp_path, mlp())
    old = tmp_path / "model.intrain.json"
    old.write_text("as it was")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(document.os, "replace", full)
    result = cli("score", file, "--seeds", 1)
    assert result.exit_code == 2
    assert result.stderr == (
        f"error: {file}: cannot write model.intrain.json: No space left on device. "
        "Name another place with -o\n"
    )
    assert old.read_text() == "as it was"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model.intrain.json", "model.onnx"]


# Several models


def test_one_bad_model_does_not_lose_the_others(cli: Run, tmp_path: Path):
    empty = tmp_path / "empty.onnx"
    empty.touch()
    unknown = save(tmp_path, model("(float[4] x) => (float[4] y) { y = Magic(x) }"), "unknown.onnx")
    good, wide = save(tmp_path, mlp(), "good.onnx"), SAMPLES / "keras_mobile.onnx"
    result = cli("score", good, unknown, empty, wide, "--seeds", 2)
    assert result.exit_code == 4  # of the first that failed
    errors = result.stderr.splitlines()
    assert [e.split(": ")[1] for e in errors] == [str(unknown), str(empty)]
    assert sorted(p.name for p in tmp_path.glob("*.json")) == [
        "good.intrain.json",
        "keras_mobile.intrain.json",
    ]
    reports = {p.stem: Report.load(p) for p in tmp_path.glob("*.json")}
    header, _, *rows = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert header[:3] == ["rank", "model", "InTrain"]
    assert {"layers", "#Params"} <= set(header)
    assert [row[:2] for row in rows] == [["1", "keras_mobile.onnx"], ["2", "good.onnx"]]
    for row, stem in zip(rows, ("keras_mobile.intrain", "good.intrain"), strict=True):
        assert row[2] == f"{reports[stem].intrain:.4g}"
    assert cli("score", good, empty, unknown, "--seeds", 1).exit_code == 3


def test_a_bug_in_one_model_does_not_lose_the_others(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    original = intrain_onnx.pipeline.score

    def score(path: Path, *args: Any, **kwargs: Any) -> Report:
        if path.name == "bug.onnx":
            raise ZeroDivisionError(f"by\n{ESCAPES}zero")
        return original(path, *args, **kwargs)

    monkeypatch.setattr(intrain_onnx.pipeline, "score", score)
    result = cli("score", "bug.onnx", save(tmp_path, mlp()), "--seeds", 1)
    assert result.exit_code == 1
    assert result.stderr == (
        "error: bug.onnx: internal error: ZeroDivisionError: by. Run with --debug and report it\n"
    )
    assert (tmp_path / "model.intrain.json").is_file()


def test_an_interrupt_stops_all(cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def score(*_: Any, **__: Any) -> Report:
        raise KeyboardInterrupt

    monkeypatch.setattr(intrain_onnx.pipeline, "score", score)
    result = cli("score", save(tmp_path, mlp(), "a.onnx"), "b.onnx")
    assert result.exit_code == 1
    assert "Traceback" not in result.stderr
    assert "Aborted" in result.stderr


# Errors: an exit code, one line, the place, the next step


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--bogus"], "No such option"),
        (["--protocol", "guess"], "'guess' is not one of 'architecture', 'checkpoint', 'paper'"),
        (["--seeds", "0"], "0 is not in the range x>=1"),
        (["--batch", "many"], "'many' is not a valid integer"),
        (["--input-shape", "x"], "'x' is not NAME:1x3x64x64"),
        (["--input-shape", "x:1x"], "'x:1x' is not NAME:1x3x64x64"),
        (["--input-shape", "x:1x0"], "Every dimension must be positive"),
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


def unknown_operators(folder: Path) -> Path:
    text = """(float[N,4] x) => (float[N,4] y) {
        a = acme.Magic(x)
        b = acme.Magic(a)
        c = other.Trick(b)
        d = MatMul(c, w)
        y = If(t) <then_branch = yes () => (e) { e = acme.Magic(d) },
                   else_branch = no () => (f) { f = Relu(d) }>
    }"""
    weights = {"w": weight(4, 4), "t": np.array(True)}
    return save(folder, model(text, weights, domains={"acme": 1, "other": 3}))


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
    (corpus.empty_file, (), 3, "the file is empty", "Copy or download it again"),
    (corpus.png_image, (), 3, "a PNG image, not an ONNX model", "Give the .onnx file"),
    (truncated, (), 3, "it is truncated", "Copy or download it again"),
    (missing, (), 3, "No such file or directory", ""),
    (corpus.a_folder, (), 3, "folder", "Name the .onnx file itself"),
    (
        unknown_operators,
        (),
        4,
        "unsupported operators: acme::Magic-1 (3 nodes), other::Trick-1 (1 node)",
        "Export with another opset or exporter, or add a handler",
    ),
    (no_weights, (), 4, "no output passes a gradient", "A model without trainable weights has no score"),
    (corpus.string_tensors, (), 4, "input 'x' holds strings", "Cut the text processing off the model"),
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
        corpus.constant_of_shape_of_terabytes,
        (),
        6,
        "4000000000000 elements (at ConstantOfShape node 'big')",
        "",
    ),
    (corpus.expand_to_terabytes, (), 6, "4000000000000 elements", "If you trust the file, raise it with"),
    (corpus.input_of_terabytes, (), 6, "input 'x'", "If you trust the file, raise it with"),
    (
        corpus.loop_of_a_quadrillion_trips,
        (),
        6,
        "(at Loop node 'y')",
        "If you trust the file, raise it with",
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


# Text of the file on the terminal


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


# inspect


def test_inspect_shows_the_static_pass(cli: Run):
    result = cli("inspect", SAMPLES / "pytorch_resnet_dynamo.onnx")
    assert result.exit_code == 0
    for text in (
        "pytorch 2.",
        "opset 20",
        "input   image  float  batchx3x32x32",
        "output  logits  float  batchx10",
        "10 canonical layers",
        "batch_norm_folded",
    ):
        assert text in result.stdout, text
    rows = [line.split() for line in result.stdout.splitlines() if re.match(r" +\d+ +node_", line)]
    depths = [int(row[0]) for row in rows]
    assert len(rows) == 10
    assert depths == sorted(depths)


def test_inspect_as_json_is_strict_and_whole(cli: Run):
    data = strict(cli("inspect", SAMPLES / "keras_mobile.onnx", "--json").stdout)
    assert set(data) == {"model", "layers", "coverage", "unsupported_ops", "warnings"}
    assert len(data["layers"]) == data["model"]["canonical_layers"] == 17
    assert data["unsupported_ops"] == {}


def test_inspect_lists_all_unsupported_operators(cli: Run, tmp_path: Path):
    result = cli("inspect", unknown_operators(tmp_path))
    assert result.exit_code == 0
    assert re.search(r"acme::Magic-1 +3 nodes\n +other::Trick-1 +1 node\n", result.stdout)


def test_inspect_shows_40_layers_unless_asked_for_all(cli: Run, tmp_path: Path):
    lines = "\n".join(f"a{i + 1} = MatMul(a{i}, w)" for i in range(50))
    file = save(tmp_path, model(f"(float[N,4] a0) => (float[N,4] a50) {{ {lines} }}", {"w": weight(4, 4)}))
    some, every = cli("inspect", file).stdout, cli("inspect", file, "--all").stdout
    assert "10 more: --all" in some
    assert "a41" not in some
    assert "a50  " in every
    assert "more:" not in every


def test_inspect_fails_as_score_does(cli: Run, tmp_path: Path):
    file = corpus.png_image(tmp_path)
    result = cli("inspect", file)
    assert (result.exit_code, result.stdout) == (3, "")
    assert len(result.stderr.splitlines()) == 1


# Help and imports


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
    assert not modules & {"torch", "onnxruntime", "onnx2torch"}


# As a program


def test_the_console_script_scores(tmp_path: Path):
    script = shutil.which("intrain-onnx", path=str(Path(sys.executable).parent))
    assert script is not None, "the package is not installed in this environment"
    shown = subprocess.run([script, "--version"], capture_output=True, text=True, check=True).stdout
    assert metadata.version("intrain-onnx") in shown
    empty = tmp_path / "empty.onnx"
    empty.touch()
    done = subprocess.run(
        [script, "score", SAMPLES / "jax_cnn.onnx", empty, "--seeds", "1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 3
    assert done.stderr.startswith(f"error: {empty}: ")
    assert len(done.stderr.splitlines()) == 1
    assert "jax_cnn.onnx" in done.stdout
    valid((tmp_path / "jax_cnn.intrain.json").read_text(encoding="utf-8"))


@pytest.mark.skipif(os.name == "nt", reason="pipes break differently")
def test_a_reader_that_goes_away_ends_it_in_silence():
    with subprocess.Popen(
        [sys.executable, "-m", "intrain_onnx", "inspect", "--json", SAMPLES / "keras_mobile.onnx"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as done:
        assert done.stdout is not None
        assert done.stderr is not None
        done.stdout.close()
        assert done.stderr.read() == b""
    assert done.returncode == 1
