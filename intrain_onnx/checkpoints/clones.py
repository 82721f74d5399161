"""Channels that compute the same: equal rows of a weight matrix. No torch."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

_LEAST_INPUTS = 3
"""With fewer inputs a channel, rows are parallel by chance."""

_MOST = 2048
"""Channels above which all pairs of them are too many."""

_ALIKE = 1 - 1e-6
"""Cosine of two rows from which they are one up to round-off of training in float32."""


def cloned(weight: Array, bias: Array | None) -> int | None:
    """How many channels have the weights and bias of an earlier one, up to a positive factor.

    Args:
        weight: canonical, (out, in / groups, *kernel).
        bias: (out,), or None.

    Returns:
        None for weights that cannot be compared: depthwise filters, which read different inputs, fewer than
        three inputs, more than 2,048 channels, or values that are not finite.
    """
    channels = weight.shape[0] if weight.ndim else 0
    rows = weight.reshape(channels, -1).astype(np.float64) if channels else np.zeros((0, 0))
    depthwise = weight.ndim > 2 and weight.shape[1] == 1
    if depthwise or rows.shape[1] < _LEAST_INPUTS or not 1 < channels <= _MOST:
        return None
    if bias is not None and bias.size == channels:
        rows = np.concatenate([rows, bias.reshape(-1, 1).astype(np.float64)], axis=1)
    if not np.isfinite(rows).all():
        return None
    norms = np.linalg.norm(rows, axis=1)
    rows = rows[norms > 0] / norms[norms > 0, None]
    alike = np.tril(rows @ rows.T >= _ALIKE, -1)
    return int(alike.any(axis=1).sum())
