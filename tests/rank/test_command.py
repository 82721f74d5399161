"""``rank`` as a program: killed at any time and resumed it ends with the same rows, in one worker or two."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from builders import weight
from click.testing import CliRunner
from commands.helpers import mlp, save
from commands.test_isolation import children, hostile, started

from intrain_onnx.cli import main
from intrain_onnx.rank import results

pytestmark = pytest.mark.workers
OPTIONS = ("--batch", "4")


def files(folder: Path, number: int) -> Path:
    folder.mkdir()
    for i in range(number):
        save(folder, mlp(weight(8, 3) * (i + 1)), f"{i:02d}.onnx")
    shutil.copy(folder / "00.onnx", folder / "twin.onnx")
    (folder / "broken.onnx").write_bytes(b"no model")
    hostile(folder, "Kill", "kill.onnx")
    return folder


def measured(out: Path) -> list[dict[str, Any]]:
    """Rows by name, without timings; which of two identical files is scored depends on who is first."""
    rows = [row.measured() for row in results.read(out).rows.values()]
    for row in rows:
        row.pop("same_as")
    return sorted(rows, key=lambda row: row["model"])


def finished(process: subprocess.Popen[str], patience: float = 90) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=patience)
    return process.returncode, out, err


def test_killed_and_resumed_it_ends_with_the_same_rows(tmp_path: Path):
    folder = files(tmp_path / "models", 6)
    code, out, err = finished(started(tmp_path, "rank", folder, "-o", tmp_path / "whole", *OPTIONS))
    assert code == 0, err
    assert "7 of 9 models have a rank; 1 are files that were scored under another name" in out
    assert "1 quarantined: crashed" in out
    assert "1 failed: ModelFileError" in out
    whole = measured(tmp_path / "whole")
    assert len(whole) == 9
    rng, cut = random.Random(0), tmp_path / "cut"
    for attempt in range(3):
        resume = ["--resume"] if attempt else []
        process = started(tmp_path, "rank", folder, "-o", cut, *OPTIONS, "--workers", 2, *resume)
        wanted = len(results.read(cut).rows) + 2 if (cut / results.LOG).exists() else 1
        end = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < end:
            if (cut / results.LOG).exists() and (cut / results.LOG).read_bytes().count(b"\n") > wanted:
                break
            time.sleep(0.02)
        time.sleep(rng.random() * 0.2)
        below = children(process.pid)
        process.kill()
        process.communicate()
        end = time.monotonic() + 10
        while any(Path(f"/proc/{pid}/exe").exists() for pid in below) and time.monotonic() < end:
            time.sleep(0.05)
        assert not [pid for pid in below if Path(f"/proc/{pid}/exe").exists()]
    code, _, err = finished(started(tmp_path, "rank", folder, "-o", cut, *OPTIONS, "--resume"))
    assert code == 0, err
    assert measured(cut) == whole
    lines = (cut / results.LOG).read_bytes().splitlines()
    models = [json.loads(line)["row"]["model"] for line in lines[1:] if b'"row"' in line[:8]]
    assert len(models) == len(set(models)) == 9


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_done_and_prints_its_ranking(tmp_path: Path, number: int, code: int):
    folder = tmp_path / "models"
    folder.mkdir()
    save(folder, mlp(), "a.onnx")
    hostile(folder, "Hang", "hang.onnx")
    out = tmp_path / "out"
    process = started(tmp_path, "rank", folder, "-o", out, *OPTIONS)
    end = time.monotonic() + 60
    while not ((out / results.LOG).exists() and b'"row"' in (out / results.LOG).read_bytes()):
        assert time.monotonic() < end
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    found, text, err = finished(process, 20)
    assert found == code
    assert "a.onnx" in text
    assert "Traceback" not in err
    assert (out / "ranking.csv").is_file()


def run(*args: object) -> Any:
    result = CliRunner().invoke(main, ["rank", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_two_runs_on_one_folder_and_a_second_without_resume_are_refused(tmp_path: Path):
    folder, out = tmp_path / "models", tmp_path / "out"
    folder.mkdir()
    save(folder, mlp(), "a.onnx")
    hostile(folder, "Hang", "hang.onnx")
    first = started(tmp_path, "rank", folder, "-o", out, *OPTIONS)
    end = time.monotonic() + 60
    while not (out / results.LOG).exists():
        assert time.monotonic() < end
        time.sleep(0.05)
    second = run(folder, "-o", out, *OPTIONS, "--resume")
    assert (second.exit_code, "another run writes to" in second.output) == (2, True)
    first.kill()
    first.communicate()
    second = run(folder, "-o", out, *OPTIONS)
    assert (second.exit_code, "Go on with --resume" in second.output) == (2, True)


def test_without_a_score_the_exit_code_is_that_of_the_first_failure(tmp_path: Path):
    (tmp_path / "a.onnx").write_bytes(b"no model")
    result = run(tmp_path, "-o", tmp_path / "out", *OPTIONS)
    assert result.exit_code == 3
    assert "0 of 1 models have a rank" in result.output


def test_what_would_be_overwritten_is_refused(tmp_path: Path):
    os.symlink(save(tmp_path, mlp(), "a.onnx"), tmp_path / "ranking.csv")
    result = run(tmp_path / "a.onnx", "-o", tmp_path, *OPTIONS)
    assert result.exit_code == 2
    assert "would overwrite" in result.output


def test_by_and_top_and_reports(tmp_path: Path):
    folder, out = tmp_path / "models", tmp_path / "out"
    folder.mkdir()
    wide = mlp(weight(64, 3), first=weight(4, 64))
    save(folder, mlp(), "narrow.onnx")
    save(folder, wide, "wide.onnx")
    result = run(folder, "-o", out, *OPTIONS, "--by", "parameters", "--top", 1, "--reports")
    assert result.exit_code == 0, result.output
    assert "wide.onnx" in result.output
    assert "narrow.onnx" not in result.output
    assert len(list((out / "reports").iterdir())) == 2
    result = run(folder, "-o", out, *OPTIONS, "--by", "nothing", "--resume")
    assert "no model has 'nothing'" in result.output
