"""Element-wise arithmetic, comparison and activation functions."""

from __future__ import annotations

import torch
from torch import Tensor

from intrain_onnx.ops.registry import op

op("Abs", 1, 6, 13)(torch.abs)
op("Sqrt", 1, 6, 13)(torch.sqrt)


@op("Relu", 1, 6, 13, 14)
def relu(x: Tensor) -> Tensor:
    """max(x, 0)."""
    return torch.relu(x)


@op("Add", 7, 13, 14)
def add(a: Tensor, b: Tensor) -> Tensor:
    """a + b with numpy broadcasting."""
    return a + b
