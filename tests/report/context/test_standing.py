"""Where a report stands among the reference networks: the percentile, and why there is none."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest

from intrain_onnx import Report, ScoreConfig, score
from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.commands.terminal.summary import summary
from intrain_onnx.report.context import references
from intrain_onnx.report.context.standing import in_words, standing
from intrain_onnx.report.page import page
from intrain_onnx.report.rows import Document

DEFAULT = {"threads": 1, "parity": False}
CELL = SPACES["nasbench201"].build(
    "|nor_conv_3x3~0|+|skip_connect~0|nor_conv_1x1~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
    fold=True,
    size=64,
)


@pytest.fixture(scope="module")
def report() -> Report:
    """A cell that is not in the table, at the defaults."""
    return score(CELL, ScoreConfig.for_protocol(**DEFAULT))  # type: ignore[arg-type]


def changed(document: Document, **settings: object) -> Document:
    return msgspec.structs.replace(document, settings=msgspec.structs.replace(document.settings, **settings))


def test_the_percentile_is_among_neighbours(report: Report):
    found = report.document.standing
    assert found is not None
    assert found.reason is None
    parameters, layers = report.document.baselines["parameters"], report.document.baselines["layers"]
    near = references.neighbours("vision", "images of 64x64", parameters, layers).networks
    assert found.networks == len(near) >= references.FEWEST
    for name in ("volume", "intrain", "width_depth", "width"):
        below = np.mean([x.scores[name] < report.data["scores"][name]["value"] for x in near])
        assert found.percentiles[name] == pytest.approx(100 * below, abs=0.051)
    assert found.neighbours == tuple(x.name for x in near[:20])
    assert found.rule.startswith("vision, images of 64x64, #Params within a factor of ")
    assert report.data["standing"] == json.loads(json.dumps(msgspec.to_builtins(found)))


def test_it_is_told_in_the_summary_and_on_the_page(report: Report):
    found = report.document.standing
    assert found is not None
    named = found.percentiles
    said = f"volume above {named['volume']:.0f} %, InTrain above {named['intrain']:.0f} %"
    shown = io.StringIO()
    summary(report, shown)
    assert f"among reference networks     {said} of {found.networks}\n" in shown.getvalue()
    assert f"nearest: {', '.join(found.neighbours[:3])}\n" in shown.getvalue()
    text = page([report])
    assert f"among reference networks: {said} of {found.networks}" in text
    assert "Among reference networks" in text
    assert found.neighbours[0] in text


def test_other_settings_have_no_percentile_and_say_which(report: Report):
    for settings, said in (
        ({"protocol": "paper", "weights": "reinitialise"}, "protocol paper, theirs architecture"),
        ({"samples": 8}, "samples 8, theirs 16"),
        ({"weights": "keep", "calibrate": False}, "weights keep, theirs reinitialise, calibrate False"),
    ):
        found = standing(changed(report.document, **settings))
        assert (found.percentiles, found.networks, found.neighbours) == ({}, 0, ())
        assert found.reason is not None
        assert found.reason.startswith("settings differ from those of the reference networks: ")
        assert said in found.reason
        assert in_words(found) == f"no percentile: {found.reason}"
    assert standing(changed(report.document, seed=5, seeds=1, converter="onnx2torch")) == (
        report.document.standing
    )


def test_real_samples_have_no_percentile():
    inputs = {"image": np.zeros((16, 3, 64, 64), np.float32) + np.arange(16).reshape(16, 1, 1, 1)}
    config = ScoreConfig.for_protocol(**DEFAULT, seeds=1, inputs=inputs)  # type: ignore[arg-type]
    found = score(CELL, config).document.standing
    assert found is not None
    assert found.reason is not None
    assert found.reason.endswith("given inputs of 1 inputs, theirs none")


def test_other_sizes_and_giants_have_no_percentile(report: Report):
    document = report.document
    fed = [msgspec.structs.replace(x, shape=(16, 3, 48, 48)) for x in document.settings.inputs_fed]
    found = standing(changed(document, inputs_fed=tuple(fed)))
    assert found.reason == (
        "it was fed images of 48x48, and the reference networks of its kind were fed "
        "images of 224x224 or images of 32x32 or images of 64x64"
    )
    giant = msgspec.structs.replace(document, baselines={"parameters": 10**12, "layers": 9})
    assert standing(giant).reason == (
        "only 0 reference networks are like it (1e+03 G #Params in 9 layers), and 10 are needed"
    )


def test_the_same_network_is_in_the_middle_of_its_equal(monkeypatch: pytest.MonkeyPatch):
    """A network of the table, built and scored as its line was, ties with itself."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[3] / "benchmarks"))
    monkeypatch.delitem(sys.modules, "reference_networks", raising=False)
    import reference_networks

    network = reference_networks.Network("connected/7", "connected", 64)
    made = network.build()
    assert isinstance(made, onnx.ModelProto)
    found = score(made, network.config).document.standing
    assert found is not None
    assert found.neighbours[0] == "connected/7"


def test_reports_without_it_can_be_shown(report: Report):
    old = Report({**report.data, "standing": None})
    shown = io.StringIO()
    summary(old, shown)
    assert "reference networks" not in shown.getvalue()
    assert "reference networks" not in page([old])
