"""The converters refuse what can run code, unless told that it may."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from matrix.make import PADDLE_PINS, SKLEARN_PINS
from models.fetch import KERAS_PINS, ROOT, MissingModel, environment_python

SAVED_MODELS = """
import sys
import tensorflow as tf

class Module(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
    def sum(self, x):
        return {"y": x @ tf.ones((4, 2))}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
    def python(self, x):
        return {"y": tf.ensure_shape(tf.numpy_function(abs, [x], tf.float32), [None, 4])}

    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
    def file(self, x):
        return {"y": x + tf.strings.to_number(tf.io.read_file("/etc/hostname"))}

for name in sys.argv[2:]:
    module = Module()
    signature = getattr(module, name).get_concrete_function()
    holder = tf.Module()
    tf.saved_model.save(holder, f"{sys.argv[1]}/{name}", signatures=signature)
"""


def run(pins: tuple[str, ...], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run this in the environment of these packages; without one, fail in CI and skip elsewhere."""
    try:
        python = environment_python(pins, make=False)
    except MissingModel as error:
        if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    command = [str(a) for a in (python, "-W", "ignore", *arguments)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | quiet, cwd=ROOT
    )


@pytest.mark.parametrize(
    ("pins", "script", "arguments"),
    [
        (SKLEARN_PINS, "from_sklearn.py", ["model.joblib"]),
        (SKLEARN_PINS, "from_sklearn.py", ["model.pkl"]),
        (
            PADDLE_PINS,
            "from_paddle.py",
            ["--factory", "tests/matrix/nets_paddle.py:mlp", "--input", "1x64", "--weights", "w.pdparams"],
        ),
    ],
)
def test_a_pickle_is_refused_before_it_is_opened(
    pins: tuple[str, ...], script: str, arguments: list[str], tmp_path: Path
):
    output = tmp_path / "model.onnx"
    done = run(pins, f"converters/{script}", *arguments, "-o", output)
    assert done.returncode == 1
    assert "a pickle, which can run code" in done.stderr
    assert "--allow-pickle" in done.stderr
    assert not output.exists()


def test_a_saved_model_that_does_more_than_arithmetic_is_refused(tmp_path: Path):
    names = ("sum", "python", "file")
    made = run(KERAS_PINS, "-c", SAVED_MODELS, tmp_path, *names)
    assert made.returncode == 0, made.stderr
    said = {}
    for name in names:
        done = run(
            KERAS_PINS, "converters/from_tensorflow.py", tmp_path / name, "-o", tmp_path / f"{name}.onnx"
        )
        said[name] = done.stdout + done.stderr
    assert "batch free, max |difference| to TensorFlow" in said["sum"]
    assert "holds PyFunc" in said["python"]
    assert "holds ReadFile" in said["file"]
    assert [p.name for p in tmp_path.glob("*.onnx")] == ["sum.onnx"]
