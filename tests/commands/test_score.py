"""``score``: what it prints and writes, where the report goes, and several models at once."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from builders import model, weight

import intrain_onnx.pipeline
from intrain_onnx import Report
from intrain_onnx.config import PROTOCOLS
from intrain_onnx.report import document

from .helpers import ESCAPES, SAMPLES, Run, mlp, save, valid

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
    leading = data["scores"]["volume"]
    weakest = min(data["layers"], key=lambda x: x["participation_ratio"] / min(x["rows"] - 1, x["channels"]))
    for text in (
        f"volume {leading['value']:.4g} ± {leading['standard_error']:.2g} (standard error)",
        "(a vision network)",
        f"counting alone gives         {leading['static']:.4g}",
        f"gradient along depth         even (e^{data['gradient']['log_sensitivity']:.1f} where",
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
    assert result.stdout.index("volume ") < result.stdout.index("InTrain ")
    assert result.stdout.index("Weakest layers") < result.stdout.index(weakest["module"])
    assert weakest["module"] in result.stdout.split("share")[1].splitlines()[2]


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
    noise = {"kind": "noise", "ids": None, "source": "synthetic", "sha256": None}
    assert settings["inputs_fed"] == [{"name": "a:b", "shape": [5, 3, 6, 5], **noise}]
    assert settings["inputs"] == {}
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


@pytest.mark.parametrize(
    ("inputs", "body", "said"),
    [
        ("float[N,6] x", "a = MatMul(x, w) r = Relu(a)", "nothing is known"),
        ("int64[N,5] x", "e = Gather(t, x) a = MatMul(e, w) r = Relu(a)", "OpenLM"),
        (
            "float[N,6,6] x",
            "p = Transpose<perm = [1, 0, 2]>(x) a, h = LSTM<hidden_size = 12>(p, i, s) r = Squeeze(h, first)",
            "NAS-Bench-NLP",
        ),
    ],
)
def test_it_says_for_which_kinds_of_networks_little_is_known(
    cli: Run, tmp_path: Path, inputs: str, body: str, said: str
):
    weights = {"w": weight(6, 12), "t": weight(9, 6), "i": weight(1, 48, 6), "s": weight(1, 48, 12)}
    weights |= {"v": weight(12, 4), "first": np.array([0])}
    used = {name: value for name, value in weights.items() if re.search(rf"\b{name}\b", f"{body} v")}
    proto = model(f"({inputs}) => (float[M] y) {{ {body} y = MatMul(r, v) }}", used)
    result = cli("score", save(tmp_path, proto), "--seeds", 1)
    assert result.exit_code == 0, result.output
    assert [line for line in result.stdout.splitlines() if said in line]


def test_it_says_where_the_gradient_is_lost(cli: Run, tmp_path: Path):
    random = np.random.default_rng(0)
    weights = {f"w{i}": random.normal(size=(16, 16)).astype(np.float32) for i in range(10)}
    body = "".join(f"a{i} = MatMul({f'r{i - 1}' if i else 'x'}, w{i}) r{i} = Tanh(a{i}) " for i in range(10))
    proto = model(f"(float[N,16] x) => (float[N,16] y) {{ {body} y = Identity(r9) }}", weights)
    path = save(tmp_path, proto)
    result = cli("score", path, "--seeds", 1, "--protocol", "checkpoint", "-o", tmp_path / "a.json")
    row = valid((tmp_path / "a.json").read_text())["gradient"]
    said = f"explodes by e^{row['log_sensitivity']:.1f} at {row['value']} (depth {row['depth']} of 10)"
    assert f"gradient along depth         {said}" in result.stdout


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
    ranked, _, counted = result.stdout.partition("To beat")
    assert {"layers", "#Params", "MACs"} <= set(counted.split())
    header, _, *rows = [line.split() for line in ranked.splitlines() if line.strip()]
    assert header[:5] == ["rank", "model", "volume", "±", "InTrain"]
    mixed = "cannot be compared: here a vision network and a network of another kind"
    assert " ".join(rows.pop()).endswith("inputs cannot be compared: here images of 32x32 (1), vectors (1)")
    assert " ".join(rows.pop()).endswith(mixed)
    assert [row[:2] for row in rows] == [["1", "keras_mobile.onnx"], ["2", "good.onnx"]]
    for row, stem in zip(rows, ("keras_mobile.intrain", "good.intrain"), strict=True):
        assert row[2] == f"{reports[stem].data['scores']['volume']['value']:.4g}"
        assert row[4] == f"{reports[stem].intrain:.4g}"
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
    assert result.exit_code == 130
    assert result.stdout == ""
    assert list(tmp_path.iterdir()) == [tmp_path / "a.onnx"]


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
