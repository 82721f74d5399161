"""The synthetic loss, and its labels."""

import numpy as np
import pytest
import torch
from builders import model, weight

from intrain_onnx import ScoreConfig, score
from intrain_onnx.measure.loss import balanced_labels, synthetic_loss


@pytest.mark.parametrize(("samples", "classes"), [(16, 10), (16, 1000), (64, 10), (3, 2), (1, 5)])
def test_no_class_has_two_labels_more_than_another(samples: int, classes: int):
    labels = balanced_labels(samples, classes, torch.Generator().manual_seed(0))
    counts = torch.bincount(labels, minlength=classes)
    assert labels.shape == (samples,)
    assert counts.max() - counts.min() <= 1


def test_every_class_and_every_order_comes_up():
    generator = torch.Generator().manual_seed(0)
    drawn = torch.stack([balanced_labels(4, 6, generator) for _ in range(2000)])
    shares = torch.bincount(drawn.reshape(-1), minlength=6) / drawn.numel()
    assert torch.allclose(shares, torch.full((6,), 1 / 6), atol=0.02)
    assert len({tuple(row) for row in drawn.tolist()}) > 300


@pytest.mark.parametrize(
    "shapes", [[(3,), (5,)], [(0,), (2,)], [(2, 4), (3, 4)], [(2, 4), (3, 5)], [(3,), (3,)], [(), ()]]
)
def test_samples_one_by_one_may_give_any_number_of_elements(shapes: list[tuple[int, ...]]):
    """The error is the mean over all elements of all samples, as if they were one list."""
    parts = [torch.full(shape, 1e6, requires_grad=True) for shape in shapes]
    loss, [term] = synthetic_loss([parts], ["boxes"], 2, torch.Generator().manual_seed(0))
    elements = sum(p.numel() for p in parts)
    assert int(np.prod(term.shape)) == elements
    if term.kind == "mean_squared_error":
        assert loss.item() == pytest.approx(1e12, rel=1e-3)
        loss.backward()
        for part in parts:
            assert part.grad is not None
            np.testing.assert_allclose(part.grad, np.full(part.shape, 2e6 / elements), rtol=1e-3)


def test_a_list_of_scores_of_each_image_is_scored():
    text = """(float[1,6] x) => (float[R] y) { h = MatMul(x, w) f = Reshape(h, flat) b = Greater(f, zero)
        c = Compress(f, b) y = Sigmoid(c) }"""
    constants = {"w": weight(6, 24), "zero": np.float32(0), "flat": np.array([24])}
    data = score(
        model(text, constants), ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu")
    ).data
    assert data["score"]["intrain"] > 0
