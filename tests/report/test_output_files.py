"""No command writes onto what it reads, or twice onto one file; it says so before it runs anything."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import model, weight
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

import intrain_onnx.audit.run
import intrain_onnx.pipeline
from intrain_onnx import Report, memory
from intrain_onnx.cli import main
from intrain_onnx.report.output_files import distinct_names, report_names

SAMPLE = Path(__file__).parents[2] / "samples" / "jax_cnn.onnx"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with two models, one with weights in files of its own, a report, a policy and a table."""
    monkeypatch.setattr(memory, "cap_process", lambda: None)
    monkeypatch.chdir(tmp_path)
    shutil.copy(SAMPLE, "m.onnx")
    proto = model("(float[N,8] x) => (float[N,4] y) { y = MatMul(x, w) }")
    proto.graph.initializer.append(numpy_helper.from_array(weight(8, 4), "w"))
    Path("sub").mkdir()
    onnx.save(proto, "e.onnx", save_as_external_data=True, location="sub/e.bin", size_threshold=0)
    Path("old.json").write_text('{"schema_version": "1.0"}')
    Path("policy.toml").write_text("")
    array = np.ones((2, 32, 32, 3), np.float32)
    np.save("given.npy", array)
    np.savez("given.npz", image=array)
    Path("arrays").mkdir()
    np.save("arrays/image.npy", array)
    Path("given.toml").write_text('[run.inputs]\nimage = "@given.npy"\n')
    Path("bench").mkdir()
    Path("bench/table.md").write_text("architecture,accuracy\n")
    return tmp_path


def call(arguments: str) -> Result:
    return CliRunner().invoke(main, arguments.split())


COMMANDS = {
    "report of the model": ("score m.onnx -o {}", "m.onnx"),
    "annotated": ("score m.onnx --annotate {}", "m.onnx"),
    "annotated weights": ("score e.onnx --annotate {}", "sub/e.bin"),
    "report over weights": ("score e.onnx -o {}", "sub/e.bin"),
    "audit": ("audit m.onnx e.onnx -o json={}", "m.onnx"),
    "audit over weights": ("audit m.onnx e.onnx -o json=x.json -o sarif={}", "sub/e.bin"),
    "audit over the policy": ("audit m.onnx --policy policy.toml -o html={}", "policy.toml"),
    "audit over the baseline": ("audit m.onnx --baseline old.json -o html={}", "old.json"),
    "page": ("report old.json -o {}", "old.json"),
    "given array": ("score m.onnx --input image=@given.npy -o {}", "given.npy"),
    "given arrays": ("score m.onnx --inputs given.npz --annotate {}", "given.npz"),
    "given arrays of a folder": ("audit m.onnx --inputs arrays -o json={}", "arrays/image.npy"),
    "given in the policy": ("audit m.onnx --policy given.toml -o json={}", "given.npy"),
}
WAYS: dict[str, Callable[[Path], str]] = {
    "itself": str,
    "another spelling": lambda file: f"sub/../{file}",
    "absolute": lambda file: str(file.absolute()),
    "a symbolic link": lambda file: linked(os.symlink, file.absolute()),
    "a hard link": lambda file: linked(os.link, file),
    "a linked folder": lambda file: f"{linked(os.symlink, file.absolute().parent)}/{file.name}",
}


def linked(link: Callable[[Path, str], None], file: Path) -> str:
    link(file, "link")
    return "link"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("command", COMMANDS)
