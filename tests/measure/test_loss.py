"""Synthetic labels."""

import pytest
import torch

from intrain_onnx.measure.loss import balanced_labels


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
