"""The converters refuse what can run code, and leave trained models as they are.

PyTorch's runs here. The others need frameworks that the tests do without: they are skipped where those are
not installed, and `python tests/fixtures/make.py`, which installs them, runs this file with them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from matrix.make import JAX_PINS, PADDLE_PINS, SKLEARN_PINS
from models import exports
from models.fetch import KERAS_PINS, ROOT, MissingModel, environment_python

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

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
    """Run this in the environment of these packages; without it, skip with the reason."""
    try:
        python = environment_python(pins, make=False)
    except MissingModel as error:
        if os.environ.get("INTRAIN_ONNX_FRAMEWORKS"):
            pytest.fail(str(error), pytrace=False)
        pytest.skip(str(error))
    command = [str(a) for a in (python, "-W", "ignore", *arguments)]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env=os.environ | quiet, cwd=ROOT
    )


def converted(pins: tuple[str, ...], script: str, *arguments: str | Path) -> str:
    """Run a converter that must succeed, PyTorch's in this process; return what it said."""
    if not pins:
        module = exports.converter()
        return str(module.convert(module.parse_arguments([str(a) for a in arguments])))
    done = run(pins, f"converters/{script}", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def moved(model: Path, record: Path) -> float:
    """How far a file's last output is from what the network computed when it was made, relative."""
    known = np.load(record)
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    got = session.run(None, {session.get_inputs()[0].name: known["x"]})[-1]
    return float(np.abs(got - known["y"]).max() / np.abs(known["y"]).max())


ROUND_OFF = 1e-5
NCHW, NHWC = ("--input", "1x3x8x8"), ("--input", "1x8x8x3")
NOISE = ("--warm-up", "3")
TRAINED = {
    "keras": (KERAS_PINS, (), ("trained", "frozen", "compiled", "half_trained")),
    "keras, asked": (KERAS_PINS, NOISE, ("all_trained",)),
    "pytorch": ((), NCHW, ("trained", "half_trained")),
    "pytorch, TorchScript": ((), (*NCHW, "--exporter", "torchscript"), ("trained",)),
    "pytorch, BatchNorm kept": ((), (*NCHW, "--training-preserving"), ("trained",)),
    "pytorch, asked": ((), (*NCHW, *NOISE), ("trained",)),
    "paddle": (PADDLE_PINS, NCHW, ("trained", "half_trained")),
    "paddle, asked": (PADDLE_PINS, (*NCHW, *NOISE), ("trained",)),
    "jax": (JAX_PINS, NHWC, ("trained", "half_trained", "linen_trained", "linen_pair")),
    "jax, asked": (JAX_PINS, (*NHWC, *NOISE), ("trained",)),
    "sklearn": (SKLEARN_PINS, (), ("trained",)),
}


def from_factory(way: str, options: Sequence[str], name: str, folder: Path) -> tuple[str, float]:
    """Convert a network of tests/trained; return what was said, and how far its outputs moved."""
    framework, pins = way.partition(",")[0], TRAINED[way][0]
    kwargs = json.dumps({"record": str(folder / "record.npz")})
    factory = ("--factory", f"{ROOT}/tests/trained/nets_{framework}.py:{name}", "--kwargs", kwargs)
    said = converted(pins, f"from_{framework}.py", *factory, *options, "-o", folder / "model.onnx")
    return said, moved(folder / "model.onnx", folder / "record.npz")


@pytest.mark.parametrize(("way", "name"), [(way, name) for way, row in TRAINED.items() for name in row[2]])
def test_a_trained_network_keeps_its_outputs(way: str, name: str, tmp_path: Path):
    said, distance = from_factory(way, TRAINED[way][1], name, tmp_path)
    assert distance < ROUND_OFF, said
    assert "batches of noise" not in said


@pytest.mark.parametrize("way", ["keras", "pytorch", "paddle", "jax"])
def test_fresh_statistics_move_and_the_line_says_how_far(way: str, tmp_path: Path):
    asked = () if way == "keras" else NOISE  # it can tell that nothing was trained
    said, distance = from_factory(way, (*TRAINED[way][1], *asked), "fresh", tmp_path)
    assert distance > 1e-3
    told = re.search(r"noise for the fresh statistics of 2 BatchNorm, which moved the outputs by (\S+)", said)
    assert told, said
    assert 0.1 < float(told[1]) / distance < 10  # on other inputs


@pytest.mark.parametrize("way", ["keras", "pytorch", "paddle", "jax"])
def test_noise_that_is_asked_for_moves_fresh_statistics_alone(way: str, tmp_path: Path):
    keep = ("--training-preserving",) if way == "pytorch" else ()
    said, distance = from_factory(way, (*TRAINED[way][1], *NOISE, *keep), "half_trained", tmp_path)
    assert distance > 1e-4
    assert "3 batches of noise for the fresh statistics of 1 BatchNorm" in said
    if way in ("pytorch", "paddle", "jax"):  # TensorFlow folds
        model = onnx.load(tmp_path / "model.onnx")
        values = {t.name: t for t in model.graph.initializer}
        values |= {n.output[0]: n.attribute[0].t for n in model.graph.node if n.op_type == "Constant"}
        means = [
            onnx.numpy_helper.to_array(values[n.input[3]])
            for n in model.graph.node
            if n.op_type == "BatchNormalization"
        ]
        assert len(means) == 2
        assert np.allclose(means[0], np.linspace(-1, 1, 8), atol=1e-6)
        assert np.abs(means[1]).max() > 1e-4


def test_a_trained_saved_model_keeps_its_outputs(tmp_path: Path):
    made = run(KERAS_PINS, "tests/trained/nets_tensorflow.py", tmp_path / "saved", tmp_path / "record.npz")
    assert made.returncode == 0, made.stderr
    converted(KERAS_PINS, "from_tensorflow.py", tmp_path / "saved", "-o", tmp_path / "model.onnx")
    assert moved(tmp_path / "model.onnx", tmp_path / "record.npz") < ROUND_OFF


def test_a_keras_file_with_a_custom_layer_needs_the_file_that_registers_it(tmp_path: Path):
    save = "import sys; sys.path.insert(0, sys.argv[1]); import nets_keras; "
    save += "nets_keras.trained(sys.argv[3]).save(sys.argv[2])"
    saved, record, output = (tmp_path / name for name in ("model.keras", "record.npz", "model.onnx"))
    assert run(KERAS_PINS, "-c", save, "tests/trained", saved, record).returncode == 0
    refused = run(KERAS_PINS, "converters/from_keras.py", saved, "-o", output)
    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "the custom Doubled" in refused.stderr.splitlines()[-1]
    assert "--import FILE.py" in refused.stderr
    for option in ("--import", "--register"):  # its name at first
        output.unlink(missing_ok=True)
        converted(KERAS_PINS, "from_keras.py", saved, option, "tests/trained/nets_keras.py", "-o", output)
        assert moved(output, record) < ROUND_OFF


@pytest.fixture(scope="module")
def trained_keras(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained Keras network in every form, and of its record."""
    folder = tmp_path_factory.mktemp("trained_keras")
    made = run(KERAS_PINS, "tests/trained/nets_accuracy.py", folder)
    assert made.returncode == 0, made.stderr
    return folder


ACCURACY = "tests/trained/nets_accuracy.py"
FORMS = {
    ".keras": ("from_keras.py", "{0}/model.keras", "--import", ACCURACY),
    ".h5": ("from_keras.py", "{0}/model.h5", "--import", ACCURACY),
    "factory": ("from_keras.py", "--factory", f"{ACCURACY}:restored", "--kwargs", '{{"folder": "{0}"}}'),
    "SavedModel": ("from_tensorflow.py", "{0}/saved"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_trained_keras_network_classifies_alike_by_every_way(
    form: str, trained_keras: Path, tmp_path: Path
):
    """BatchNorm, trained, and a layer that is registered nowhere: one command for each form."""
    script, *arguments = FORMS[form]
    converted(
        KERAS_PINS, script, *(a.format(trained_keras) for a in arguments), "-o", tmp_path / "model.onnx"
    )
    known = np.load(trained_keras / "record.npz")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    [scores] = session.run(None, {session.get_inputs()[0].name: known["x"]})
    found = scores.argmax(axis=1)
    of_keras, of_file, harmed = (
        float(np.mean(classes == known["y"])) for classes in (known["given"], found, known["harmed"])
    )
    print(f"accuracy of Keras {of_keras:.3f}, of the file {of_file:.3f}, after two noise passes {harmed:.3f}")
    assert of_keras - harmed > 0.05, "a converter that trains would be seen"
    assert of_file == of_keras > 0.9
    assert np.array_equal(found, known["given"])


LACKED = """
import sys

import tensorflow as tf

class Module(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 4], tf.float32, "x")])
    def divided(self, x):
        return {"y": tf.math.xdivy(x, x * x + 3.0)}

tf.saved_model.save(tf.Module(), sys.argv[1], signatures=Module().divided.get_concrete_function())
"""
HANDLER = """
import tf2onnx.handler

@tf2onnx.handler.tf_op("Xdivy", onnx_op="Div")
class Xdivy:
    @classmethod
    def version_1(cls, ctx, node, **kwargs):
        pass
"""


def test_an_operator_that_tf2onnx_lacks_comes_from_a_file(tmp_path: Path):
    """Xdivy is Div here, as its divisor is never 0."""
    assert run(KERAS_PINS, "-c", LACKED, tmp_path / "saved").returncode == 0
    refused = run(KERAS_PINS, "converters/from_tensorflow.py", tmp_path / "saved", "-o", tmp_path / "m.onnx")
    assert refused.returncode == 1
    [line] = refused.stderr.splitlines()
    assert "Xdivy" in line
    (tmp_path / "handler.py").write_text(HANDLER)
    added = ("--import", tmp_path / "handler.py")
    converted(KERAS_PINS, "from_tensorflow.py", tmp_path / "saved", *added, "-o", tmp_path / "m.onnx")
    assert [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node][-1] in ("Div", "Identity")


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
