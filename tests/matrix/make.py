"""The cells of the matrix: each network written in each framework, by each exporter, and how one is made.

Also the samples as optimisers leave them, estimators of scikit-learn, and narrow networks of
keras.applications. ``tests/fixtures/make.py`` makes the files that are committed; frameworks other than
PyTorch run in virtual environments of pinned versions.
"""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(HERE.parent) not in sys.path:
    sys.path.insert(0, str(HERE.parent))

import fixtures  # noqa: E402
from models.fetch import KERAS_PINS, SLIM, MissingModel, environment_python  # noqa: E402

NETWORKS = (
    "cnn",
    "resnet_basic",
    "resnet_bottleneck",
    "mobilenet",
    "se_net",
    "densenet",
    "mlp",
    "vit_mean",
    "vit_token",
    "lstm",
)
JAX_PINS = (
    "jax==0.10.2",
    "flax==0.12.8",
    "jax2onnx==0.17.1",
    "onnx==1.23.2",
    "onnx-ir==1.1.0",
    "onnxruntime==1.32.0",
    "numpy==2.4.6",
    "protobuf==7.36.2",
)
PADDLE_PINS = (
    "paddlepaddle==3.3.1",
    "paddle2onnx==2.1.0",
    "onnx==1.17.0",
    "onnxruntime==1.32.0",
    "numpy==2.4.6",
    "protobuf==7.36.2",
    "setuptools==65.5.0",
)
OPTIMISER_PINS = (
    "onnxsim==0.8.1",
    "onnxslim==0.1.98",
    "onnx==1.23.2",
    "numpy==2.4.6",
    "protobuf==7.36.2",
)


SKLEARN_PINS = (
    "scikit-learn==1.9.1",
    "skl2onnx==1.20.0",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "numpy==2.4.6",
    "protobuf==7.36.2",
)


@dataclass(frozen=True)
class Maker:
    """A script that makes files."""

    script: str
    options: tuple[str, ...] = ()
    nets: str = ""  # a file of networks
    pins: tuple[str, ...] = ()  # empty: run by this Python
    channels_last: bool = False

    def arguments(self, name: str) -> list[str]:
        """Return the command line for one file, without ``--output``."""
        if self.script == "tests/matrix/optimise.py":
            return [*self.options, f"samples/{name}.onnx"]
        if self.script == "tests/matrix/saved_model.py":
            return [name]
        factory = ["--factory", f"{self.nets}:{name}", "--seed", "0"]
        if self.script in ("converters/from_keras.py", "converters/from_sklearn.py"):
            return [*factory, *self.options]
        image = "1x32x32x3" if self.channels_last else "1x3x32x32"
        given = {"mlp": "features=1x64", "lstm": "ids=1x16:128"}.get(name, f"image={image}")
        return [*factory, "--input", given, *self.options]


def pytorch(*options: str) -> Maker:
    return Maker(
        "converters/from_pytorch.py",
        ("--warm-up", "2", "--exporter", *options),
        "tests/matrix/nets_pytorch.py",
    )


EXPORTERS = {
    "torchscript": pytorch("torchscript"),
    "torchscript_training": pytorch("torchscript", "--training-preserving"),
    "dynamo": pytorch("dynamo"),
    "keras": Maker("converters/from_keras.py", ("--high", "128"), "tests/matrix/nets_keras.py", KERAS_PINS),
    "tensorflow": Maker("tests/matrix/saved_model.py", pins=KERAS_PINS),
    "jax": Maker("converters/from_jax.py", (), "tests/matrix/nets_jax.py", JAX_PINS, channels_last=True),
    "paddle": Maker(
        "converters/from_paddle.py", ("--warm-up", "2"), "tests/matrix/nets_paddle.py", PADDLE_PINS
    ),
}
OPTIMISERS = {
    tool: Maker("tests/matrix/optimise.py", (tool,), pins=OPTIMISER_PINS) for tool in ("onnxsim", "onnxslim")
}
SAMPLES = tuple(sorted(path.stem for path in (ROOT / "samples").glob("*.onnx")))
ESTIMATORS = ("classifier", "binary", "regressor", "pipeline")
SKLEARN = Maker("converters/from_sklearn.py", (), "tests/matrix/nets_sklearn.py", SKLEARN_PINS)
KERAS_SLIM = Maker("converters/from_keras.py", (), "tests/models/nets_keras.py", KERAS_PINS)
MAKERS = EXPORTERS | OPTIMISERS | {"sklearn": SKLEARN, "keras_slim": KERAS_SLIM}

UNREACHED = {
    (
        "lstm",
        "jax",
    ): "jax2onnx 0.17 can't trace Flax's RNN (shapes become tracers), and writes a lax.scan as a "
    "Loop over products: no LSTM is left to compare",
}
"""Cells that no file can be made for, with the reason."""


def cells(maker: str) -> tuple[str, ...]:
    """Return the names of what a maker makes."""
    if maker in OPTIMISERS:
        return SAMPLES
    if maker == "sklearn":
        return ESTIMATORS
    if maker == "keras_slim":
        return tuple(SLIM)
    return tuple(name for name in NETWORKS if (name, maker) not in UNREACHED)


def file_name(name: str, maker: str) -> str:
    """Return the name of a cell's file, without ``.onnx``."""
    return name if maker == "keras_slim" else f"matrix-{maker}-{name}"


def path(name: str, maker: str) -> Path:
    """Return the file of a cell."""
    return fixtures.path(file_name(name, maker))


def write(maker: str, folder: Path) -> None:
    """Make all files of a maker in one process, and print a line for each.

    Raises:
        MissingModel: one could not be made.
    """
    recipe, outputs = MAKERS[maker], {n: folder / f"{file_name(n, maker)}.onnx" for n in cells(maker)}
    python = environment_python(recipe.pins) if recipe.pins else Path(sys.executable)
    lines = [json.dumps([*recipe.arguments(name), "--output", str(file)]) for name, file in outputs.items()]
    done = subprocess.run(
        [python, HERE / "drive.py", ROOT / recipe.script],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | {"CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"},
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    answers += [[False, done.stderr[-2000:]]] * (len(lines) - len(answers))
    for (name, file), (well, said) in zip(outputs.items(), answers, strict=True):
        if not well:
            raise MissingModel(f"{maker} {name}: {said}")
        print(f"{maker} {said.replace(str(file), name)}", flush=True)
