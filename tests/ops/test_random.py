"""Random operators: shape, type, distribution, and that a graph stays a function."""

import math

import pytest
import torch

from intrain_onnx.ops import random

N = 40_000


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def near(actual, expected, spread):
    """Within five standard errors."""
    assert abs(float(actual) - expected) < 5 * spread / math.sqrt(N)


def test_uniform():
    x = random.random_uniform(shape=[N], stream=0, low=-1.0, high=3.0)
    assert -1 <= x.min() < x.max() < 3
    near(x.mean(), 1, 4 / math.sqrt(12))


def test_normal():
    x = random.random_normal(shape=[N], stream=0, mean=2.0, scale=3.0)
    near(x.mean(), 2, 3)
    near(x.std(), 3, 3)


def test_like_takes_shape_and_type():
    like = torch.zeros(2, 3, dtype=torch.float64)
    assert random.random_normal_like(like, stream=0).dtype == torch.float64
    assert random.random_uniform_like(like, stream=0, dtype=torch.float32).shape == (2, 3)


def test_bernoulli():
    x = random.bernoulli(torch.full((N,), 0.3), stream=0, dtype=torch.int64)
    assert set(x.tolist()) == {0, 1}
    near(x.float().mean(), 0.3, math.sqrt(0.21))
    assert random.bernoulli(torch.tensor([0.0, 1.0]), stream=0).tolist() == [0, 1]


def test_multinomial():
    x = random.multinomial(torch.log(torch.tensor([[0.2, 0.8]])), stream=0, sample_size=N)
    assert x.shape == (1, N)
    assert x.dtype == torch.int32
    near(x.float().mean(), 0.8, 0.4)


def test_same_seed_same_numbers_and_other_streams_differ():
    draw = random.random_normal
    assert torch.equal(draw(shape=[4], stream=1), draw(shape=[4], stream=1))
    assert not torch.equal(draw(shape=[4], stream=1), draw(shape=[4], stream=2))
    assert torch.equal(draw(shape=[4], stream=1, seed=0.5), draw(shape=[4], stream=2, seed=0.5))
    first = draw(shape=[4], stream=1)
    torch.manual_seed(1)
    assert not torch.equal(draw(shape=[4], stream=1), first)


def test_global_generator_is_left_alone():
    before = torch.get_rng_state()
    random.random_normal(shape=[4], stream=0)
    random.multinomial(torch.zeros(1, 2), stream=0)
    assert torch.equal(torch.get_rng_state(), before)
