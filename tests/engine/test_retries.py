"""What took a process down is tried once more, after all others, and then set aside."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from intrain_onnx.engine import processes
from intrain_onnx.engine.outcomes import Lost
from intrain_onnx.engine.retries import Queue, with_retries

from .jobs import behave


def test_a_queue_grows_after_it_was_empty():
    queue = Queue([1, 2])
    assert list(queue) == [1, 2]
    queue.put_back(3)
    queue.put_back(4)
    assert list(queue) == [3, 4]


@pytest.mark.workers
@pytest.mark.parametrize("workers", [1, 2])
def test_a_loss_is_tried_again_at_the_end_and_then_told(tmp_path: Path, workers: int):
    crash, passing = ("signal", signal.SIGSEGV), ("fail until", (str(tmp_path / "count"), 2))
    lost: list[Any] = []
    found = with_retries(
        processes.Processes(workers),
        behave,
        [crash, passing, ("a", 0), ("b", 0)],
        name=str,
        on_loss=lambda item, why: lost.append((item[0], why.reason)),
    )
    told = [(o.item[0], o.result) for o in found]
    assert sorted(told, key=str) == [
        ("a", "a"),
        ("b", "b"),
        ("fail until", "fail until"),
        ("signal", Lost("crashed", "SIGSEGV")),
    ]
    if workers == 1:
        assert [name for name, _ in told] == ["a", "b", "signal", "fail until"]
    assert sorted(lost) == [("fail until", "killed"), ("signal", "crashed")]


@pytest.mark.workers
def test_losses_of_earlier_runs_count():
    crash = ("signal", signal.SIGSEGV)
    lost: list[Any] = []
    found = with_retries(
        processes.Processes(1),
        behave,
        [crash],
        name=str,
        lost_before={str(crash): 1},
        on_loss=lambda *loss: lost.append(loss),
    )
    assert [o.result for o in found] == [Lost("crashed", "SIGSEGV")]
    assert lost == []
