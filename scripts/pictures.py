"""The pictures docs/score.svg and docs/audit.svg, drawn from what the program prints."""

from __future__ import annotations

import html
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import onnx
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).resolve().parents[1]
SAMPLES = ("samples/keras_mobile.onnx", "samples/pytorch_resnet_dynamo.onnx", "samples/jax_cnn.onnx")
WIDTH = 111
sys.path.insert(0, str(ROOT / "tests"))

from audit.defects import DEFECTS  # noqa: E402


def score() -> str:
    """One model scored, then three."""
    with tempfile.TemporaryDirectory() as folder:
        return _drawn(
            (f"score {' '.join(models)}", _printed("score", *models, "--output", folder))
            for models in (SAMPLES[:1], SAMPLES)
        )


def audit() -> str:
    """An audit that finds a dead layer."""
    with tempfile.TemporaryDirectory() as folder:
        dead = next(d for d in DEFECTS if d.name == "dead ReLU layer")
        onnx.save(dead.model(), Path(folder) / "model.onnx")
        return _drawn([("audit model.onnx", _printed("audit", "model.onnx", folder=Path(folder)))])


def words(svg: str) -> list[str]:
    """What a picture shows, without measured numbers: their last digits may differ between machines."""
    shown = html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)</text>", svg)))
    return [word for word in shown.split() if not re.fullmatch(r"\(?-?\d+(\.\d+|e-\d+)[%),]*", word)]


def _printed(command: str, *arguments: str, folder: Path = ROOT) -> str:
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "intrain_onnx", command, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": str(WIDTH - 1), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    lines = [line.rstrip() for line in done.stdout.splitlines() if not line.startswith("  Report:")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def _drawn(screens: Iterable[tuple[str, str]]) -> str:
    """A picture of commands and what they print."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False, markup=False)
    for command, text in screens:
        console.print(Text(f"$ intrain-onnx {command}", style="bold green"))
        for line in text.splitlines():
            bold = re.match(
                r"samples/|\S+\.onnx |  (volume \d|InTrain \d|Weakest|Warnings|error)| +(rank|layer) ", line
            )
            console.print(Text(line, style="bold" if bold else ""), soft_wrap=False)
        console.print()
    svg = console.export_svg(title="intrain-onnx", unique_id="intrain-onnx")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # a picture fetches nothing
    return re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
