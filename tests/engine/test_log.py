"""The log of results: nothing that was told is lost, whatever ends the run, and two runs never mix."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from intrain_onnx.engine.log import Log, as_line, rows
from intrain_onnx.errors import LimitError, SettingsError

HEADER = {"format": "a", "settings": {"seeds": [1, 2]}}


def write(path: Path, *numbers: int, resume: bool = False) -> None:
    with Log(path, HEADER, resume=resume) as log:
        for n in numbers:
            log.append({"n": n})


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["n"] for line in rows(path)]


def test_rows_are_appended_and_read(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    write(path, 1, 2)
    write(path, 3, resume=True)
    assert numbers(path) == [1, 2, 3]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("cut", range(1, 9))
def test_a_last_line_that_was_cut_is_dropped_and_the_rest_is_not_written_again(tmp_path: Path, cut: int):
    path = tmp_path / "log.jsonl"
    write(path, 1, 2)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    node = path.stat().st_ino
    assert numbers(path) == [1]
    write(path, 7, resume=True)
    assert numbers(path) == [1, 7]
    assert path.stat().st_ino == node


def test_a_header_that_was_cut_is_refused(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(as_line(HEADER)[:10])
    with pytest.raises(SettingsError, match="holds no results"):
        write(path, resume=True)


def test_names_that_are_not_text_stay_what_they_are(tmp_path: Path):
    name = os.fsdecode(b"a\xff\n\xe2\x80\xa8.onnx")
    path = tmp_path / "log.jsonl"
    with Log(path, HEADER, resume=False) as log:
        log.append({"name": name})
    assert [json.loads(line)["name"] for line in rows(path)] == [name]
    assert path.read_bytes().count(b"\n") == 2


def test_another_run_cannot_write(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    with Log(path, HEADER, resume=False) as log:
        log.append({"n": 1})
        code = (
            "import sys; from pathlib import Path; from intrain_onnx.engine.log import Log\n"
            f"Log(Path(sys.argv[1]), {HEADER!r}, resume=True)"
        )
        second = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
        )
        assert "another run writes to" in second.stderr
    assert numbers(path) == [1]
    write(path, 2, resume=True)


def test_a_full_disk_leaves_no_half_line(tmp_path: Path):
    path = tmp_path / "log.jsonl"
    write(path, 1)
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\nfrom intrain_onnx.engine.log import Log\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"log = Log(Path(sys.argv[1]), {HEADER!r}, resume=True)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200, 200))\n"
        "log.append({'n': 2})\nlog.append({'n': 3, 'much': 'x' * 500})\n"
    )
    second = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert "LimitError" in second.stderr
    assert "Make room, and go on with --resume" in second.stderr
    assert numbers(path) == [1, 2]
    assert path.read_bytes().endswith(b"\n")


def test_a_folder_that_was_removed_is_told(tmp_path: Path):
    folder = tmp_path / "results"
    folder.mkdir()
    with Log(folder / "log.jsonl", HEADER, resume=False) as log:
        log.append({"n": 1})
        (folder / "log.jsonl").unlink()
        folder.rmdir()
        with pytest.raises(LimitError, match="the file was removed"):
            log.append({"n": 2})


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_told(tmp_path: Path):
    tmp_path.chmod(0o500)
    with pytest.raises(SettingsError, match="cannot write"):
        write(tmp_path / "log.jsonl", 1)


def test_a_folder_without_a_place_is_told(tmp_path: Path):
    with pytest.raises(SettingsError, match="cannot write"):
        write(tmp_path / "none" / "log.jsonl", 1)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
