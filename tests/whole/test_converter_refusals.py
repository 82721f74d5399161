"""What a converter refuses is one line that says what to do, without a traceback, in all scripts alike."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from matrix.make import JAX_PINS, PADDLE_PINS, SKLEARN_PINS
from models.fetch import KERAS_PINS, MissingModel, environment_python

ROOT = Path(__file__).parents[2]
SCRIPTS = {file.stem.removeprefix("from_"): file for file in sorted(ROOT.glob("converters/from_*.py"))}
PINS = {
    "jax": JAX_PINS,
    "keras": KERAS_PINS,
    "paddle": PADDLE_PINS,
    "sklearn": SKLEARN_PINS,
    "tensorflow": KERAS_PINS,
}
MODULE = {"pytorch": "torch", "sklearn": "skl2onnx"}
"""The module without which a script cannot run, where it has another name."""

FACTORY = "tests/trained/nets_refused.py"
WITHOUT = (
    "import sys, runpy; sys.modules[sys.argv[1]] = None; sys.argv = sys.argv[2:];"
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)
"""Runs a script where a module cannot be imported."""


def without(module: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT, module, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def with_framework(framework: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a converter where its framework is; skip with the reason where it is not."""
    python = Path(sys.executable)
    if framework in PINS:
        try:
            python = environment_python(PINS[framework], make=False)
        except MissingModel as error:
            if os.environ.get("INTRAIN_ONNX_FRAMEWORKS"):
                pytest.fail(str(error), pytrace=False)
            pytest.skip(str(error))
    command = [str(python), str(SCRIPTS[framework]), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)


def needs_input(framework: str) -> bool:
    return framework in ("pytorch", "jax", "paddle")


def asked(framework: str, output: Path) -> list[str]:
    """The options that a conversion needs, but for its model."""
    return [*(["--input", "1x4"] if needs_input(framework) else []), "-o", str(output)]


def refuses(done: subprocess.CompletedProcess[str], code: int, *words: str) -> None:
    assert done.returncode == code, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("framework", SCRIPTS)
def test_help_needs_no_framework(framework: str):
    done = without(MODULE.get(framework, framework), SCRIPTS[framework], "--help")
    assert done.returncode == 0, done.stderr
    assert "--output FILE.onnx" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("framework", SCRIPTS)
def test_a_framework_that_is_not_installed_is_named_with_what_brings_it(framework: str, tmp_path: Path):
    module = MODULE.get(framework, framework)
    model = ["model"] if framework == "tensorflow" else ["--factory", f"{FACTORY}:nothing"]
    done = without(module, SCRIPTS[framework], *model, *asked(framework, tmp_path / "m.onnx"))
    refuses(done, 1, f"from_{framework}.py", f"{module}", f"`uv run {SCRIPTS[framework]}`", "pip install '")
    block = SCRIPTS[framework].read_text(encoding="utf-8").split("# ///")[1]
    for package in ast.literal_eval("[" + block.split("[")[1].split("]")[0].replace("#", "") + "]"):
        assert f"'{package}'" in done.stderr


WITH_FACTORY = [f for f in SCRIPTS if f != "tensorflow"]
GIVEN = ("--factory", f"{FACTORY}:nothing")
USAGE = {
    "no such folder": ((*GIVEN, "-o", "nowhere/model.onnx"), "nowhere/model.onnx: no such folder"),
    "no model": ((), "required"),
    "an unknown option": ((*GIVEN, "--colour=red"), "--colour=red"),
    "kwargs that are no JSON": ((*GIVEN, "--kwargs", "{width: 3}"), "is not JSON"),
    "kwargs that are no object": ((*GIVEN, "--kwargs", "3"), "not a JSON object"),
    "an input that is no shape": ((*GIVEN, "--input", "3,4"), "'3,4' is not"),
}


def usage_cases() -> list[tuple[str, str]]:
    cases = [(framework, case) for framework in WITH_FACTORY for case in USAGE]
    return [(f, c) for f, c in cases if needs_input(f) or c != "an input that is no shape"]


@pytest.mark.parametrize(("framework", "case"), usage_cases())
def test_wrong_usage_is_one_line_before_the_framework_loads(framework: str, case: str, tmp_path: Path):
    arguments, word = USAGE[case]
    more = () if "-o" in arguments else asked(framework, tmp_path / "m.onnx")
    done = without(MODULE.get(framework, framework), SCRIPTS[framework], *more, *arguments)
    refuses(done, 2, f"from_{framework}.py", word, "--help")


@pytest.mark.parametrize("arguments", [(), ("folder", "--colour=red"), ("folder", "--shape", "3,4")])
def test_wrong_usage_for_a_saved_model_is_one_line(arguments: tuple[str, ...], tmp_path: Path):
    done = without("tensorflow", SCRIPTS["tensorflow"], *arguments, "-o", tmp_path / "m.onnx")
    refuses(done, 2, "from_tensorflow.py", "--help", arguments[-1] if arguments else "model")


