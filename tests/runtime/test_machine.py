"""The threads of a report are those that torch had."""

from __future__ import annotations

import pytest
import torch

from intrain_onnx.config import ScoreConfig, cores, most_threads
from intrain_onnx.runtime.machine import machine_for


@pytest.mark.parametrize(
    ("told", "asked", "used"),
    [
        ("1", 0, 1),
        ("3", 0, 3),
        ("3,2", 0, 3),
        (" 2 ", 0, 2),
        ("3", 2, 2),
        ("", 0, cores()),
        ("0", 0, cores()),
        ("many", 0, cores()),
        ("20000", 0, most_threads()),
        ("9" * 5000, 0, cores()),
    ],
)
def test_threads_are_the_options_or_those_of_openmp_or_all_cores(
    told: str, asked: int, used: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    before = torch.get_num_threads()
    with machine_for(ScoreConfig(threads=asked)) as machine:
        assert machine.threads == torch.get_num_threads() == used
    assert torch.get_num_threads() == before
