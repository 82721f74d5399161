"""Estimates of tr(S^2): unbiased, with an error that is as large as it says, and the same numbers again."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from builders import model, weight
from torch import Tensor

from intrain_onnx.config import ScoreConfig
from intrain_onnx.measure.statistics.moments import Moments, is_estimated, second_moments
from intrain_onnx.measure.statistics.projections import Projections, estimate
from intrain_onnx.pipeline import score


def _independent(rows: int, channels: int) -> Tensor:
    return torch.randn(rows, channels, generator=torch.Generator().manual_seed(0))


def _decaying(rows: int, channels: int) -> Tensor:
    return _independent(rows, channels) * 0.97 ** torch.arange(channels)


def _alike_in_a_sample(rows: int, channels: int) -> Tensor:
    """16 samples, each of rows that are nearly the same."""
    common = _independent(16, channels).repeat_interleave(rows // 16, 0)
    return common + 0.3 * _independent(rows, channels)


MATRICES = [
    pytest.param(_independent(1024, 192), 16, id="independent"),
    pytest.param(_decaying(1024, 192), 16, id="decaying"),
    pytest.param(_decaying(512, 256), 1, id="one part"),
    pytest.param(_independent(197 * 4, 96) @ _independent(96, 384), 4, id="expansion"),
    pytest.param(_alike_in_a_sample(784, 256), 16, id="alike in a sample"),
]


def _exact(x: Tensor, samples: int) -> tuple[float, float]:
    """||X X^T||_F^2 and the part of it within the samples, by the definition in float64."""
    products = (x.double() @ x.double().T).square()
    blocks = products.reshape(samples, len(x) // samples, samples, -1)
    return products.sum().item(), sum(blocks[s, :, s].sum().item() for s in range(samples))


@pytest.mark.parametrize(("x", "samples"), MATRICES)
def test_the_estimate_is_unbiased_and_its_error_is_that_which_it_says(x: Tensor, samples: int):
    x = x - x.mean(0)
    square, within = _exact(x, samples)
    found = [estimate(Projections(256, seed).of(x, samples)) for seed in range(60)]
    squares = [e.square.item() / square for e in found]
    spread = statistics.stdev(squares)
    assert abs(statistics.fmean(squares) - 1) < 4 * spread / math.sqrt(60)
    parts = [e.within.item() / within for e in found]
    assert abs(statistics.fmean(parts) - 1) < 4 * statistics.stdev(parts) / math.sqrt(60)
    said = math.sqrt(statistics.fmean((e.error.item() / square) ** 2 for e in found))
    assert 0.7 < said / spread < 1.5


def test_all_moments_of_an_estimate_are_near_the_exact_ones():
    x = _decaying(1024, 192) + 3
    exact = Moments(*second_moments(x[None], 16, correlation=True)[0].tolist())
    by = Projections(512, 0)
    found = Moments(*second_moments(x[None], 16, correlation=True, projections=by)[0].tolist())
    assert (found.trace, found.varying) == (pytest.approx(exact.trace), exact.varying)
    assert (found.mean, found.scale) == (exact.mean, exact.scale)
    assert abs(found.square - exact.square) < 4 * found.square_error < exact.square / 2
    assert abs(found.correlated - exact.correlated) < 4 * found.correlated_error < exact.correlated / 2
    assert found.within == pytest.approx(exact.within, rel=0.3)
    assert (exact.square_error, exact.correlated_error) == (0, 0)


@pytest.mark.parametrize("size", [1e-20, 1e14])
def test_values_whose_squares_leave_float32_are_scaled_first(size: float):
    x = _decaying(1024, 192)
    by = Projections(256, 0)
    usual, other = (second_moments(y[None], 16, projections=by)[0] for y in (x, x * size))
    assert (other[1] / other[0] ** 2).item() == pytest.approx((usual[1] / usual[0] ** 2).item(), rel=1e-4)


def test_what_is_small_is_exact():
    by = Projections(256, 0)
    assert not is_estimated(None, 4096, 512, 16)
    assert not is_estimated(by, 4096, 64, 16)
    assert not is_estimated(by, 16, 1000, 16)
    assert is_estimated(by, 4096, 512, 16)
    assert not is_estimated(by, 4096, 512, 1024), "the fewest projections of so many samples cost more"


WIDE = model(
    """(float[N,3,16,16] x) => (float[N,4] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, v)
        b = Relu(a)
        c = Conv<pads = [1, 1, 1, 1]>(b, w)
        d = Relu(c)
        e = GlobalAveragePool(d)
        f = Flatten(e)
        y = MatMul(f, u)
    }""",
    {"v": weight(256, 3, 3, 3), "w": weight(256, 256, 3, 3), "u": weight(256, 4)},
)
"""Two layers of 256 channels on 16x16 positions, and a head."""


def _scored(protocol: str = "architecture", **settings: Any) -> Mapping[str, Any]:
    config = ScoreConfig.for_protocol(protocol, seeds=2, threads=1, parity=False, **settings)
    return score(WIDE, config).data


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint"])
def test_a_score_by_projections_lies_within_the_errors_that_it_states(protocol: str):
    exact, found = _scored(protocol), _scored(protocol, projections=256)
    assert (exact["settings"]["projections"], found["settings"]["projections"]) == (0, 256)
    assert found["layers"][0]["log_participation_ratio_error"] > 0
    for name in ("log_participation_ratio", "log_participation_ratio_standardised"):
        rows = [
            (a, b) for part in ("layers", "points") for a, b in zip(exact[part], found[part], strict=True)
        ]
        for before, after in ((a, b) for a, b in rows if f"{name}_error" in b):
            assert before[f"{name}_error"] == 0
            assert abs(after[name] - before[name]) <= 4 * after[f"{name}_error"] + 1e-6
    assert [r["grad_std"] for r in found["parameters"]] == [r["grad_std"] for r in exact["parameters"]]
    assert _scored(protocol, projections=256)["scores"] == found["scores"]


def test_a_report_says_how_much_was_estimated():
    said = {w["code"]: w["message"] for w in _scored(projections=256)["warnings"]}["covariances_estimated"]
    assert "2 of 3 layers" in said
    assert "256 random projections" in said
    assert "covariances_estimated" not in {w["code"] for w in _scored()["warnings"]}