FACTORIES = {
    "raises": ("raises", (), f"--factory {FACTORY}:raises: ValueError: no network of 1 (--debug"),
    "kwargs": ("raises", ("--kwargs", '{"depth": 2}'), "unexpected keyword argument 'depth'"),
    "returns no network": ("nothing", (), f"{FACTORY}:nothing"),
    "lacks a module": ("loop", (), "No module named 'a_module_that_nobody_has' (--debug"),
    "is no function": ("not_callable", (), f"{FACTORY} has no callable not_callable"),
    "is not there": ("nobody", (), f"{FACTORY} has no callable nobody"),
}


@pytest.mark.parametrize("case", FACTORIES)
@pytest.mark.parametrize("framework", WITH_FACTORY)
def test_what_a_factory_does_wrong_is_one_line(framework: str, case: str, tmp_path: Path):
    name, options, word = FACTORIES[case]
    more = (*options, *asked(framework, tmp_path / "model.onnx"))
    refuses(with_framework(framework, "--factory", f"{FACTORY}:{name}", *more), 1, word)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("framework", WITH_FACTORY)
def test_the_traceback_is_there_for_those_who_ask(framework: str, tmp_path: Path):
    more = asked(framework, tmp_path / "model.onnx")
    done = with_framework(framework, "--factory", f"{FACTORY}:raises", *more, "--debug")
    assert "Traceback" in done.stderr
    assert "nets_refused.py" in done.stderr


MODELS = {
    ("keras", "missing.keras"): "missing.keras: no such file",
    ("keras", "tests"): "tests: a folder",
    ("keras", "README.md"): "README.md",
    ("tensorflow", "missing"): "missing: no SavedModel",
    ("paddle", "missing.json"): "missing.json: not the .json or .pdmodel",
    ("sklearn", "missing.joblib"): "missing.joblib",
}


@pytest.mark.parametrize(("framework", "model"), MODELS)
def test_a_file_that_is_no_model_is_one_line(framework: str, model: str, tmp_path: Path):
    trusted = ["--allow-pickle"] if framework == "sklearn" else []
    done = with_framework(framework, model, *asked(framework, tmp_path / "model.onnx"), *trusted)
    refuses(done, 1, MODELS[framework, model])


LINEAR = '{"in_features": 3, "out_features": 2}'
FAULTS = {
    "an application that Keras has not": ("keras", ["--application", "MobilNet"], "MobileNetV2"),
    "an application of another size": (
        "keras",
        ["--application", "MobileNetV2", "--kwargs", '{"input_shape": [8]}'],
        "--application MobileNetV2",
    ),
    "a file that is not there to import": ("keras", ["m.keras", "--import", "missing.py"], "missing.py"),
    "a file that raises": (
        "keras",
        ["m.keras", "--import", "tests/conftest.py"],
        "--import tests/conftest.py: ModuleNotFoundError",
    ),
    "weights that are not there": (
        "pytorch",
        ["--factory", "torch.nn:Identity", "--weights", "missing.pt", "--input", "1x4"],
        "--weights missing.pt: FileNotFoundError",
    ),
    "a layer that refuses the input, of Paddle": (
        "paddle",
        ["--factory", "paddle.nn:Linear", "--kwargs", LINEAR, "--input", "1x4"],
        "the layer on --input: ValueError",
    ),
    "a module that refuses the input, of Flax": (
        "jax",
        ["--factory", "flax.nnx:Linear", "--kwargs", LINEAR, "--input", "1x4"],
        "the module on --input: TypeError",
    ),
    "a file that is not there to import, for a SavedModel": (
        "tensorflow",
        ["missing", "--import", "missing.py"],
        "missing.py",
    ),
    "a layer that refuses the input": (
        "pytorch",
        [
            "--factory",
            "torch.nn:Linear",
            "--kwargs",
            '{"in_features": 3, "out_features": 2}',
            "--input",
            "1x4",
        ],
        "the module on --input: RuntimeError",
    ),
    "weights that are no state dict": (
        "pytorch",
        ["--factory", "torch.nn:ReLU", "--input", "1x4", "--weights", "README.md"],
        "--allow-pickle",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_other_faults_are_one_line(case: str, tmp_path: Path):
    framework, arguments, word = FAULTS[case]
    refuses(with_framework(framework, *arguments, "-o", str(tmp_path / "model.onnx")), 1, word)


SHARED = ("Parser", "json_object", "output_file", "needed", "refused", "load_file", "differences")


@pytest.mark.parametrize("name", SHARED)
def test_the_scripts_stand_alone_and_their_common_parts_are_the_same(name: str):
    """A change of one is a change of all: they can't import what they share."""
    found = {}
    for framework, file in SCRIPTS.items():
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name == name:
                found[framework] = ast.unparse(node)
    assert len(found) >= 4
    assert len(set(found.values())) == 1, sorted(found)
