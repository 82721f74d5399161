"""Draws docs/score.svg from what the program prints: ``python docs/make_picture.py``."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
SAMPLES = ("samples/keras_mobile.onnx", "samples/pytorch_resnet_dynamo.onnx", "samples/jax_cnn.onnx")
WIDTH = 111


def output(*models: str) -> str:
    """What the console script prints for models."""
    script = shutil.which("intrain-onnx", path=str(Path(sys.executable).parent))
    assert script is not None, "install the package into this environment first"
    with tempfile.TemporaryDirectory() as folder:
        command = [script, "score", *models, "--output", folder]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S603
    lines = [line.rstrip() for line in done.stdout.splitlines() if not line.startswith("  Report:")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def main() -> None:
    """Write the picture."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False, markup=False)
    for models in (SAMPLES[:1], SAMPLES):
        console.print(Text(f"$ intrain-onnx score {' '.join(models)}", style="bold green"))
        for line in output(*models).splitlines():
            bold = re.match(r"samples/|  (InTrain|Weakest|Warnings)| +(rank|layer) ", line)
            console.print(Text(line, style="bold" if bold else ""))
        console.print()
    svg = console.export_svg(title="intrain-onnx", unique_id="intrain-onnx")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # a picture fetches nothing
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    (ROOT / "docs" / "score.svg").write_text(svg, encoding="utf-8")


if __name__ == "__main__":
    main()
