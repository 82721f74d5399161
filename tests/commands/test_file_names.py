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


def test_every_command_takes_every_name(tmp_path: Path):
    for name in NAMES:
        shutil.copy(os.fsencode(SAMPLES / "jax_cnn.onnx"), os.path.join(os.fsencode(tmp_path), name))
    (tmp_path / "out").mkdir()
    files = [b"./" + name for name in NAMES]
    code, told, errors = run(tmp_path, "score", *files, *QUICK, "-o", "out")
    assert (code, errors) == (0, "")
    reports = list((tmp_path / "out").iterdir())
    paths = {valid(report.read_text(encoding="utf-8"))["model"]["path"] for report in reports}
    assert paths == {name.decode("utf-8", "backslashreplace") for name in NAMES}
    outputs = [f"{kind}=out/a.{kind}" for kind in ("json", "html", "junit", "sarif", "github")]
    several = [text for output in outputs for text in ("-o", output)]
    code, verdict, errors = run(tmp_path, "audit", *files, *QUICK, "--baseline", "out", *several)
    assert (code, errors) == (0, "")
    code, made, errors = run(tmp_path, "report", *map(bytes, reports), "-o", b"out/\xff.html")
    assert (code, errors) == (0, "")
    code, same, errors = run(tmp_path, "compare", *files[:2])
    assert (code, errors) == (0, "")
    for text in (told, verdict, made, same):
        assert all(c.isprintable() or c == "\n" for c in text)
    assert all(shown in verdict for shown in NAMES.values())
    audits = json.loads((tmp_path / "out" / "a.json").read_text())["audits"]
    assert {audit["model"]["path"] for audit in audits} == paths
    suites = ET.parse(tmp_path / "out" / "a.junit").getroot()
    assert all(
        suite.get("name", "")[:40].startswith(shown[:10])
        for suite, shown in zip(suites, NAMES.values(), strict=True)
    )
    assert "<img src=x" not in (tmp_path / "out" / "a.html").read_text()
    run_of = json.loads((tmp_path / "out" / "a.sarif").read_text())["runs"][0]
    uris = [artifact["location"]["uri"] for artifact in run_of["artifacts"]]
    assert len(uris) == len(NAMES)
    assert all(uri.isascii() and uri.isprintable() for uri in uris)


def test_a_copy_with_measurements_may_have_such_a_name(tmp_path: Path):
    shutil.copy(SAMPLES / "jax_cnn.onnx", tmp_path / "m.onnx")
    code, _, errors = run(tmp_path, "score", "m.onnx", *QUICK, "--annotate", b"\xff\n.onnx")
    assert (code, errors) == (0, "")
    assert b"\xff\n.onnx" in os.listdir(os.fsencode(tmp_path))


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