def test_no_input_is_overwritten(command: str, way: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    def run(*_: object, **__: object) -> None:
        raise AssertionError("something was run")

    monkeypatch.setattr(intrain_onnx.pipeline, "score", run)
    monkeypatch.setattr(intrain_onnx.audit.run, "audit", run)
    text, name = COMMANDS[command]
    if way == "a hard link" and name.endswith(".bin"):
        pytest.skip("weights with other names are refused by the loader")
    output = WAYS[way](Path(name))
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    done = call(text.format(output))
    assert done.exit_code == 2, done.output
    assert len([line for line in done.stderr.splitlines() if line.lower().startswith("error: ")]) == 1
    assert output in done.stderr
    assert {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()} == before


def test_a_benchmark_keeps_its_table(folder: Path):
    done = call("bench nasbench201 --accuracies bench/table.md -o bench")
    assert done.exit_code == 2
    assert "is the table of accuracies" in done.stderr
    assert sorted(p.name for p in Path("bench").iterdir()) == ["table.md"]


@pytest.mark.parametrize(
    "arguments",
    [
        "score m.onnx -o new.json --annotate sub/../new.json",
        "score m.onnx --annotate m.intrain.json",
        "audit m.onnx -o json=new -o sarif=NEW",
        "audit m.onnx -o json=old.json -o sarif=./old.json",
    ],
)
def test_no_two_outputs_are_one(arguments: str, folder: Path):
    done = call(arguments)
    assert done.exit_code == 2, done.output
    assert "are one file" in done.stderr
    assert not Path("new.json").exists()


def test_an_old_report_is_replaced(folder: Path):
    for _ in range(2):
        assert call("score e.onnx --seeds 1 --no-parity -o sub/e.json").exit_code == 0
    assert Report.load("sub/e.json").data["model"]["path"] == "e.onnx"


def test_as_many_reports_as_models(folder: Path):
    for name in ("a/x.onnx", "a/x-2.onnx", "b/x.onnx"):
        Path(name).parent.mkdir(exist_ok=True)
        shutil.copy("m.onnx", name)
    Path("D").mkdir()
    done = call("score a/x.onnx a/x-2.onnx b/x.onnx --seeds 1 --no-parity -o D")
    assert done.exit_code == 0, done.output
    found = {p.name: Report.load(p).data["model"]["path"] for p in Path("D").iterdir()}
    assert found == {
        "x.intrain.json": "a/x.onnx",
        "x-2.intrain.json": "a/x-2.onnx",
        "x-3.intrain.json": "b/x.onnx",
    }


@pytest.mark.parametrize(
    "command", ["score m.onnx -o {}", "audit m.onnx -o json={}", "report old.json -o {}"]
)
@pytest.mark.parametrize(
    ("output", "why"),
    [
        ("none/x.html", "its folder does not exist"),
        ("m.onnx/x.html", "its folder does not exist"),
        ("sub", "is a folder"),
        ("y" * 256, "its name is too long"),
        ("closed/x.html", "cannot be written there"),
    ],
)
def test_an_output_without_a_place_is_refused_before_any_work(
    command: str, output: str, why: str, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    Path("closed").mkdir()
    access = os.access  # a superuser may write anywhere
    monkeypatch.setattr(os, "access", lambda place, mode: "closed" not in str(place) and access(place, mode))
    if (output, command.split(maxsplit=1)[0]) == ("sub", "score"):
        pytest.skip("a folder for reports")
    done = call(command.format(output))
    assert done.exit_code == 2, done.output
    assert why in done.stderr
    assert done.stdout == ""


def test_models_of_one_name_have_the_baselines_that_score_wrote(folder: Path):
    for name in ("a/x.onnx", "b/x.onnx"):
        Path(name).parent.mkdir()
        shutil.copy("m.onnx", name)
    Path("D").mkdir()
    assert call("score a/x.onnx b/x.onnx --seeds 1 --no-parity -o D").exit_code == 0
    Path("D/x-2.intrain.json").write_text("{")
    done = call("audit a/x.onnx b/x.onnx --baseline D")
    assert done.exit_code == 3
    assert "D/x-2.intrain.json: not a report" in done.stderr


@given(
    st.lists(st.text(min_size=1).filter(lambda s: "/" not in s and "\0" not in s), max_size=5),
    st.integers(1, 300),
)
def test_names_of_reports_are_distinct_and_fit(stems: list[str], times: int):
    models = [Path("d") / (stem * times) for stem in stems if "." not in stem and stem.isprintable()]
    found = report_names(models)
    assert len(set(found)) == len(models)
    assert all(len(os.fsencode(name)) <= 255 for name in found)


STEMS = st.builds(
    "{}{}".format, st.sampled_from(["x", "X", "e\u0301", "\u00e9"]), st.sampled_from(["", "-2", "-3"])
)


@given(st.lists(STEMS, max_size=8))
def test_names_are_distinct_and_kept_where_they_can_be(names: list[str]):
    found = distinct_names(names)
    plain = [name.replace("e\u0301", "\u00e9").lower() for name in names]
    assert len({name.replace("e\u0301", "\u00e9").lower() for name in found}) == len(names)
    for name, unique, folded in zip(names, found, plain, strict=True):
        assert unique == name or unique.startswith(f"{name}-")
        assert unique == name or plain.count(folded) > 1
