#!/usr/bin/env python3
"""Make the matrix: each network written in each framework, by each exporter.

Also the samples as optimisers leave them, and estimators of scikit-learn.

    python tests/matrix/make.py                  # all that is missing, some minutes
    python tests/matrix/make.py keras paddle     # of some exporters or optimisers
    python tests/matrix/make.py --list           # every cell, and where it is

The files lie in the cache folder of tests/models/fetch.py, and frameworks other than PyTorch run in virtual
environments of pinned versions there. The name of a file contains a digest of its recipe, source included.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(HERE.parent) not in sys.path:
    sys.path.insert(0, str(HERE.parent))

from models.fetch import KERAS_PINS, MissingModel, cache, environment_python, installed, locked  # noqa: E402

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
    nets: str = ""
    pins: tuple[str, ...] = ()  # empty: run by this Python
    channels_last: bool = False

    def arguments(self, name: str) -> list[str]:
        """Return the command line for one file, without ``--output``."""
        if self.script == "tests/matrix/optimise.py":
            return [*self.options, f"samples/{name}.onnx"]
        if self.script == "tests/matrix/saved_model.py":
            return [name]
        factory = ["--factory", f"tests/matrix/{self.nets}.py:{name}", "--seed", "0"]
        if self.script in ("converters/from_keras.py", "converters/from_sklearn.py"):
            return [*factory, *self.options]
        image = "1x32x32x3" if self.channels_last else "1x3x32x32"
        given = {"mlp": "features=1x64", "lstm": "ids=1x16:128"}.get(name, f"image={image}")
        return [*factory, "--input", given, *self.options]

    def digest(self, name: str) -> str:
        """Return a digest of all that a file comes from."""
        sources = [self.script, f"tests/matrix/{self.nets}.py"]
        if self.script == "tests/matrix/saved_model.py":
            sources += ["converters/from_tensorflow.py", "converters/from_keras.py"]
        if self.script == "tests/matrix/optimise.py":
            sources[1:] = [f"samples/{name}.onnx"]
        parts = [hashlib.sha256((ROOT / source).read_bytes()).hexdigest() for source in sources]
        versions = self.pins or (installed("torch"), installed("onnxscript"))
        return hashlib.sha256(repr((parts, self.arguments(name), versions)).encode()).hexdigest()[:10]


def pytorch(*options: str) -> Maker:
    return Maker("converters/from_pytorch.py", ("--warm-up", "2", "--exporter", *options), "nets_pytorch")


EXPORTERS = {
    "torchscript": pytorch("torchscript"),
    "torchscript_training": pytorch("torchscript", "--training-preserving"),
    "dynamo": pytorch("dynamo"),
    "keras": Maker("converters/from_keras.py", ("--high", "128"), "nets_keras", KERAS_PINS),
    "tensorflow": Maker("tests/matrix/saved_model.py", (), "nets_keras", KERAS_PINS),
    "jax": Maker("converters/from_jax.py", (), "nets_jax", JAX_PINS, channels_last=True),
    "paddle": Maker("converters/from_paddle.py", ("--warm-up", "2"), "nets_paddle", PADDLE_PINS),
}
OPTIMISERS = {
    tool: Maker("tests/matrix/optimise.py", (tool,), pins=OPTIMISER_PINS) for tool in ("onnxsim", "onnxslim")
}
SAMPLES = tuple(sorted(path.stem for path in (ROOT / "samples").glob("*.onnx")))
ESTIMATORS = ("classifier", "binary", "regressor", "pipeline")
SKLEARN = Maker("converters/from_sklearn.py", (), "nets_sklearn", SKLEARN_PINS)
MAKERS = EXPORTERS | OPTIMISERS | {"sklearn": SKLEARN}

UNREACHED = {
    (
        "lstm",
        "jax",
    ): "jax2onnx 0.17 can't trace Flax's RNN (shapes become tracers), and writes a lax.scan as a "
    "Loop over products: no LSTM is left to compare",
}
"""Cells that no file can be made for, with the reason."""


def cells(maker: str) -> tuple[str, ...]:
    """Return the networks, samples or estimators that a maker makes."""
    if maker in OPTIMISERS:
        return SAMPLES
    if maker == "sklearn":
        return ESTIMATORS
    return tuple(name for name in NETWORKS if (name, maker) not in UNREACHED)


def target(name: str, maker: str) -> Path:
    """Return where the file of a cell lies once it is made."""
    return cache() / f"matrix-{maker}-{name}-{MAKERS[maker].digest(name)}.onnx"


def path(name: str, maker: str) -> Path:
    """Return the file of a cell; raise MissingModel if it is not there. Makes nothing."""
    file = target(name, maker)
    if not file.is_file():
        raise MissingModel(f"{file.name} is not in {cache()}: run `python tests/matrix/make.py {maker}`")
    return file


def make(maker: str) -> bool:
    """Make the missing files of one maker in one process, and print a line for each."""
    with locked(f"matrix-{maker}"), tempfile.TemporaryDirectory(dir=cache()) as folder:
        missing = [name for name in cells(maker) if not target(name, maker).is_file()]
        if not missing:
            return True
        recipe = MAKERS[maker]
        python = environment_python(recipe.pins) if recipe.pins else Path(sys.executable)
        start = time.monotonic()
        outputs = [Path(folder) / f"{name}.onnx" for name in missing]
        lines = [
            json.dumps([*recipe.arguments(name), "--output", str(output)])
            for name, output in zip(missing, outputs, strict=True)
        ]
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
        answers += [[False, done.stderr[-2000:]]] * (len(missing) - len(answers))
        good = True
        for name, output, (well, said) in zip(missing, outputs, answers, strict=True):
            good &= well
            if well:
                os.replace(output, target(name, maker))
            line = said.replace(str(output), name) if well else f"{name}: MISSING: {said}"
            print(f"{maker} {line}", flush=True)
        print(f"{maker}: {len(missing)} files in {time.monotonic() - start:.0f} s", flush=True)
    return good


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("makers", nargs="*", metavar="NAME", help=f"of {', '.join(MAKERS)} (default: all)")
    parser.add_argument("--list", action="store_true", help="print every cell and its file, make nothing")
    args = parser.parse_args()
    if unknown := set(args.makers) - set(MAKERS):
        parser.error(f"no such exporter or optimiser: {', '.join(sorted(unknown))}")
    chosen = args.makers or list(MAKERS)
    if args.list:
        for maker in chosen:
            for name in cells(maker):
                file = target(name, maker)
                print(f"{maker} {name}: {file if file.is_file() else 'missing'}")
        return 0
    with ThreadPoolExecutor(2) as pool:
        return 0 if all(list(pool.map(make, chosen))) else 1


if __name__ == "__main__":
    sys.exit(main())
