"""Given inputs from the command line and the library to the report, held against onnxruntime and hashlib."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import for_probing, model, run_onnxruntime, weight

from intrain_onnx import ScoreConfig, inspect, score
from intrain_onnx.audit import policy
from intrain_onnx.audit.gather import gather
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading.load import Source
from intrain_onnx.measure.prepare import prepare
from intrain_onnx.measure.statistics.ratios import participation_ratio
from intrain_onnx.runtime.interpreter import run

from .helpers import CHECKPOINT, Run, save, valid

QUICK = ("--seeds", "1", "--threads", "1", "--device", "cpu", "-o", "-")
TEXT = """(float[N,4] x, float[N,4] q) => (float[N,3] y)
    { a = MatMul(x, w) b = MatMul(q, u) h = Add(a, b) r = Relu(h) y = MatMul(r, v) }"""
WEIGHTS = {"w": weight(4, 8), "u": weight(4, 8, seed=1), "v": weight(8, 3)}
RNG = np.random.default_rng(3)


def two_inputs(first: str = "x", second: str = "q") -> onnx.ModelProto:
    """Two linear layers side by side on two inputs, and one behind their sum."""
    proto = model(TEXT, WEIGHTS)
    for index, name in enumerate((first, second)):
        proto.graph.input[index].name = proto.graph.node[index].input[0] = name
    return proto


def normal(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 3 + 1).astype(np.float32)


def sha256(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def fed(data: Mapping[str, Any]) -> dict[str, Any]:
    return {row["name"]: row for row in data["settings"]["inputs_fed"]}


def activations(source: Source, names: list[str], **settings: Any) -> dict[str, np.ndarray]:
    """What the layers of a checkpoint give in the run that is probed, samples joined."""
    config = ScoreConfig.for_protocol("checkpoint", **settings)
    runnable = prepare(for_probing(source, "checkpoint", **settings), config, torch.device("cpu"))
    found: dict[str, np.ndarray] = {}

    def watch(name: str) -> Any:
        return lambda parts: found.update({name: np.concatenate([p.detach().numpy() for p in parts])})

    run(runnable.module, runnable.feed(torch.Generator().manual_seed(0)), {n: watch(n) for n in names})
    return found


def test_the_probe_sees_what_onnxruntime_gives_on_the_same_arrays():
    arrays = {"x": normal(20, 4), "q": normal(20, 4)}
    names = ["a", "b", "y"]
    found = activations(two_inputs(), names, inputs=arrays)
    expected = dict(zip(names, run_onnxruntime(two_inputs(), arrays, names), strict=True))
    for name in names:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)
    report = score(two_inputs(), ScoreConfig.for_protocol("checkpoint", inputs=arrays, seeds=2))
    ratios = {row["name"]: row["participation_ratio"] for row in report.data["layers"]}
    for name in names:
        plain = participation_ratio(torch.from_numpy(expected[name])).ratio
        assert ratios[name] == pytest.approx(plain, rel=1e-4)


def test_a_graph_with_a_fixed_batch_gets_each_sample_once():
    proto = two_inputs()
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    arrays = {"x": normal(5, 4), "q": normal(5, 4)}
    found = activations(proto, ["a"], inputs=arrays)["a"]
    np.testing.assert_allclose(found, run_onnxruntime(proto, arrays, ["a"])[0], rtol=1e-5, atol=1e-5)


def test_every_seed_gets_the_same_values_and_draws_the_rest():
    both = {"x": normal(8, 4), "q": normal(8, 4)}
    config = ScoreConfig.for_protocol("checkpoint", inputs=both, seeds=2)
    capacities = [r["geometric_capacity"] for r in score(two_inputs(), config).data["score"]["runs"]]
    assert capacities[0] == capacities[1]
    config = ScoreConfig.for_protocol("checkpoint", inputs={"x": both["x"]}, seeds=2)
    capacities = [r["geometric_capacity"] for r in score(two_inputs(), config).data["score"]["runs"]]
    assert capacities[0] != capacities[1]


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
def test_the_report_says_what_was_fed(protocol: str):
    x = normal(6, 4)
    config = ScoreConfig.for_protocol(protocol, inputs={"x": x.astype(np.float64), "q": 2}, seeds=1)
    report = score(two_inputs(), config)
    data = valid(report.to_json())
    assert data["settings"]["inputs"] == {"q": "2", "x": "array"}
    assert data["settings"]["samples"] == 6
    filled = np.full((6, 4), 2, np.float32)
    given = {"kind": "given", "ids": None, "shape": [6, 4]}
    assert fed(data) == {
        "x": {"name": "x", "source": "array", "sha256": sha256(x), **given},
        "q": {"name": "q", "source": "value", "sha256": sha256(filled), **given},
    }
    assert data["parity"]["ok"]


def test_files_and_values_from_the_command_line(cli: Run, tmp_path: Path):
    arrays = {"x": normal(40, 4), "q": normal(40, 4)}
    np.savez(tmp_path / "samples.npz", **arrays)  # type: ignore[arg-type]
    file = save(tmp_path, two_inputs())
    result = cli("score", file, *CHECKPOINT, *QUICK, "--inputs", "samples.npz", "--batch", 4)
    assert result.exit_code == 0, result.output
    data = valid(result.stdout)
    assert (data["settings"]["batch"], data["settings"]["samples"]) == (4, 40)
    assert data["settings"]["inputs"] == dict.fromkeys(arrays, "@samples.npz")
    assert {n: row["sha256"] for n, row in fed(data).items()} == {n: sha256(a) for n, a in arrays.items()}
    assert {row["source"] for row in fed(data).values()} == {"file"}
    assert "input 40x4 (given), 40x4 (given)" in result.stderr
    over = cli("score", file, *CHECKPOINT, *QUICK, "--inputs", "samples.npz", "--input", "q=0,1,0,1")
    assert valid(over.stdout)["settings"]["inputs"] == {"x": "@samples.npz", "q": "0,1,0,1"}


def test_a_folder_holds_a_file_for_each_input(cli: Run, tmp_path: Path):
    (tmp_path / "samples").mkdir()
    np.save(tmp_path / "samples" / "q.npy", normal(5, 4))
    result = cli("score", save(tmp_path, two_inputs()), *QUICK, "--inputs", "samples")
    assert [row["source"] for row in fed(valid(result.stdout)).values()] == ["synthetic", "file"]
    assert [row["shape"] for row in fed(valid(result.stdout)).values()] == [[5, 4], [5, 4]]


@pytest.mark.parametrize(("first", "second"), [("a:b", "a=b"), ("x=1", "x"), ("p=@q", "serving:0=@p")])
def test_names_with_signs_are_fed(cli: Run, tmp_path: Path, first: str, second: str):
    file = save(tmp_path, two_inputs(first, second))
    np.save(tmp_path / "one.npy", normal(5, 4))
    options = ("--input", f"{first}=2.5", "--input", f"{second}=@one.npy")
    data = valid(cli("score", file, *QUICK, *options).stdout)
    assert data["settings"]["inputs"] == {first: "2.5", second: "@one.npy"}


REFUSED = [
    ("x=@five.npy", "input 'x' takes Nx4, and what is given has shape 2x5. Give an array of shape anyx4"),
    ("x=1,2", "input 'x' takes Nx4, and what is given has shape 2. Give one number, or 4 of them"),
    ("z=1", "the model has no input 'z'. Its inputs are 'x', 'q'"),
    ("x=@none.npy", "cannot read none.npy: no such file"),
    ("x=@model.onnx", "cannot read model.onnx: "),
    ("x=@names.npz", "names.npz has no array 'x'. Its arrays are 'a', 'b'"),
    ("x=1e39", "input 'x' takes float32, which does not hold 1e+39. Give values that it holds"),
    ("x=nan", "what is given for input 'x' holds NaN"),
]


@pytest.mark.parametrize("command", ["score", "audit"])
@pytest.mark.parametrize(("option", "said"), REFUSED)
def test_what_does_not_fit_is_one_line_before_any_run(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, option: str, said: str
):
    file = save(tmp_path, two_inputs())
    np.save(tmp_path / "five.npy", normal(2, 5))
    np.savez(tmp_path / "names.npz", a=normal(2, 4), b=normal(2, 4))
    monkeypatch.setattr("intrain_onnx.measure.inputs.draw", None)
    result = cli(command, file, "--input", option)
    assert result.exit_code == 2, result.output
    (line,) = [text for text in result.stderr.splitlines() if text.startswith("error: ")]
    assert said in line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--input", "x"), "'x' is not NAME=1.0, NAME=1,2,3 or NAME=@FILE.npy"),
        (("--inputs", "none.npz"), "cannot read none.npz"),
        (("--inputs", "."), ". holds no arrays"),
    ],
)
def test_wrong_usage(cli: Run, tmp_path: Path, options: tuple[str, ...], said: str):
    result = cli("score", save(tmp_path, two_inputs()), *options)
    assert result.exit_code == 2
    assert said in result.stderr


def test_half_precision_is_fed_and_named_in_its_own_type():
    text = "(float16[N,4] x) => (float16[N,8] y) { y = MatMul(x, w) }"
    proto = model(text, {"w": weight(4, 8).astype(np.float16)})
    x = normal(9, 4)
    report = score(proto, ScoreConfig.for_protocol("checkpoint", inputs={"x": x}, seeds=1))
    assert fed(report.data)["x"]["sha256"] == sha256(x.astype(np.float16))
    assert report.data["parity"]["ok"]
    seen = activations(proto, ["y"], inputs={"x": x})["y"]
    expected = run_onnxruntime(proto, {"x": x.astype(np.float16)})[0]
    np.testing.assert_allclose(seen, expected, rtol=2e-3, atol=2e-3)


def test_ids_are_looked_up():
    text = "(int64[N,length] ids) => (float[N,length,5] y) { e = Gather(table, ids) y = MatMul(e, w) }"
    proto = model(text, {"table": weight(11, 6), "w": weight(6, 5)})
    ids = RNG.integers(0, 11, (7, 13), dtype=np.int32)
    seen = activations(proto, ["y"], inputs={"ids": ids})["y"]
    np.testing.assert_allclose(
        seen, run_onnxruntime(proto, {"ids": ids.astype(np.int64)})[0], rtol=1e-5, atol=1e-5
    )


def test_an_audit_runs_on_the_given_values(tmp_path: Path):
    """Noise wakes this layer, and so does no number below zero."""
    text = "(float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) r = Relu(h) y = MatMul(r, v) }"
    proto = model(text, {"w": np.abs(weight(4, 8)), "v": weight(8, 3)})
    file = save(tmp_path, proto)
    x = -np.abs(normal(12, 4))
    np.savez(tmp_path / "s.npz", x=x)
    told = policy.parse(f"[run]\nseeds = 1\nthreads = 1\n[run.inputs]\nx = '@{tmp_path}/s.npz'\n")
    evidence = gather(file, told)
    assert evidence.ranges is not None
    largest = {name: row.max_abs for name, row in evidence.ranges.values.items()}
    outputs = run_onnxruntime(proto, {"x": x}, ["h", "r"])
    assert largest["h"] == pytest.approx(np.abs(outputs[0]).max(), rel=1e-5)
    assert largest["r"] == np.abs(outputs[1]).max() == 0
    for report in evidence.reports.values():
        assert fed(report.data)["x"]["sha256"] == sha256(x)


def test_an_audit_takes_values_from_policy_and_command_line(cli: Run, tmp_path: Path):
    file = save(tmp_path, two_inputs())
    (tmp_path / "p.toml").write_text("[run]\nseeds = 1\n[run.inputs]\nx = [1, 2, 3, 4]\nq = 0.5\n")
    text = cli("audit", file, "--policy", "p.toml", "--input", "q=@none.npy").output
    assert "cannot read none.npy" in text
    result = cli("audit", file, "--policy", "p.toml", "--format", "json")
    assert json.loads(result.stdout)["audits"][0]["error"] is None


def test_a_baseline_of_other_values_is_not_comparable(cli: Run, tmp_path: Path):
    file = save(tmp_path, two_inputs())
    one, other = normal(16, 4), normal(16, 4)
    for name, array in (("one", one), ("other", other)):
        np.save(tmp_path / f"{name}.npy", array)
    score(file, ScoreConfig.for_protocol("checkpoint", inputs={"x": one})).save(tmp_path / "b.json")

    def checks(name: str) -> set[str]:
        options = ("--baseline", "b.json", "--input", f"x=@{name}.npy", "--format", "json")
        audits = json.loads(cli("audit", file, *options).stdout)["audits"]
        return {row["check"] for row in audits[0]["findings"]}

    assert "baseline-settings" not in checks("one")
    assert "baseline-settings" in checks("other")


def test_inspect_takes_the_sizes_of_given_arrays():
    text = "(float[N,length,4] x) => (float[N,length,8] y) { y = MatMul(x, w) }"
    config = ScoreConfig.for_protocol(inputs={"x": normal(3, 10, 4)})
    assert inspect(model(text, WEIGHTS), config).data["model"]["macs"] == 10 * 4 * 8


def test_the_library_refuses_what_is_no_number():
    with pytest.raises(SettingsError, match="what is given for input 'x' is"):
        score(two_inputs(), ScoreConfig.for_protocol(inputs={"x": "word"}))
