"""Names of files that are no text, hold escapes or markup, or are as long as they may be."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from .helpers import SAMPLES, valid

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems allow fewer names")

ROOT = Path(__file__).parents[2]
QUICK = ("--seeds", "1", "--batch", "4", "--threads", "1", "--no-parity")
NAMES = {
    b"a\xff\xfe.onnx": "a\\xff\\xfe",
    b"a\nb.onnx": "a\\nb",
    b"a\x1b[2J\x07.onnx": "a\\x1b[2J\\x07",
    b"<img src=x onerror=alert(1)>.onnx": "<img src=x onerror=alert(1)>",
    "\u202egnp.onnx".encode(): "\\u202egnp",
    b"-": "-",
    b"x" * 250 + b".onnx": "x" * 40,
    "\U0001f600".encode() * 62 + b".onnx": "\U0001f600" * 10,
}


def run(folder: Path, *arguments: str | bytes) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "intrain_onnx", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=120,
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


@pytest.mark.parametrize("name", NAMES, ids=NAMES.values())
def test_every_command_takes_every_name(tmp_path: Path, name: bytes):
    shown, folder = NAMES[name], os.fsencode(tmp_path)
    shutil.copy(os.fsencode(SAMPLES / "jax_cnn.onnx"), os.path.join(folder, name))
    (tmp_path / "out").mkdir()
    file = b"./" + name
    code, told, errors = run(tmp_path, "score", file, *QUICK, "-o", "out", "--annotate", b"out/n" + name[:50])
    assert (code, errors) == (0, "")
    [report] = (p for p in (tmp_path / "out").iterdir() if p.name.endswith(".intrain.json"))
    path = valid(report.read_text(encoding="utf-8"))["model"]["path"]
    assert path == name.decode("utf-8", "backslashreplace")
    outputs = [f"{kind}=out/a.{kind}" for kind in ("json", "html", "junit", "sarif", "github")]
    several = [text for output in outputs for text in ("-o", output)]
    code, verdict, errors = run(tmp_path, "audit", file, *QUICK, "--baseline", "out", *several)
    assert (code, errors) == (0, "")
    code, made, errors = run(tmp_path, "report", bytes(report), "-o", b"out/" + name[:50] + b".html")
    assert (code, errors) == (0, "")
    code, same, errors = run(tmp_path, "compare", file, file)
    assert (code, errors) == (0, "")
    for text in (told, verdict, made, same):
        assert all(c.isprintable() or c == "\n" for c in text)
    assert shown in verdict
    assert shown in told
    assert json.loads((tmp_path / "out" / "a.json").read_text())["audits"][0]["model"]["path"] == path
    assert ET.parse(tmp_path / "out" / "a.junit").getroot()[0].get("name", "").startswith(shown[:40])
    page = (tmp_path / "out" / "a.html").read_text()
    assert "<img src=x" not in page
    uri = json.loads((tmp_path / "out" / "a.sarif").read_text())["runs"][0]["artifacts"][0]["location"]["uri"]
    assert uri.isascii()
    assert uri.isprintable()


def test_given_inputs_may_have_such_names(tmp_path: Path):
    import numpy as np

    np.save(tmp_path / "x.npy", np.ones((4, 32, 32, 3), np.float32))
    given = os.path.join(os.fsencode(tmp_path), b"\xff.npy")
    os.rename(tmp_path / "x.npy", given)
    shutil.copy(SAMPLES / "jax_cnn.onnx", tmp_path / "m.onnx")
    code, _, errors = run(tmp_path, "score", "m.onnx", *QUICK, "--input", b"image=@" + given)
    assert (code, errors) == (0, "")
    told = valid((tmp_path / "m.intrain.json").read_text(encoding="utf-8"))["settings"]["inputs"]["image"]
    assert told.endswith("\\xff.npy")
