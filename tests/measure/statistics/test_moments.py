"""Moments of batches of matrices and gradients against numpy in float64, each alone and together."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from intrain_onnx.measure.statistics import moments
from intrain_onnx.measure.statistics.ledger import Ledger
from intrain_onnx.measure.statistics.moments import Moments, full, gradient_moments, panels_of, second_moments
from intrain_onnx.measure.trace import GradientStatistics


@pytest.fixture(params=["looked at", "not looked at"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways, the second as on a GPU."""
    monkeypatch.setattr(moments, "_is_looked_at", lambda _: request.param == "looked at")
    return str(request.param)


SHAPES = [(40, 7), (7, 40), (40, 200), (600, 300), (300, 600), (64, 64), (2, 1), (1, 5)]


def drawn(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return (
        torch.randn(shape, generator=generator, dtype=dtype) * torch.linspace(0.5, 2, shape[-1], dtype=dtype)
        + 1
    )


def naive(x: np.ndarray, samples: int) -> Moments:
    centred = x - x.mean(0)
    lengths = np.sqrt((centred**2).sum(0))
    units = centred / np.where(lengths > 0, lengths, 1)
    parts = centred.reshape(samples, -1, x.shape[1])
    return Moments(
        (centred**2).sum(),
        ((centred.T @ centred) ** 2).sum(),
        sum(((part.T @ part) ** 2).sum() for part in parts) if samples > 1 else 0.0,
        ((units.T @ units) ** 2).sum(),
        float((lengths > 1e-12).sum()),
        np.abs(x.mean(0)).max(),
        1.0,
    )


def unscaled(numbers: list[float]) -> list[float]:
    found = Moments(*numbers)
    square, fourth = found.scale**2, found.scale**4
    plain = found._replace(
        trace=found.trace * square, square=found.square * fourth, within=found.within * fourth, scale=1.0
    )
    return list(plain)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_moments_of_each_matrix_of_a_batch(shape: tuple[int, int], own: bool) -> None:
    rows, channels = shape
    samples = 2 if rows % 2 == 0 and 2 < rows < 16 * channels else 1
    x = drawn(3, *shape)
    for layout in (x, x.transpose(1, 2).contiguous().transpose(1, 2)):
        found = second_moments(layout.clone(), samples, correlation=True, own=own)
        for matrix, numbers in zip(x.numpy(), found.tolist(), strict=True):
            assert unscaled(numbers) == pytest.approx(list(naive(matrix, samples)), rel=1e-10, abs=1e-12)


def test_what_was_centred_before_is_taken_as_it_is() -> None:
    x = drawn(1, 300, 140)
    mean = x.mean(1, keepdim=True)
    panels = panels_of((x - mean)[0])
    torch.testing.assert_close(full(panels), (x - mean)[0].T @ (x - mean)[0])
    expected = second_moments(x, correlation=True)
    found = second_moments(x - mean, correlation=True, mean=mean, panels=panels)
    assert unscaled(found[0].tolist()) == pytest.approx(unscaled(expected[0].tolist()), rel=1e-12)


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1.0, 1e12, 1e30])
def test_scales_of_one_batch_do_not_mix(scale: float) -> None:
    """An extreme matrix is scaled alone: the others keep their numbers to the last bit."""
    x = drawn(2, 30, 6, dtype=torch.float32)
    alone = second_moments(x[:1], correlation=True)
    mixed = second_moments(torch.stack([x[0], x[1] * scale]), correlation=True)
    assert torch.equal(mixed[0], alone[0])
    second = Moments(*mixed[1].tolist())
    expected = naive(x[1].double().numpy(), 1)
    assert second.trace**2 / second.square == pytest.approx(expected.trace**2 / expected.square, rel=1e-5)
    assert second.correlated == pytest.approx(expected.correlated, rel=1e-5)
    assert second.trace**0.5 * second.scale == pytest.approx(expected.trace**0.5 * scale, rel=1e-5)


@pytest.mark.parametrize("shift", [0.0, 0.01, 1e3])
@pytest.mark.parametrize("size", [1, 5, 5000])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_gradients_of_a_batch(size: int, shift: float, scale: float) -> None:
    g = (torch.randn(4, size, generator=torch.Generator().manual_seed(size)) + shift) * scale
    wide = g.double().numpy()
    for (std, largest), row in zip(gradient_moments(g).tolist(), wide, strict=True):
        assert largest == np.abs(row).max()
        assert std == pytest.approx(row.std(), rel=1e-4 if shift > 1 else 1e-6, abs=1e-7 * abs(row.mean()))


def test_a_ledger_gives_each_receiver_its_own() -> None:
    ledger = Ledger()
    matrices = [drawn(12, 5) * (i + 1) for i in range(5)] + [drawn(400, 30), drawn(12, 6)]
    gradients = [drawn(9) * (i + 1) for i in range(4)] + [drawn(9000)]
    received: dict[int, Moments] = {}
    statistics: dict[int, GradientStatistics] = {}
    numbers: list[float] = []
    for index, x in enumerate(matrices):
        ledger.matrix(x, lambda found, i=index: received.__setitem__(i, found), correlation=True)
    for index, g in enumerate(gradients):
        ledger.gradient(g, lambda found, i=index: statistics.__setitem__(i, found))
    ledger.number(torch.tensor(3.5), numbers.append)
    ledger.settle()
    ledger.settle()
    assert numbers == [3.5]
    for index, x in enumerate(matrices):
        assert unscaled(list(received[index])) == pytest.approx(list(naive(x.numpy(), 1)), rel=1e-10), index
    for index, g in enumerate(gradients):
        assert statistics[index].size == g.numel()
        assert statistics[index].std == pytest.approx(g.numpy().std(), rel=1e-10)
