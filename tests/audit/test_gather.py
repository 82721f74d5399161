"""What an audit costs: it converts and runs a network no more often than its two scores do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest import mock

import onnx
import pytest

from audit.conftest import ROOT, quick
from audit.defects import DEFECTS
from intrain_onnx import pipeline
from intrain_onnx.audit.activation_ranges import Watch
from intrain_onnx.audit.gather import PROTOCOLS, config_for, gather
from intrain_onnx.errors import NumericalError
from intrain_onnx.loading.load import load
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.interpreter import ObservedInterpreter

SAMPLE = ROOT / "samples" / "pytorch_encoder_dynamo.onnx"


def cost(work: Callable[[], object]) -> tuple[int, int]:
    """Numbers of conversions and of runs of a network."""
    with (
        mock.patch.object(convert, "convert", wraps=convert.convert) as converted,
        mock.patch.object(
            ObservedInterpreter, "outputs", autospec=True, side_effect=ObservedInterpreter.outputs
        ) as runs,
    ):
        work()
    return converted.call_count, runs.call_count


def both_scores(file: Path) -> None:
    configs = [config_for(name, quick().run, None) for name in PROTOCOLS]
    network = pipeline.network_of(load(file), configs[0], keyed=True)
    for config in configs:
        try:
            pipeline.score(network, config)
        except NumericalError:
            assert config.protocol == "checkpoint"


def test_an_audit_costs_its_two_scores():
    conversions, runs = cost(lambda: both_scores(SAMPLE))
    assert conversions > 1
    assert cost(lambda: gather(SAMPLE, quick())) == (conversions, runs)


def test_where_the_score_fails_the_ranges_need_one_more_run_and_no_conversion(tmp_path: Path):
    file = tmp_path / "model.onnx"
    onnx.save(next(d for d in DEFECTS if d.check == "not-finite").model(), file)
    conversions, runs = cost(lambda: both_scores(file))
    assert cost(lambda: gather(file, quick())) == (conversions, runs + 1)


@pytest.mark.parametrize("seeds", [1, 2])
def test_the_ranges_are_those_of_the_first_run(seeds: int):
    """The same as of a forward pass by itself, whatever follows it."""
    config = replace(config_for("checkpoint", quick().run, None), seeds=seeds, parity=False)
    watch = Watch()
    pipeline.score(load(SAMPLE), config, watch=watch)
    seen = watch.facts()
    assert seen.values
    assert seen == watch.run_again(config)
