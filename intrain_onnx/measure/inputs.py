"""Inputs of a run: Gaussian noise, uniform ids, positions or constants by input kind, or what is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from intrain_onnx.errors import LimitError, UnsupportedError
from intrain_onnx.network.given_inputs import fed, of_call
from intrain_onnx.network.input_shapes import InputSpec, Signature, sampling_rate
from intrain_onnx.ops.limits import check_elements
from intrain_onnx.runtime.arrays import from_numpy, to_numpy
from intrain_onnx.runtime.convert import torch_dtype
from intrain_onnx.runtime.interpreter import Samples
from intrain_onnx.runtime.random_streams import generator_for

_UNIFORM = ("ids", "edge_index", "timestep")


def draw(
    signature: Signature, generator: torch.Generator, device: torch.device, *, half_as_float: bool = True
) -> list[Tensor]:
    """Draw one batch of inputs, on the CPU, so that every device gets the same numbers.

    Each input has a separate generator, keyed by the given one's seed, and is drawn in the canonical layout:
    samples first, then channels. So unread inputs and the layout in the file do not change the others. What
    the user gives is fed as it is, whatever the seed.

    Raises:
        LimitError: the shape of an input has more elements than the limit.
    """
    for spec in signature.inputs:
        try:
            check_elements(spec.shape)
        except LimitError as error:
            error.message = f"input {spec.name!r}: {error.message}"
            raise
    seed = generator.initial_seed()
    drawn = []
    for spec in signature.inputs:
        dtype = torch_dtype(spec.dtype, half_as_float=half_as_float)
        if spec.dtype.bitwidth < 8:
            raise UnsupportedError(f"the input {spec.name!r} has elements of type {spec.dtype.name}")
        if spec.name in signature.given:
            tensor = from_numpy(fed(spec, signature.given[spec.name])).to(dtype)
        else:
            tensor = _draw(spec, generator_for(seed, f"input {spec.number}"), dtype)
        drawn.append(tensor.to(device))
    return drawn


def _draw(spec: InputSpec, generator: torch.Generator, dtype: torch.dtype) -> Tensor:
    if spec.kind in ("noise", "positive", *_UNIFORM):
        order = canonical_axes(spec)
        shape = [spec.shape[axis] for axis in order]
        if spec.kind == "noise":
            drawn = torch.randn(shape, generator=generator)
        elif spec.kind == "positive":
            drawn = 0.1 + 0.8 * torch.rand(shape, generator=generator)
        elif spec.role.columns is not None:
            drawn = _columns(spec, order, torch.rand(shape, generator=generator))
        else:
            drawn = torch.randint(0, max(spec.high, 1), shape, generator=generator)
            if spec.kind == "edge_index":
                _reach_all(drawn, spec.high, generator)
        return drawn.permute(sorted(range(len(order)), key=order.__getitem__)).contiguous().to(dtype)
    if spec.kind in ("positions", "offsets"):
        steps = torch.arange(spec.shape[-1] if spec.shape else 1)
        return (steps % spec.high if spec.high else steps).expand(spec.shape).to(dtype).contiguous()
    return torch.full(spec.shape, _constant(spec), dtype=dtype)


def _reach_all(ids: Tensor, entries: int, generator: torch.Generator) -> None:
    """Let each row along the longest axis hold every entry, in place, if it is long enough.

    A node without an edge, or a graph without a node, has a degree of zero, whose logarithm is not finite.
    """
    longest = max(range(ids.dim()), key=lambda axis: ids.shape[axis], default=0)
    if ids.dim() and ids.shape[longest] >= entries:
        rows = ids.movedim(longest, -1)
        rows[..., :entries] = torch.rand((*rows.shape[:-1], entries), generator=generator).argsort(-1)


def _columns(spec: InputSpec, order: list[int], uniform: Tensor) -> Tensor:
    """Ids of columns that have different numbers of ids, from numbers in [0, 1) in the canonical layout."""
    assert spec.role.columns is not None
    axis, highs = spec.role.columns
    place = order.index(axis % len(spec.shape))
    size = uniform.shape[place]
    each = torch.tensor((*highs, *[min(highs)] * size)[:size])
    return (uniform * each.reshape([-1 if i == place else 1 for i in range(uniform.dim())])).long()


def _constant(spec: InputSpec) -> int:
    if spec.kind == "sampling_rate":
        return sampling_rate()
    if spec.kind in ("length", "size"):
        return max(spec.high, 1)
    return 0 if spec.kind == "zeros" else 1


def canonical_axes(spec: InputSpec) -> list[int]:
    """The input's axes in canonical order: samples, channels, space."""
    if spec.channels_last:
        return [0, 3, 1, 2]
    first = spec.batch_axis or 0
    return [first, *(axis for axis in range(len(spec.shape)) if axis != first)] if spec.shape else []


