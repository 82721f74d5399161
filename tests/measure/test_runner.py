"""What normalisation runs: a model is converted once for all that is tried on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fixtures
import pytest
from torch import fx

from intrain_onnx import ScoreConfig, score
from intrain_onnx.runtime import convert

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("file", "times"),
    [
        ("samples/pytorch_encoder_dynamo.onnx", 2),  # for all trials and parity, and to be scored
        ("signature-vits_plain-dynamo", 2),  # masks, unknown shapes, lengths that follow from the data
        ("signature-gcn_pool-dynamo", 2),
        ("signature-bart_step-torchscript", 3),  # and a table that the graph computes
    ],
)
def test_a_model_is_converted_once_for_all_trials(
    file: str, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[fx.GraphModule] = []
    whole = convert.convert

    def counted(*args: Any, **settings: Any) -> fx.GraphModule:
        made.append(whole(*args, **settings))
        return made[-1]

    monkeypatch.setattr(convert, "convert", counted)
    path = ROOT / file if file.endswith(".onnx") else fixtures.path(file)
    score(path, ScoreConfig.for_protocol(seeds=2, batch=4, threads=1, device="cpu"))
    assert len(made) == times
