"""Operators that make a tensor from a size or a few values."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.ops.limits import check_elements
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import ints


@op("Constant", 1, 9, 11, 12, 13, 19, 21, 23, 24, 25)
def constant(
    *,
    value: Tensor | None = None,
    value_float: float | None = None,
    value_floats: list[float] | None = None,
    value_int: int | None = None,
    value_ints: list[int] | None = None,
) -> Tensor:
    """The value of the attribute."""
    if value is not None:
        return value
    if value_float is not None or value_floats is not None:
        return torch.tensor(value_float if value_floats is None else value_floats, dtype=torch.float32)
    if value_int is not None or value_ints is not None:
        return torch.tensor(value_int if value_ints is None else value_ints, dtype=torch.int64)
    raise UnsupportedError("a Constant without a dense number")


@op("ConstantOfShape", 9, 20, 21, 23, 24, 25)
def constant_of_shape(shape: Tensor, *, value: Tensor | None = None) -> Tensor:
    """A tensor of one value; float zeros by default."""
    sizes = ints(shape)
    check_elements(sizes)
    if value is None:
        return torch.zeros(sizes, dtype=torch.float32, device=shape.device)
    return value.to(shape.device).reshape(()).expand(sizes).clone()


@op("Range", 11)
def range_(start: Tensor, limit: Tensor, delta: Tensor) -> Tensor:
    """Numbers from start to before limit, in steps of delta."""
    first, last, step = start.item(), limit.item(), delta.item()
    count = max(0, math.ceil((last - first) / step))
    check_elements([count])
    wide = torch.float64 if start.is_floating_point() else torch.int64
    steps = torch.arange(count, dtype=wide, device=start.device)
    return (start.to(wide) + steps * delta.to(wide)).to(start.dtype)


@op("Range", 27)
def range_stash(start: Tensor, limit: Tensor, delta: Tensor, *, stash_type: int = 1) -> Tensor:
    """Range in float64, which is at least as exact as either ``stash_type``."""
    return range_(start, limit, delta)


@op("EyeLike", 9, 22)
def eye_like(x: Tensor, *, dtype: torch.dtype | None = None, k: int = 0) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere, in the shape of the input."""
    rows = torch.arange(x.shape[0], device=x.device).unsqueeze(1)
    columns = torch.arange(x.shape[1], device=x.device)
    return (columns == rows + k).to(dtype or x.dtype)


@op("OneHot", 9, 11, 28)
def one_hot(indices: Tensor, depth: Tensor, values: Tensor, *, axis: int = -1) -> Tensor:
    """A new axis that is values[1] at the index and values[0] elsewhere."""
    classes = int(depth.reshape(-1)[0])
    check_elements([*indices.shape, classes])
    place = axis + indices.dim() + 1 if axis < 0 else axis
    wide = indices.to(torch.int64)  # one that is outside of the depth is nowhere
    index = torch.where(wide < 0, wide + classes, wide).unsqueeze(place)
    choices = torch.arange(classes, device=indices.device)
    choices = choices.reshape([-1 if i == place else 1 for i in range(index.dim())])
    return torch.where(index == choices, values[1], values[0])
