"""A folder that is followed: a file is given once, when it is whole."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from intrain_onnx.checkpoints.arrivals import Arrivals


class Clock:
    """Time that passes by waiting alone; at each wait the next of some acts happens."""

    def __init__(self, acts: list[Callable[[], object]]) -> None:
        self.now, self.acts = 0.0, acts

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        if self.acts:
            self.acts.pop(0)()


def followed(folder: Path, acts: list[Callable[[], object]], idle: float = 10.0) -> list[tuple[str, float]]:
    clock = Clock(acts)
    watched = Arrivals(folder, idle, settle=2.0, poll=1.0, clock=clock, sleep=clock.sleep)
    return [(path.name, clock.now) for path in watched]


def old(path: Path, content: bytes = b"x") -> None:
    path.write_bytes(content)
    os.utime(path, (1, 1))


def test_what_is_there_comes_at_once_in_the_order_of_steps(tmp_path: Path):
    for name in ("s10.onnx", "s9.onnx", "last.onnx", "notes.txt", "s1.onnx.tmp"):
        old(tmp_path / name)
    assert followed(tmp_path, []) == [("s9.onnx", 0.0), ("s10.onnx", 0.0), ("last.onnx", 0.0)]


def test_a_file_that_grows_is_waited_for(tmp_path: Path):
    """It is written for four seconds, and is whole two seconds after."""
    path = tmp_path / "s1.onnx"
    grow = [lambda n=n: path.write_bytes(b"x" * n) for n in range(4)]
    [(name, when)] = followed(tmp_path, grow)
    assert name == "s1.onnx"
    assert when >= 6.0


def test_external_data_is_waited_for_too(tmp_path: Path):
    old(tmp_path / "s1.onnx")
    data = tmp_path / "s1.onnx.data"
    acts = [lambda n=n: data.write_bytes(b"x" * n) for n in range(1, 6)]
    data.write_bytes(b"x")
    [(_, when)] = followed(tmp_path, acts)
    assert when >= 7.0


def test_a_rename_brings_a_whole_file(tmp_path: Path):
    old(tmp_path / "s1.part")
    acts = [lambda: None, lambda: (tmp_path / "s1.part").rename(tmp_path / "s1.onnx")]
    assert followed(tmp_path, acts) == [("s1.onnx", 2.0)]


def test_a_file_that_is_written_anew_comes_again(tmp_path: Path):
    path = tmp_path / "last.onnx"
    old(path)

    def again() -> None:
        path.write_bytes(b"another")
        os.utime(path, (2, 2))

    assert [name for name, _ in followed(tmp_path, [lambda: None, again])] == ["last.onnx", "last.onnx"]


def test_it_ends_when_nothing_comes(tmp_path: Path):
    clock = Clock([])
    assert list(Arrivals(tmp_path, 5.0, clock=clock, sleep=clock.sleep)) == []
    assert 5.0 <= clock.now < 6.0


def test_what_grows_slowly_keeps_it_waiting(tmp_path: Path):
    path = tmp_path / "s1.onnx"
    acts = [lambda n=n: path.write_bytes(b"x" * n) for n in range(1, 20)]
    assert [name for name, _ in followed(tmp_path, acts, idle=3.0)] == ["s1.onnx"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_pipes_folders_and_empty_files_are_no_checkpoints(tmp_path: Path):
    os.mkfifo(tmp_path / "s1.onnx")
    (tmp_path / "s2.onnx").mkdir()
    old(tmp_path / "s3.onnx", b"")
    started = time.monotonic()
    assert followed(tmp_path, []) == []
    assert time.monotonic() - started < 5


def test_a_folder_that_is_gone_is_waited_for(tmp_path: Path):
    folder = tmp_path / "later"
    assert followed(folder, [folder.mkdir, lambda: old(folder / "s1.onnx")]) == [("s1.onnx", 2.0)]
