"""Draws docs/score.svg and docs/audit.svg from what the program prints: ``python docs/make_picture.py``."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from rich.console import Console
from rich.text import Text

ROOT = Path(__file__).parents[1]
SAMPLES = ("samples/keras_mobile.onnx", "samples/pytorch_resnet_dynamo.onnx", "samples/jax_cnn.onnx")
WIDTH = 111
sys.path.insert(0, str(ROOT / "tests"))

from audit.defects import DEFECTS  # noqa: E402


def output(command: str, *arguments: str, folder: Path = ROOT) -> str:
    """What the console script prints."""
    script = shutil.which("intrain-onnx", path=str(Path(sys.executable).parent))
    assert script is not None, "install the package into this environment first"
    line = [script, command, *arguments]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)  # noqa: S603
    assert done.returncode in (0, 1), done.stderr
    lines = [line.rstrip() for line in done.stdout.splitlines() if not line.startswith("  Report:")]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")


def draw(name: str, screens: list[tuple[str, str]]) -> None:
    """Write a picture of commands and what they print."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), highlight=False, markup=False)
    for command, text in screens:
        console.print(Text(f"$ intrain-onnx {command}", style="bold green"))
        for line in text.splitlines():
            bold = re.match(
                r"samples/|\S+\.onnx |  (InTrain \d|Weakest|Warnings|error)| +(rank|layer) ", line
            )
            console.print(Text(line, style="bold" if bold else ""), soft_wrap=False)
        console.print()
    svg = console.export_svg(title="intrain-onnx", unique_id="intrain-onnx")
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)  # a picture fetches nothing
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    (ROOT / "docs" / f"{name}.svg").write_text(svg, encoding="utf-8")


def main() -> None:
    """Write the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        draw(
            "score",
            [
                (f"score {' '.join(models)}", output("score", *models, "--output", folder))
                for models in (SAMPLES[:1], SAMPLES)
            ],
        )
        onnx.save(
            next(d for d in DEFECTS if d.name == "dead ReLU layer").model(), Path(folder) / "model.onnx"
        )
        draw("audit", [("audit model.onnx", output("audit", "model.onnx", folder=Path(folder)))])


if __name__ == "__main__":
    main()