def as_arrays(drawn: Sequence[Tensor], signature: Signature) -> list[np.ndarray]:
    """The inputs as numpy arrays of the graph's own element types."""
    return [
        to_numpy(tensor).astype(spec.dtype.numpy())
        for tensor, spec in zip(drawn, signature.inputs, strict=True)
    ]


def feed(
    signature: Signature, generator: torch.Generator, device: torch.device, *, batched: bool
) -> list[Tensor | Samples]:
    """Draw the inputs of a run: one batch if ``batched``, else :class:`Samples` for lock step."""
    if signature.separate and signature.batch > 1:
        seed = generator.initial_seed()
        numbers = range(signature.batch)
        calls = [draw(of_call(signature, i), generator_for(seed, f"sample {i}"), device) for i in numbers]
        return [Samples(parts) for parts in zip(*calls, strict=True)]
    drawn = draw(signature, generator, device)
    return [*drawn] if batched else chunk(drawn, signature, signature.fixed_batch or 1)


def chunk(inputs: Sequence[Tensor], signature: Signature, size: int) -> list[Tensor | Samples]:
    """Split a batch into calls of ``size`` samples; inputs without a batch axis are passed to each."""
    parts: list[Tensor | Samples] = []
    for tensor, spec in zip(inputs, signature.inputs, strict=True):
        if spec.batch_axis is None:
            parts.append(tensor)
        else:
            parts.append(Samples(torch.split(tensor, size, spec.batch_axis)))
    return parts


def identical(a: Sequence[Tensor | Samples], b: Sequence[Tensor | Samples]) -> bool:
    """Whether two runs are fed the same values."""
    return all(map(_are_equal, a, b))


def _are_equal(a: Tensor | Samples, b: Tensor | Samples) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return torch.equal(a, b)
    return len(a) == len(b) and all(map(_are_equal, a, b))


def same(a: list[Tensor], b: list[Tensor]) -> bool:
    """Whether a batched output equals the concatenation of its parts, up to float32 round-off.

    Along any axis, since the batch axis may be another than the first.
    """
    if not all(isinstance(p, Tensor) for p in (*a, *b)):  # sequences
        return False
    whole, parts = a[0], [p if p.dim() else p.unsqueeze(0) for p in b]
    return len({p.dim() for p in parts}) == 1 and any(
        whole.shape == (*shape[:axis], sum(p.shape[axis] for p in parts), *shape[axis + 1 :])
        and all(p.shape[:axis] == shape[:axis] and p.shape[axis + 1 :] == shape[axis + 1 :] for p in parts)
        and _close(whole, torch.cat(parts, axis))
        for shape in (parts[0].shape,)
        for axis in range(len(shape))
    )


def _close(whole: Tensor, joined: Tensor) -> bool:
    if not whole.is_floating_point():
        return torch.equal(whole, joined)
    if not bool(torch.isfinite(joined).all()):
        return True  # the probe says where that began
    scale = joined.abs().amax().item() if joined.numel() else 0.0
    return bool(torch.allclose(whole, joined, rtol=1e-3, atol=1e-4 * scale))
