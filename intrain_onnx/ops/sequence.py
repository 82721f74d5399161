"""Sequences (Python lists of tensors) and optionals (a value or None)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from intrain_onnx.ops.limits import check_parts
from intrain_onnx.ops.registry import op
from intrain_onnx.ops.values import ints


@op("SequenceConstruct", 11)
def sequence_construct(*inputs: Tensor) -> list[Tensor]:
    """The inputs as a sequence."""
    return list(inputs)


@op("SequenceEmpty", 11)
def sequence_empty(*, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    """An empty sequence."""
    return []


@op("SequenceLength", 11)
def sequence_length(input_sequence: list[Tensor]) -> Tensor:
    """The number of tensors, as an int64 scalar."""
    device = input_sequence[0].device if input_sequence else None
    return torch.tensor(len(input_sequence), dtype=torch.int64, device=device)


@op("SequenceAt", 11)
def sequence_at(input_sequence: list[Tensor], position: Tensor) -> Tensor:
    """The tensor at a position; a negative one counts from the end."""
    return input_sequence[int(position.item())]


@op("SequenceErase", 11)
def sequence_erase(input_sequence: list[Tensor], position: Tensor | None = None) -> list[Tensor]:
    """The sequence without one tensor, the last by default."""
    result = list(input_sequence)
    del result[-1 if position is None else int(position.item())]
    return result


@op("SequenceInsert", 11)
def sequence_insert(
    input_sequence: list[Tensor], tensor: Tensor, position: Tensor | None = None
) -> list[Tensor]:
    """The sequence with one tensor more, at the end by default."""
    result = list(input_sequence)
    result.insert(len(result) if position is None else int(position.item()), tensor)
    return result


@op("ConcatFromSequence", 11)
def concat_from_sequence(input_sequence: list[Tensor], *, axis: int, new_axis: int = 0) -> Tensor:
    """Concatenate the tensors along an axis, or stack them along a new one."""
    return torch.stack(input_sequence, axis) if new_axis else torch.cat(input_sequence, axis)


@op("SplitToSequence", 11, 24)
def split_to_sequence(
    data: Tensor, split: Tensor | None = None, *, axis: int = 0, keepdims: int = 1
) -> list[Tensor]:
    """Parts along an axis: of the given size or sizes, or single entries."""
    check_parts(data.shape[axis] if split is None else _parts(data.shape[axis], split))
    if split is None:
        return list(torch.split(data, 1, axis) if keepdims else torch.unbind(data, axis))
    return list(torch.split(data, int(split.item()) if split.dim() == 0 else ints(split), axis))


def _parts(length: int, split: Tensor) -> int:
    return split.numel() if split.dim() else length // max(int(split.item()), 1)


@op("Optional", 15, 28)
def optional(value: Any = None, *, type: object = None) -> Any:
    """The input as an optional; None for an empty one."""
    return value


@op("OptionalGetElement", 15, 18, 28)
def optional_get_element(value: Any) -> Any:
    """The value inside an optional.

    Raises:
        ValueError: it is empty.
    """
    if value is None:
        raise ValueError("OptionalGetElement of an empty optional")
    return value


@op("OptionalHasElement", 15, 18, 28)
def optional_has_element(value: Any = None) -> Tensor:
    """Whether an optional has a value, as a bool scalar."""
    device = value.device if isinstance(value, Tensor) else None
    return torch.tensor(value is not None, device=device)
