"""Feeds two networks the same inputs: paired by name or position, moved between layouts."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError
from intrain_onnx.measure import inputs
from intrain_onnx.network import given_inputs
from intrain_onnx.network.input_shapes import InputSpec, Signature
from intrain_onnx.rewrites.network import Network
from intrain_onnx.runtime.arrays import from_numpy, to_numpy

Array = np.ndarray[Any, Any]

_CALL = 4
"""Most samples in a call: the activations of one file are held while the other runs."""


@dataclass(frozen=True)
class Feeding:
    """The calls of both networks.

    Attributes:
        first: the inputs of the first network, in all.
        second: those of the second, for one call.
        pairs: for each input of the second, the number of that of the first; None if it has no counterpart.
        calls: number of calls.
        size: samples in a call.
    """

    first: Signature
    second: Signature
    pairs: tuple[int | None, ...]
    calls: int
    size: int

    @property
    def samples(self) -> int:
        """In all."""
        return self.calls * self.size

    def drawn(self, seed: int) -> Iterator[tuple[list[Array], list[Array]]]:
        """The arrays of each call, for the first and the second network, in the types of their files."""
        whole = None if self.first.separate else self._draw(self.first, seed)
        for call in range(self.calls):
            if whole is None:
                ours = self._draw(given_inputs.of_call(self.first, call), seed + call)
            else:
                ours = [self._part(a, s, call) for a, s in zip(whole, self.first.inputs, strict=True)]
            yield ours, self._moved(ours, seed + call)

    def _part(self, array: Array, spec: InputSpec, call: int) -> Array:
        if spec.batch_axis is None:
            return array
        places = range(call * self.size, (call + 1) * self.size)
        return np.ascontiguousarray(np.take(array, places, spec.batch_axis))

    def _draw(self, signature: Signature, seed: int) -> list[Array]:
        return inputs.as_arrays(_drawn(signature, seed), signature)

    def _moved(self, ours: Sequence[Array], seed: int) -> list[Array]:
        """The inputs of the second network: those of the first in its layout and type."""
        made = []
        own = self._draw(self.second, seed) if None in self.pairs else []
        for place, (number, spec) in enumerate(zip(self.pairs, self.second.inputs, strict=True)):
            if number is None:
                made.append(own[place])
                continue
            array = _in_layout(ours[number], self.first.inputs[number], spec)
            made.append(array.astype(spec.dtype.numpy()))
        return made


def _drawn(signature: Signature, seed: int) -> list[Tensor]:
    return inputs.draw(signature, torch.Generator().manual_seed(seed), torch.device("cpu"))


def _in_layout(array: Array, spec: InputSpec, other: InputSpec) -> Array:
    """An input of one layout in another: by the order of the axes, samples first and then channels."""
    order, target = inputs.canonical_axes(spec), inputs.canonical_axes(other)
    if len(order) != len(target):
        return array
    canonical = array.transpose(order)
    return np.ascontiguousarray(canonical.transpose(sorted(range(len(target)), key=target.__getitem__)))


def feeding(a: Network, b: Network, config: ScoreConfig) -> Feeding:
    """Pair the inputs of two networks, and choose the calls.

    Args:
        a: the reference, whose inputs are drawn.
        b: gets the same.
        config: its ``batch`` and given inputs decide the number of samples.

    Raises:
        SettingsError: an input of one has another size in the other.
    """
    wanted = given_inputs.resolve(a.exact, config, sizes=a.solved.sizes)
    own = of_names(config, [v.name for v in b.exact.graph.inputs], given=False)
    other = given_inputs.resolve(b.exact, own, batch=1, sizes=b.solved.sizes)
    fixed = [s.fixed_batch for s in (wanted, other) if s.fixed_batch is not None]
    if wanted.separate or other.separate:
        size = 1
    elif len(set(fixed)) > 1:
        raise SettingsError(
            f"one graph has a batch of {fixed[0]} built in, the other of {fixed[1]}",
            hint="Export both for the same batch, or for a free one",
        )
    else:
        size = fixed[0] if fixed else min(_CALL, wanted.batch)
    calls = max(math.ceil(wanted.batch / size), 1)
    first = given_inputs.resolve(
        a.exact, config, batch=1 if wanted.separate else calls * size, sizes=a.solved.sizes
    )
    paired = _paired(first, other)
    shapes, axes = _as_first(first, other, paired, size)
    own = replace(own, input_shapes={**own.input_shapes, **shapes}, batch_axes={**own.batch_axes, **axes})
    second = given_inputs.resolve(b.exact, own, batch=size, sizes=b.solved.sizes)
    for place, number in enumerate(paired):
        if number is not None:
            _check(first.inputs[number], second.inputs[place])
    return Feeding(first, second, paired, calls, size)


def _as_first(
    first: Signature, second: Signature, paired: Sequence[int | None], size: int
) -> tuple[dict[str, tuple[int, ...]], dict[str, int | None]]:
    """Shapes and axes of samples of the second network's inputs that have open sizes: those of the first."""
    shapes: dict[str, tuple[int, ...]] = {}
    axes: dict[str, int | None] = {}
    for number, spec in zip(paired, second.inputs, strict=True):
        if number is None or all(isinstance(d, int) for d in spec.declared):
            continue
        of = first.inputs[number]
        order, target = inputs.canonical_axes(of), inputs.canonical_axes(spec)
        if len(order) != len(target) or len(spec.declared) != len(target):
            continue
        sizes = {
            i: size if axis == of.batch_axis else of.shape[axis]
            for i, axis in zip(target, order, strict=True)
        }
        shapes[spec.name] = tuple(d if isinstance(d, int) else sizes[i] for i, d in enumerate(spec.declared))
        axes[spec.name] = target[order.index(of.batch_axis)] if of.batch_axis is not None else None
    return shapes, axes


