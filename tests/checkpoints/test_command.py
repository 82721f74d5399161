"""``series`` as a program: what it prints and writes, how it ends, what it waits for."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from builders import weight
from commands.conftest import cli as cli  # noqa: PLC0414 - a fixture
from commands.helpers import Run, strict
from commands.test_isolation import children, hostile, started

from checkpoints.conftest import network, written
from intrain_onnx.checkpoints import results, tensorboard

pytestmark = pytest.mark.workers
QUICK = ("--batch", 8, "--threads", 1, "--device", "cpu")


def falling(folder: Path) -> list[str]:
    """Seven checkpoints, in the last of which half of a layer's channels are dead."""
    c = weight(16, scale=0.1)
    paths = [written(folder, f"s{i}.onnx", c=c * np.float32(1 + i / 50)) for i in range(6)]
    c[:8] = -100
    return [*paths, written(folder, "s6.onnx", c=c)]


def test_it_prints_a_table_and_the_alarms(cli: Run, tmp_path: Path):
    done = cli("series", *falling(tmp_path), *QUICK)
    assert done.exit_code == 0, done.output
    assert "7 of 7 checkpoints have a score, " in done.stdout
    assert "death at step 6  one: 8 of 16 channels are always zero, 0 before" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [r[0] for r in rows][:7] == [str(i) for i in range(7)]


def test_an_alarm_ends_with_8_on_request(cli: Run, tmp_path: Path):
    paths = falling(tmp_path)
    assert cli("series", *paths, *QUICK, "--fail-on-alarm").exit_code == 8
    assert cli("series", *paths[:6], *QUICK, "--fail-on-alarm").exit_code == 0
    loose = ("--threshold", "death=0.9", "--threshold", "jump=1e9", "--threshold", "score=0.01")
    assert cli("series", *paths, *QUICK, "--fail-on-alarm", *loose).exit_code == 0


def test_the_document_follows_the_schema_and_the_folder_has_it_too(cli: Run, tmp_path: Path):
    out = tmp_path / "out"
    paths = falling(tmp_path)
    done = cli("series", *paths, *QUICK, "--json", "-o", out)
    data = strict(done.stdout)
    jsonschema.Draft202012Validator(results.schema()).validate(data)
    assert data == json.loads((out / "series.json").read_text())
    assert [a["rule"] for a in data["alarms"] if a["rule"] == "death"] == ["death"]
    assert sorted(p.name for p in out.iterdir()) == ["series.html", "series.json", "series.jsonl"]
    assert len((out / "series.jsonl").read_text().splitlines()) == 8
    again = cli("series", *paths, *QUICK, "--json", "-o", out)
    assert strict(again.stdout) == data  # with the times of the first run: nothing was measured


def test_another_threshold_reads_the_log_alone(cli: Run, tmp_path: Path):
    """With the files gone."""
    out = tmp_path / "out"
    paths = falling(tmp_path)
    assert "death at step 6" in cli("series", *paths, *QUICK, "-o", out).stdout
    for path in paths:
        Path(path).unlink()
    done = cli("series", *QUICK, "-o", out, "--threshold", "death=0.9")
    assert done.exit_code == 0
    assert "7 of 7 checkpoints have a score" in done.stdout
    assert "death at step 6" not in done.stdout


def test_bad_files_cost_their_row_and_say_why(tmp_path: Path):
    """A crash, no model, another architecture: the others are measured, in the order of their steps."""
    for i in (1, 3, 5):
        written(tmp_path, f"s{i}.onnx", v=weight(16, 16) * np.float32(i))
    hostile(tmp_path, "Kill", "s2.onnx")
    (tmp_path / "s4.onnx").write_bytes(b"no model")
    process = started(tmp_path, "series", *sorted(tmp_path.glob("*.onnx")), *QUICK)
    out, err = process.communicate(timeout=120)
    assert "Traceback" not in out + err
    assert process.returncode in (1, 3)
    assert "3 of 5 checkpoints have a score" in out
    assert "step 2  " in out
    assert "s2.onnx: " in out
    assert "s4.onnx: " in out


