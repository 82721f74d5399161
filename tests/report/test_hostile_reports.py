"""Reports that nobody's program wrote: each is refused in one line, or every view of it is drawn."""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from intrain_onnx import Report
from intrain_onnx.audit import policy
from intrain_onnx.audit.gather import PROTOCOLS, config_for
from intrain_onnx.commands.terminal.compare import comparison as show
from intrain_onnx.commands.terminal.ranking import ranking
from intrain_onnx.commands.terminal.summary import summary
from intrain_onnx.errors import IntrainError, ModelFileError, SettingsError
from intrain_onnx.report import comparison
from intrain_onnx.report.page import page

from .mutations import at, kind, places, replaced, shortened

ROOT = Path(__file__).parents[2]
VALUES: tuple[Any, ...] = (
    *(None, [], {}, "", "\x1b[2J<b>", -1, 0, 2**63 - 1, 2**70, 1e150, -1e150, float("nan"), "\ud800"),
)


def mutants(data: Any) -> Iterator[Any]:
    """One place of each kind, with each value, and without it."""
    seen = {}
    for path in places(data):
        seen.setdefault(kind(path), path)
    for path in seen.values():
        yield from (replaced(data, path, value) for value in VALUES)
        if path:
            made = copy.deepcopy(data)
            del at(made, path[:-1])[path[-1]]
            yield made


def draw(found: Report, good: Report) -> None:
    """Every view of a report, alone and beside a good one."""
    shown = io.StringIO()
    page([found, good])
    one, other = comparison.network_of_report(found), comparison.network_of_report(good)
    for pair in ((one, other), (other, one)):
        show(comparison.compare(*pair), (Path("a"), Path("b")), shown, show_all=True)
    summary(found, shown)
    ranking([found, good], shown)
    assert "\x1b[2J" not in shown.getvalue()
    for protocol in PROTOCOLS:
        said = refusal(partial(config_for, protocol, policy.default().run, found), SettingsError)
        assert said is None or said.isprintable()


def refusal(call: Callable[[], object], kind: type[IntrainError]) -> str | None:
    """What it says where it refuses, in one line; None where it does not."""
    try:
        call()
    except kind as error:
        return str(error)
    return None


def test_a_report_is_refused_or_drawn(reports: list[Report], tmp_path: Path):
    data = shortened(json.loads(reports[0].to_json()))
    good, file = Report(data), tmp_path / "report.json"
    accepted = refused = 0
    for made in mutants(data):
        file.write_text(json.dumps(made), encoding="utf-8")
        said = refusal(partial(Report.load, file), ModelFileError)
        if said is None:
            accepted += 1
            draw(Report.load(file), good)
        else:
            refused += 1
            assert said.startswith(f"{file}: not a report")
            assert said.isprintable()
            assert len(said) < 500 + len(str(file))
    assert accepted > 100
    assert refused > 1000


HOSTILE = {
    "empty": b"",
    "only a version": b'{"schema_version": "1.2"}',
    "deep": b"[" * 100_000 + b"]" * 100_000,
    "utf-16": '{"schema_version": "1.2"}'.encode("utf-16"),
    "not utf-8": b'{"\xff": 1}',
    "a key twice": b'{"schema_version": "1.2", "schema_version": "1.2"}',
    "digits": b"9" * 5000,
}
COMMANDS = (
    "compare --reports {0} {0}",
    "report {0} -o page.html",
    f"audit {ROOT}/samples/jax_cnn.onnx --baseline {{0}}",
)


def run(folder: Path, arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "intrain_onnx", *arguments.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.split()[0])
def test_every_command_says_so_in_one_line(tmp_path: Path, command: str):
    """A pipe would block and a device never end: they are named as what they are."""
    for name, data in HOSTILE.items():
        (tmp_path / name.replace(" ", "_")).write_bytes(data)
    files = sorted(path.name for path in tmp_path.iterdir())
    os.mkfifo(tmp_path / "pipe")
    for file in (*files, "pipe", "/dev/zero"):
        done = run(tmp_path, command.format(file))
        assert done.returncode == 3, (file, done.stderr)
        assert done.stdout == ""
        [line] = done.stderr.splitlines()
        assert line.startswith(f"error: {file}: not a report")
        assert "internal" not in line
    assert not (tmp_path / "page.html").exists()
