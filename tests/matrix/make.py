"""The cells of the matrix: each network written in each framework, by each exporter, and how one is made.

Also the samples as optimisers leave them, estimators of scikit-learn, narrow networks of keras.applications,
and networks with unusual signatures by both of PyTorch's exporters. ``tests/fixtures/make.py`` makes the
files that are committed; frameworks other than PyTorch run in virtual environments of pinned versions.
"""

import json
import os
import subprocess
import sys
import sysconfig
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

LIBRARY_PINS = ("transformers==5.24.0", "diffusers==0.42.1", "torch_geometric==2.8.1", "numpy==2.4.6")
"""Libraries that define networks of PyTorch, used by the PyTorch that runs this."""


@dataclass(frozen=True)
class Maker:
    """A script that makes files."""

    script: str
    options: tuple[str, ...] = ()
    nets: str = ""  # a file of networks
    pins: tuple[str, ...] = ()  # empty: run by this Python
    beside: bool = False  # run by this Python with the pinned packages beside its own
    channels_last: bool = False

    def arguments(self, name: str) -> list[str]:
        """Return the command line for one file, without ``--output``."""
        if self.script == "tests/matrix/optimise.py":
            return [*self.options, f"samples/{name}.onnx"]
        if self.script == "tests/matrix/signatures.py":
            return [name, *self.options]
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
SIGNATURES = (
    *("llama_cache", "t5_step", "bart_step", "whisper_encoder", "whisper_decoder", "whisper_step", "clip"),
    *("sam_decoder", "vits_piper", "vits_plain", "gat", "gat_loops", "gcn_pool", "unet_diffusion"),
    *("wav2vec2_ctc", "ctc_lstm", "siamese", "faster_rcnn", "ssdlite", "dlrm_offsets", "bert_masked"),
    *("key_padding", "time_series", "two_tower", "rnnt", "edm_sigma", "detr", "layoutlm"),
)
SIGNATURE_NETS = tuple(
    f"tests/matrix/nets_{name}.py" for name in ("signatures", "masks", "text", "libraries")
)
SIGNATURE_MAKERS = {
    f"signatures_{name}": Maker("tests/matrix/signatures.py", (name,), pins=LIBRARY_PINS, beside=True)
    for name in ("torchscript", "dynamo")
}
MAKERS = EXPORTERS | OPTIMISERS | {"sklearn": SKLEARN, "keras_slim": KERAS_SLIM} | SIGNATURE_MAKERS

UNREACHED = {
    (
        "lstm",
        "jax",
    ): "jax2onnx 0.17 can't trace Flax's RNN (shapes become tracers), and writes a lax.scan as a "
    "Loop over products: no LSTM is left to compare",
    ("vits_piper", "signatures_dynamo"): "No ONNX function found for aten._is_all_true, in VITS's splines; "
    "vits_plain has none",
    ("gat_loops", "signatures_dynamo"): "Could not guard on data-dependent expression Eq(u0 + 10, 0): the "
    "edges left when loops are removed; gat adds none",
    ("ctc_lstm", "signatures_dynamo"): "Failed to decompose the FX graph: an LSTM of two directions over a "
    "free length",
    ("faster_rcnn", "signatures_dynamo"): "Could not guard on data-dependent expression Eq(4*u1, 0), in "
    "_batched_nms_coordinate_trick",
    ("ssdlite", "signatures_dynamo"): "Could not guard on data-dependent expression Eq(4*Min(30, u0) + ..., "
    "0), in _batched_nms_coordinate_trick",
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
    if maker in SIGNATURE_MAKERS:
        return tuple(name for name in SIGNATURES if (name, maker) not in UNREACHED)
    return tuple(name for name in NETWORKS if (name, maker) not in UNREACHED)


def file_name(name: str, maker: str) -> str:
    """Return the name of a cell's file, without ``.onnx``."""
    if maker in SIGNATURE_MAKERS:
        return f"signature-{name}-{MAKERS[maker].options[0]}"
    return name if maker == "keras_slim" else f"matrix-{maker}-{name}"


def path(name: str, maker: str) -> Path:
    """Return the file of a cell."""
    return fixtures.path(file_name(name, maker))


def interpreter(recipe: Maker) -> tuple[Path, dict[str, str]]:
    """Return the Python that runs a maker's script, and its environment variables."""
    python = environment_python(recipe.pins) if recipe.pins else Path(sys.executable)
    if not recipe.beside:
        return python, dict(os.environ)
    base = str(python.parents[1])
    packages = sysconfig.get_path("purelib", "venv", {"base": base, "platbase": base})
    return Path(sys.executable), os.environ | {"PYTHONPATH": packages}


def write(maker: str, folder: Path) -> None:
    """Make all files of a maker in one process, and print a line for each.

    Raises:
        MissingModel: one could not be made.
    """
    recipe, outputs = MAKERS[maker], {n: folder / f"{file_name(n, maker)}.onnx" for n in cells(maker)}
    python, environment = interpreter(recipe)
    lines = [json.dumps([*recipe.arguments(name), "--output", str(file)]) for name, file in outputs.items()]
    done = subprocess.run(
        [python, HERE / "drive.py", ROOT / recipe.script],
        input="\n".join(lines),
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=environment | {"CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"},
    )
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    answers += [[False, done.stderr[-2000:]]] * (len(lines) - len(answers))
    for (name, file), (well, said) in zip(outputs.items(), answers, strict=True):
        if not well:
            raise MissingModel(f"{maker} {name}: {said}")
        print(f"{maker} {said.replace(str(file), name)}", flush=True)
