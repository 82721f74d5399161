"""Participation ratio and gradient statistics against naive float64 numpy, and their properties."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from builders import for_all
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from intrain_onnx.measure.statistics.ratios import gradient_statistics, participation_ratio
from intrain_onnx.measure.trace import GradientStatistics
from intrain_onnx.scores.scoring import gradient_health

torch.set_num_threads(1)

DTYPES = [torch.float64, torch.float32]
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-5}


def naive(x: np.ndarray) -> float:
    """(sum of eigenvalues)^2 / sum of squares, from the eigenvalues themselves."""
    values = np.linalg.eigvalsh(np.atleast_2d(np.cov(x.astype(np.float64), rowvar=False)))
    return float(values.sum() ** 2 / (values**2).sum())


@st.composite
def matrices(draw: st.DrawFn, max_rows: int = 40, max_channels: int = 24) -> np.ndarray:
    """Normal rows with a random spectrum: from isotropic to nearly of rank one."""
    rows, channels = draw(st.integers(2, max_rows)), draw(st.integers(1, max_channels))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spectrum = np.exp(-draw(st.floats(0.0, 2.0)) * np.arange(channels))
    return (rng.standard_normal((rows, channels)) * spectrum) @ np.linalg.qr(
        rng.standard_normal((channels, channels))
    )[0]


def ratio(x: np.ndarray, dtype: torch.dtype = torch.float64) -> float:
    value = participation_ratio(torch.from_numpy(np.ascontiguousarray(x)).to(dtype)).ratio
    assert value is not None
    return value


@pytest.mark.parametrize("dtype", DTYPES)
@for_all(x=matrices())
def test_the_ratio_is_that_of_the_eigenvalues(x: np.ndarray, dtype: torch.dtype) -> None:
    rounded = torch.from_numpy(x).to(dtype)
    assert participation_ratio(rounded).ratio == pytest.approx(naive(rounded.numpy()), rel=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "channels"), [(2, 7), (7, 2), (30, 31), (31, 30), (31, 31), (4000, 3)])
def test_more_rows_than_channels_and_fewer(rows: int, channels: int, dtype: torch.dtype) -> None:
    x = torch.from_numpy(np.random.default_rng(0).standard_normal((rows, channels)) + 3.0).to(dtype)
    assert participation_ratio(x).ratio == pytest.approx(naive(x.numpy()), rel=TOLERANCE[dtype])


@for_all(x=matrices())
def test_padding_with_constant_channels_changes_neither_path_nor_value(x: np.ndarray) -> None:
    """With as many constant channels as rows the product over rows is formed instead; both must agree."""
    padded = np.concatenate([x, np.full((len(x), len(x)), 0.5)], axis=1)
    assert ratio(padded) == pytest.approx(ratio(x), rel=1e-9)


@for_all(x=matrices())
def test_bounds(x: np.ndarray) -> None:
    for dtype in DTYPES:
        found = participation_ratio(torch.from_numpy(x).to(dtype))
        assert found.ratio is not None
        assert 1.0 <= found.ratio <= min(len(x) - 1, x.shape[1])
        assert found.corrected is None or 1.0 <= found.corrected <= x.shape[1]


@for_all(x=matrices(), seed=st.integers(0, 2**32 - 1))
def test_shift_rotation_and_order_change_nothing(x: np.ndarray, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.standard_normal((x.shape[1],) * 2))[0]
    shift = rng.standard_normal(x.shape[1]) * 10
    expected = ratio(x)
    assert ratio(x + shift) == pytest.approx(expected, rel=1e-8)
    assert ratio(x @ rotation) == pytest.approx(expected, rel=1e-9)
    assert ratio(rng.permutation(x, axis=0)) == pytest.approx(expected, rel=1e-9)
    assert ratio(rng.permutation(x, axis=1)) == pytest.approx(expected, rel=1e-9)
    assert ratio(np.tile(x, (3, 1))) == pytest.approx(expected, rel=1e-9)


@for_all(x=matrices(), exponent=st.integers(-100, 100))
def test_uniform_scale_changes_nothing_however_large_or_small(x: np.ndarray, exponent: int) -> None:
    """Powers of two are exact, so what differs is the arithmetic inside alone."""
    for dtype in DTYPES:
        assert ratio(x * 2.0**exponent, dtype) == pytest.approx(ratio(x, dtype), rel=TOLERANCE[dtype])
    assert ratio(-3.7e200 * x) == pytest.approx(ratio(x), rel=1e-9)
    assert ratio(2.3e-200 * x) == pytest.approx(ratio(x), rel=1e-9)


@pytest.mark.parametrize("rows", [60_000, 9])
@pytest.mark.parametrize("exponent", range(-60, 61, 10))
def test_scale_changes_nothing_with_many_rows(rows: int, exponent: int) -> None:
    x = np.random.default_rng(0).standard_normal((rows, 12)).astype(np.float32)
    scaled = x * np.float32(2.0**exponent)
    assert ratio(scaled, torch.float32) == pytest.approx(ratio(x, torch.float32), rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_shift_costs_float32_no_more_digits_than_it_costs_the_data(dtype: torch.dtype) -> None:
    x = torch.from_numpy(np.random.default_rng(1).standard_normal((500, 20)) + 1000.0).to(dtype)
    assert participation_ratio(x).ratio == pytest.approx(naive(x.numpy()), rel=TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "channels"), [(20, 6), (6, 20), (20, 1)])
def test_rank_one_data_have_one_direction(rows: int, channels: int, dtype: torch.dtype) -> None:
    rng = np.random.default_rng(2)
    x = torch.from_numpy(np.outer(rng.standard_normal(rows), rng.standard_normal(channels)) + 1.5).to(dtype)
    assert participation_ratio(x).ratio == pytest.approx(1.0, abs=1e-5)


def test_orthogonal_channels_of_equal_variance_have_all_directions() -> None:
    hadamard = np.array([[1]])
    for _ in range(4):
        hadamard = np.block([[hadamard, hadamard], [hadamard, -hadamard]])
    assert ratio(hadamard[:, 1:].astype(float)) == pytest.approx(15.0, rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@for_all(value=st.floats(-1e6, 1e6), shape=st.tuples(st.integers(2, 40), st.integers(1, 9)))
def test_constant_data_have_none(value: float, shape: tuple[int, int], dtype: torch.dtype) -> None:
    """Also where the mean of equal numbers is not that number: the difference is round-off."""
    found = participation_ratio(torch.full(shape, value, dtype=dtype))
    assert (found.ratio, found.corrected) == (None, None)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_that_are_not_finite_raise(bad: float, dtype: torch.dtype) -> None:
    x = torch.randn(9, 4, dtype=dtype, generator=torch.Generator().manual_seed(0))
    x[3, 2] = bad
    with pytest.raises(ValueError, match="finite"):
        participation_ratio(x)


@pytest.mark.parametrize("shape", [(1, 3), (0, 3), (4, 0)])
def test_too_few_rows_or_channels_raise(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="at least two rows"):
        participation_ratio(torch.zeros(shape))


def test_the_argument_is_left_as_it_was() -> None:
    for scale in (1.0, 1e-20, 1e20):
        x = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)) * scale
        before = x.clone()
        participation_ratio(x)
        assert torch.equal(x, before)


# The corrected ratio


def unbiased(x: np.ndarray) -> float | None:
    """(tr S)^2 / tr S^2 from their unbiased estimates, by solving the moments of a Wishart matrix.

    E (tr W)^2 = f^2 a + 2 f b and E tr W^2 = f a + f (f + 1) b with a = (tr S)^2, b = tr S^2.
    """
    f = len(x) - 1
    scatter = np.atleast_2d(np.cov(x, rowvar=False)) * f
    moments = np.array([[f**2, 2 * f], [f, f * (f + 1)]], float)
    if f < 2:
        return None
    a, b = np.linalg.solve(moments, [np.trace(scatter) ** 2, np.trace(scatter @ scatter)])
    return None if b <= 0 else float(np.clip(a / b, 1.0, x.shape[1]))


@for_all(x=matrices())
def test_the_corrected_ratio_solves_the_moments(x: np.ndarray) -> None:
    found, expected = participation_ratio(torch.from_numpy(x)).corrected, unbiased(x)
    if found is None or expected is None:
        assert found == expected
    else:
        assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("channels", [5, 40])
@pytest.mark.parametrize("decay", [0.0, 0.15])
def test_the_corrected_ratio_finds_the_population_where_the_plain_one_is_low(
    channels: int, decay: float
) -> None:
    rng = np.random.default_rng(3)
    spectrum = np.exp(-decay * np.arange(channels))
    truth = (spectrum**2).sum() ** 2 / (spectrum**4).sum()
    found = [
        participation_ratio(torch.from_numpy(rng.standard_normal((30, channels)) * spectrum))
        for _ in range(300)
    ]
    plain = np.mean([p.ratio for p in found])
    corrected = np.mean([p.corrected for p in found])
    assert plain < 0.93 * truth
    assert abs(corrected - truth) < 0.25 * abs(plain - truth)


def test_the_bias_of_isotropic_data_is_what_the_docstring_says() -> None:
    rng = np.random.default_rng(4)
    for rows, channels in [(64, 1000), (200, 50), (50, 50)]:
        found = np.mean([ratio(rng.standard_normal((rows, channels))) for _ in range(5)])
        assert found == pytest.approx(rows * channels / (rows + channels), rel=0.05)


# Gradients


GRADIENTS = hnp.arrays(
    np.float32,
    hnp.array_shapes(max_dims=4, max_side=6),
    elements=st.floats(-100, 100, width=32).filter(lambda v: v == 0 or abs(v) > 1e-6),
)


@for_all(g=GRADIENTS)
def test_statistics_and_health_are_those_of_numpy(g: np.ndarray) -> None:
    wide = g.astype(np.float64)
    found = gradient_statistics(torch.from_numpy(g))
    largest = np.abs(wide).max()
    assert found.max_abs == largest
    assert found.std == pytest.approx(wide.std(), rel=1e-5, abs=1e-6 * largest)
    expected = wide.std() / largest if largest else 0.0
    health = gradient_health(found)
    assert health == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert 0.0 <= health <= 1.0


def test_closed_forms() -> None:
    assert gradient_health(gradient_statistics(torch.tensor([1.0, -1.0]))) == pytest.approx(1.0, rel=1e-7)
    assert gradient_health(gradient_statistics(torch.tensor([[-3.0]]))) == 0.0
    assert gradient_health(gradient_statistics(torch.full((5, 5), 2.5))) == pytest.approx(0.0, abs=1e-6)
    assert gradient_health(gradient_statistics(torch.zeros(3))) == 0.0
    one_hot = torch.zeros(100)
    one_hot[7] = -2.0
    assert gradient_health(gradient_statistics(one_hot)) == pytest.approx((0.01 * 0.99) ** 0.5, rel=1e-6)


@for_all(g=GRADIENTS, exponent=st.integers(-110, 115))
def test_health_does_not_depend_on_the_scale_of_the_loss(g: np.ndarray, exponent: int) -> None:
    """From gradients whose squares float32 cannot hold to those whose squares it takes for zero."""
    scaled = torch.from_numpy(g) * 2.0**exponent
    if torch.isfinite(scaled).all():
        found, reference = gradient_statistics(scaled), gradient_statistics(torch.from_numpy(g))
        assert gradient_health(found) == pytest.approx(gradient_health(reference), rel=1e-5, abs=1e-6)


def test_eps_lowers_the_health_of_small_gradients_only() -> None:
    large, small = (gradient_statistics(torch.tensor([1.0, -1.0]) * s) for s in (1.0, 1e-10))
    assert gradient_health(large, 1e-10) == pytest.approx(1.0)
    assert gradient_health(small, 1e-10) == pytest.approx(0.5, rel=1e-6)
    assert gradient_health(GradientStatistics(0.0, 0.0, size=100), 1e-10) == 0.0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_gradient_that_is_not_finite_shows(bad: float) -> None:
    found = gradient_statistics(torch.tensor([1.0, bad, 2.0]))
    assert not np.isfinite(found.max_abs)
    assert not np.isfinite(found.std)


@for_all(n=st.integers(2, 300), seed=st.integers(0, 2**32 - 1))
def test_health_of_gaussian_gradients_falls_with_their_number(n: int, seed: int) -> None:
    """Also a bound that holds for any data: max|g| is at least the root mean square, at most sqrt(n) std."""
    g = torch.randn(n, generator=torch.Generator().manual_seed(seed % 2**31), dtype=torch.float64)
    g -= g.mean()
    assert n**-0.5 <= gradient_health(gradient_statistics(g)) <= 1.0


@pytest.mark.parametrize(
    ("samples", "side", "channels"), [(8, 3, 256), (16, 2, 128), (16, 6, 512), (8, 6, 40)]
)
def test_neighbouring_rows_of_few_samples_are_corrected_for(samples: int, side: int, channels: int) -> None:
    """Images whose neighbouring pixels agree: to take each for a row of its own corrects too little."""
    rng = np.random.default_rng(samples * channels)
    spectrum = np.exp(-3 * np.arange(channels) / channels)
    truth = float((spectrum**2).sum() ** 2 / (spectrum**4).sum())
    found = []
    for _ in range(20):
        fine = rng.standard_normal((samples, side + 2, side + 2, channels))
        smooth = sum(fine[:, i : i + side, j : j + side] for i in range(3) for j in range(3)) / 3
        rows = torch.from_numpy((smooth * spectrum).reshape(-1, channels))
        found.append(
            [participation_ratio(rows, n).corrected for n in (samples, 1)] + [participation_ratio(rows).ratio]
        )
    by_samples, by_rows, plain = np.exp(np.log(np.array(found, dtype=np.float64)).mean(0))
    assert plain < by_rows < by_samples
    assert 0.7 < by_samples / truth < 1.1  # the mean of eight samples takes a part of the variance


def test_the_correction_leaves_out_the_pairs_within_a_sample() -> None:
    """Against the sum over pairs of rows, written out."""
    rng = np.random.default_rng(3)
    x = rng.standard_normal((4, 3, 20))
    centred = (x - x.mean((0, 1))).reshape(12, 20)
    products = np.square(centred @ centred.T)
    apart = np.repeat(np.arange(4), 3)[:, None] != np.repeat(np.arange(4), 3)
    trace = np.square(centred).sum() / 12
    expected = trace**2 / products[apart].mean()
    found = participation_ratio(torch.from_numpy(x.reshape(12, 20)), 4).corrected
    assert found == pytest.approx(min(expected, 20.0), rel=1e-9)