def of_names(config: ScoreConfig, names: Collection[str | None], *, given: bool = True) -> ScoreConfig:
    """The settings of the inputs that a graph has, without values for them unless ``given``."""
    return replace(
        config,
        inputs={n: value for n, value in config.inputs.items() if given and n in names},
        input_shapes={n: shape for n, shape in config.input_shapes.items() if n in names},
        batch_axes={n: axis for n, axis in config.batch_axes.items() if n in names},
    )


def _paired(first: Signature, second: Signature) -> tuple[int | None, ...]:
    names = {spec.name: i for i, spec in enumerate(first.inputs)}
    if all(spec.name in names for spec in second.inputs):
        return tuple(names[spec.name] for spec in second.inputs)
    left = [i for i, spec in enumerate(first.inputs) if spec.name not in {s.name for s in second.inputs}]
    rest = iter(left)
    return tuple(names[s.name] if s.name in names else next(rest, None) for s in second.inputs)


def _check(first: InputSpec, second: InputSpec) -> None:
    """Refuse a pair whose sizes differ, the samples aside."""
    sizes = [_sizes(spec) for spec in (first, second)]
    if sizes[0] != sizes[1]:
        shown = ["x".join(map(str, spec.shape)) for spec in (first, second)]
        raise SettingsError(
            f"the input {first.name!r} is {shown[0]}, and {second.name!r} of the second file {shown[1]}",
            hint=f"Give the size with --input-shape {second.name}:{shown[0]}",
        )


def _sizes(spec: InputSpec) -> list[int]:
    order = inputs.canonical_axes(spec)
    return [spec.shape[axis] for axis in order if axis != spec.batch_axis]


def as_tensors(arrays: Sequence[Array], *, half_as_float: bool) -> list[Tensor]:
    """The arrays as torch's tensors; half types in float32 if asked."""
    tensors = [from_numpy(a) for a in arrays]
    half = (torch.float16, torch.bfloat16)
    return [t.float() if half_as_float and t.dtype in half else t for t in tensors]


def as_array(tensor: Tensor) -> Array:
    """A tensor as an array of a type of numpy."""
    tensor = tensor.detach().cpu()
    return to_numpy(tensor.float() if tensor.dtype is torch.bfloat16 else tensor)
