"""Cloned channels, counted by comparing every pair of rows."""

from __future__ import annotations

import numpy as np
import pytest
from builders import weight

from intrain_onnx.checkpoints.clones import cloned


def test_copies_count_once_each():
    w = weight(8, 5)
    w[3], w[6], w[7] = w[1], 2.5 * w[1], w[0]
    assert cloned(w, None) == 3
    assert cloned(w, np.zeros(8)) == 3


def test_a_bias_tells_them_apart():
    w = weight(8, 5)
    w[3] = w[1]
    bias = np.zeros(8)
    bias[3] = 1.0
    assert cloned(w, bias) == 0


def test_a_channel_of_the_opposite_sign_is_none():
    w = weight(8, 5)
    w[3] = -w[1]
    assert cloned(w, None) == 0


def test_dead_rows_are_no_clones():
    w = weight(8, 5)
    w[2:5] = 0
    assert cloned(w, None) == 0


def test_kernels_are_compared_whole():
    w = weight(8, 4, 3, 3)
    w[5] = w[2]
    assert cloned(w, None) == 1


@pytest.mark.parametrize(
    "w",
    [
        np.ones((8, 1, 3, 3)),  # depthwise: each reads another channel
        np.ones((8, 2)),
        np.ones((1, 9)),
        np.ones((3000, 9)),
        np.full((4, 9), np.nan),
        np.zeros((0, 3)),
    ],
)
def test_what_cannot_be_compared_has_no_count(w: np.ndarray):
    assert cloned(w, None) is None
