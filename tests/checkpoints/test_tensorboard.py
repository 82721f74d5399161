"""What TensorBoard reads back of a series."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from checkpoints.conftest import row
from intrain_onnx.checkpoints import tensorboard
from intrain_onnx.checkpoints.alarms import alarms, thresholds
from intrain_onnx.checkpoints.tensorboard import Board
from intrain_onnx.errors import SettingsError

ROWS = [row(i, intrain=20.0 + i) for i in range(8)] + [row(8, {"dead_channels": 20}, intrain=30.0)]


def read(folder: Path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    found.Reload()
    return found


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
def test_scalars_and_alarms_are_read_back(tmp_path: Path):
    board = Board(tmp_path)
    for each in ROWS:
        board.write(each, new=True)
    board.write(row(9, status="failed"), new=True)
    board.close(alarms(ROWS, thresholds({})))
    found = read(tmp_path)
    assert [(e.step, e.value) for e in found.Scalars("score/intrain")][-2:] == [(7, 27.0), (8, 30.0)]
    assert [e.value for e in found.Scalars("participation_ratio/conv")] == [12.0] * 9
    assert [e.value for e in found.Scalars("dead_channels/conv")] == [0.0] * 8 + [20.0]
    assert [e.value for e in found.Scalars("weights/distance_to_first")] == pytest.approx([0.1] * 9)
    [text] = found.Tensors("alarms/text_summary")
    assert text.step == 8
    assert b"death at conv: 20 of 32 channels" in text.tensor_proto.string_val[0]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
def test_a_second_run_writes_what_is_new_alone(tmp_path: Path):
    for rows, new in ((ROWS[:4], [True] * 4), (ROWS[:6], [False] * 4 + [True] * 2)):
        board = Board(tmp_path)
        for each, is_new in zip(rows, new, strict=True):
            board.write(each, new=is_new)
        board.close([])
    assert [e.step for e in read(tmp_path).Scalars("score/intrain")] == [0, 1, 2, 3, 4, 5]


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"needs the package tensorboard.*intrain-onnx\[tensorboard\]"):
        Board(tmp_path)