def test_another_architecture_ends_with_7(cli: Run, tmp_path: Path):
    written(tmp_path, "s1.onnx")
    written(tmp_path, "s2.onnx", v=weight(16, 24), u=weight(24, 4))
    written(tmp_path, "s3.onnx")
    done = cli("series", *sorted(tmp_path.glob("*.onnx")), *QUICK)
    assert done.exit_code == 7
    assert "2 of 3 checkpoints have a score, no alarm" in done.stdout
    assert f"s2.onnx: another architecture than {tmp_path / 's1.onnx'}; first difference: " in done.stdout


def test_weights_that_are_nan_end_with_5(cli: Run, tmp_path: Path):
    written(tmp_path, "s1.onnx")
    written(tmp_path, "s2.onnx", v=np.full((16, 16), np.nan, np.float32))
    done = cli("series", *sorted(tmp_path.glob("*.onnx")), *QUICK)
    assert done.exit_code == 5
    assert "not-finite at step 2  two: 256 weights are NaN or infinite" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ((), "error: no checkpoint is named. Name ONNX files, or a folder with --watch"),
        (("--watch", "nowhere"), "error: --watch nowhere is no folder. Make it, or name another"),
        (("a.onnx", "--idle", 3), "error: --idle is for a folder that is followed. Add --watch DIR"),
        (("a.onnx", "-o", "file"), "error: cannot make file: File exists. Name another place with -o"),
    ],
)
def test_wrong_usage_is_one_line(cli: Run, tmp_path: Path, options: tuple[object, ...], said: str):
    (tmp_path / "file").touch()
    done = cli("series", *options)
    assert (done.exit_code, done.stderr.splitlines()) == (2, [said])


@pytest.mark.parametrize("value", ["colapse=1", "jump", "jump=x", "jump=-1"])
def test_a_wrong_threshold_is_a_usage_error(cli: Run, value: str):
    done = cli("series", "a.onnx", "--threshold", value)
    assert done.exit_code == 2
    assert "--threshold" in done.stderr


def test_tensorboard_that_is_missing_is_said_before_anything_runs(
    cli: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    done = cli("series", written(tmp_path, "s1.onnx"), "--tensorboard", "board")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: --tensorboard needs the package tensorboard. Install ")


def lines(process: subprocess.Popen[str], wanted: str, patience: float = 90) -> list[str]:
    """What a process prints, up to a line that begins so."""
    found: list[str] = []
    until = time.monotonic() + patience
    assert process.stdout is not None
    while time.monotonic() < until:
        line = process.stdout.readline()
        found.append(line.rstrip("\n"))
        if line.startswith(wanted):
            return found
        assert line, found
    raise AssertionError(found)


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_folder_is_followed_until_a_signal(tmp_path: Path):
    """A file that is written in two parts, then one that is renamed; SIGINT keeps what is done."""
    folder, out = tmp_path / "run", tmp_path / "out"
    folder.mkdir()
    written(folder, "s1.onnx")
    process = started(tmp_path, "series", "--watch", folder, "-o", out, *QUICK, plugin="")
    assert lines(process, "step 1  ")[-1].startswith("step 1  InTrain ")
    content = network({"v": weight(16, 16) * 2}).SerializeToString()
    with (folder / "s2.onnx").open("wb", buffering=0) as stream:
        stream.write(content[: len(content) // 2])
        time.sleep(1.2)
        stream.write(content[len(content) // 2 :])
    assert lines(process, "step 2  ")[-1].startswith("step 2  InTrain ")
    shutil.copy(folder / "s2.onnx", folder / "part")
    os.rename(folder / "part", folder / "s3.onnx")
    assert "moved 0.0 %" in lines(process, "step 3  ")[-1]
    below = children(process.pid)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "3 of 3 checkpoints have a score, no alarm" in rest
    assert json.loads((out / "series.json").read_text())["steps"][2]["step"] == 3
    time.sleep(0.5)
    assert not [pid for pid in below if Path(f"/proc/{pid}/exe").exists()]


def test_following_ends_when_nothing_comes(cli: Run, tmp_path: Path):
    falling(tmp_path)
    done = cli("series", "--watch", tmp_path, "--idle", 0.5, *QUICK)
    assert done.exit_code == 0, done.output
    assert [line.split()[1] for line in done.stdout.splitlines() if line.startswith("step ")] == list(
        "0123456"
    )
    assert "  death at step 6  one: " in done.stdout
