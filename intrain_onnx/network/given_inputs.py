"""Given inputs: reads arrays and lists, derives sizes and batch from them, checks that they fit a model."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading.given_inputs import Array, Given, read
from intrain_onnx.network import input_shapes
from intrain_onnx.network.input_shapes import InputSpec, Signature, declared_shape, show_dims

Shapes = dict[str, tuple[int, ...]]


def read_for(model: ir.Model, config: ScoreConfig) -> ScoreConfig:
    """The settings with given inputs read and converted to the element types of the model's inputs.

    An array that was read before is kept as the same object, so that it is read and converted only once.

    Raises:
        SettingsError: an array cannot be converted; also see `loading.given_inputs.read`.
        LimitError: see there.
    """
    if not config.inputs:
        return config
    types = {v.name or "": v.dtype for v in model.graph.inputs}
    found = read(config.inputs, list(types))
    return replace(config, inputs={name: _typed(name, given, types[name]) for name, given in found.items()})


def sized(model: ir.Model, config: ScoreConfig) -> ScoreConfig:
    """The settings with free dimensions and batch size set to those of the given inputs.

    Args:
        model: a normalised model.
        config: its inputs have been read (:func:`read_for`).

    Raises:
        SettingsError: the shapes do not fit the model, or each other.
        UnsupportedError: see `input_shapes.resolve`.
    """
    if not config.inputs:
        return config
    declared = {v.name or "": declared_shape(v) for v in model.graph.inputs}
    whole = {name: g for name, g in config.inputs.items() if _is_whole(g, declared[name])}
    known = dict(config.input_shapes) | {n: _fixed(n, g.array, declared[n]) for n, g in whole.items()}
    first = input_shapes.resolve_shapes(model, replace(config, input_shapes=known))
    for spec in first.inputs:
        if spec.name in whole:
            _check_shape(whole[spec.name].array, spec, config.input_shapes.get(spec.name), first.separate)
        elif spec.name in config.inputs and spec.name not in known:
            known |= _length(config.inputs[spec.name].array, spec)
    return replace(config, input_shapes=known, batch=_samples(whole, first) or config.batch)


def resolve(
    model: ir.Model,
    config: ScoreConfig,
    *,
    batch: int | None = None,
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> Signature:
    """Choose a concrete shape for every input, and fit given inputs to it.

    Given arrays fix the free sizes of their inputs, and their number of samples is the batch size.

    Args:
        model: a normalised model.
        config: the settings; given inputs may have been read before.
        batch: number of samples instead of that of the given inputs or ``config.batch``.
        sizes: of free dimensions, instead of the defaults (see ``Signature.free``).

    Raises:
        SettingsError: a given input does not fit the model.
        LimitError: it does not fit into memory.
        UnsupportedError: see `input_shapes.resolve`.
    """
    config = sized(model, read_for(model, config))
    found = input_shapes.resolve(model, config, batch=batch, sizes=sizes)
    given: Mapping[str, Given] = config.inputs
    return replace(found, given={s.name: _fitted(given[s.name], s) for s in found.inputs if s.name in given})


def of_call(signature: Signature, index: int) -> Signature:
    """The inputs of one call of a model without a batch axis: one sample, cyclically by index."""
    given = {
        spec.name: replace(found, array=found.array[index % len(found.array)])
        if found.array.ndim > len(spec.shape)
        else found
        for spec in signature.inputs
        if (found := signature.given.get(spec.name)) is not None
    }
    return replace(signature, given=given)


def fed(spec: InputSpec, given: Given) -> Array:
    """The array that a run gets: broadcast to the shape, samples repeated cyclically if there are fewer."""
    array = given.array
    if array.ndim > len(spec.shape):
        array = array[0]
    if spec.batch_axis is not None:
        count = spec.shape[spec.batch_axis]
        array = np.take(array, np.arange(count) % array.shape[spec.batch_axis], spec.batch_axis)
    return np.ascontiguousarray(np.broadcast_to(array, spec.shape)).reshape(spec.shape)


def digest(spec: InputSpec, given: Given) -> str:
    """SHA-256 of the bytes fed: in the graph's element type, little-endian, row-major."""
    array = given.array if given.array.ndim > len(spec.shape) else fed(spec, given)
    return hashlib.sha256(array.astype(array.dtype.newbyteorder("<")).tobytes()).hexdigest()


def _is_whole(given: Given, declared: tuple[int | str | None, ...] | None) -> bool:
    """Whether the value has all axes of its input: an array, or a list for an input of rank 1."""
    return given.source != "value" or (given.array.ndim == 1 and declared is not None and len(declared) == 1)


def _fixed(name: str, array: Array, declared: tuple[int | str | None, ...] | None) -> tuple[int, ...]:
    """The array's shape for free dimensions, the file's for fixed ones; those are compared later.

    Raises:
        SettingsError: the ranks differ.
    """
    if declared is None:
        declared = (None,) * array.ndim
    own = array.shape[1:] if array.ndim == len(declared) + 1 else array.shape
    if len(own) != len(declared):
        raise _mismatch(name, array, declared, f"Give an array with {len(declared)} axes")
    return tuple(d if isinstance(d, int) and d > 0 else max(n, 1) for d, n in zip(declared, own, strict=True))


def _check_shape(array: Array, spec: InputSpec, asked: tuple[int, ...] | None, separate: bool) -> None:
    rank = len(spec.shape)
    axes = [axis for axis in range(rank) if axis != spec.batch_axis]
    own = array.shape[array.ndim - rank :]
    if (array.ndim > rank and not separate) or any(own[axis] != spec.shape[axis] for axis in axes):
        wanted = tuple("any" if axis not in axes else size for axis, size in enumerate(spec.shape))
        raise _mismatch(spec.name, array, spec.declared, f"Give an array of shape {show_dims(wanted)}")
    if asked is not None and any(own[axis] != asked[axis] for axis in axes):
        given, told = show_dims(array.shape), show_dims(asked)
        raise SettingsError(
            f"input {spec.name!r} has shape {given} in what is given, and {told} in --input-shape",
            hint="Leave --input-shape out: the array says it",
        )


def _length(array: Array, spec: InputSpec) -> Shapes:
    """The shape of an input with a free last axis, from the length of a given list."""
    if not array.ndim or not spec.declared or isinstance(spec.declared[-1], int):
        return {}
    return {} if spec.batch_axis == len(spec.shape) - 1 else {spec.name: (*spec.shape[:-1], array.size)}


def _mismatch(name: str, array: Array, declared: tuple[int | str | None, ...], hint: str) -> SettingsError:
    return SettingsError(
        f"input {name!r} takes {show_dims(declared)}, and what is given has shape {show_dims(array.shape)}",
        hint=hint,
    )


def _samples(whole: Mapping[str, Given], signature: Signature) -> int | None:
    """Number of samples given; None if no array has a batch axis. A single sample is used for all.

    Raises:
        SettingsError: no samples, different numbers, or not a multiple of the graph's fixed batch size.
    """
    counts: dict[str, int] = {}
    for spec in (s for s in signature.inputs if s.name in whole):
        array = whole[spec.name].array
        if spec.batch_axis is not None:
            counts[spec.name] = array.shape[spec.batch_axis]
        elif array.ndim > len(spec.shape):
            counts[spec.name] = len(array)
    if not counts:
        everything = signature.separate and all(s.name in whole for s in signature.inputs if s.number >= 0)
        return 1 if everything else None
    first = max(counts, key=lambda name: counts[name])
    samples, size = counts[first], signature.fixed_batch or 1
    for name, count in counts.items():
        if count not in (1, samples):
            raise SettingsError(
                f"input {first!r} is given {samples} samples, and input {name!r} {count}",
                hint="Give as many for each, or one for all",
            )
    if not samples or samples % size:
        raise SettingsError(
            f"input {first!r} is given {samples} samples, and the graph takes {size} at a time",
            hint=f"Give {size}, or a multiple",
        )
    return samples


def _fitted(given: Given, spec: InputSpec) -> Given:
    """A list or number reshaped to the rank of its input, with axes of size 1 that broadcast."""
    if given.source != "value" or len(spec.shape) == given.array.ndim:
        return given
    return replace(given, array=_spread(given.array, spec))


def _spread(array: Array, spec: InputSpec) -> Array:
    """Reshape a number, a list along the last axis, or a flat list of one sample, to the rank of the input.

    Raises:
        SettingsError: the list has another length.
    """
    rank = len(spec.shape)
    one = tuple(1 if axis == spec.batch_axis else size for axis, size in enumerate(spec.shape))
    if not array.ndim:
        return array.reshape((1,) * rank)
    if rank and rank - 1 != spec.batch_axis and array.size == spec.shape[-1]:
        return array.reshape((*(1,) * (rank - 1), array.size))
    if array.size == math.prod(one):
        return array.reshape(one)
    raise _mismatch(spec.name, array, spec.declared, f"Give one number, or {one[-1] if one else 1} of them")


def _typed(name: str, given: Given, dtype: ir.DataType | None) -> Given:
    if dtype is None or dtype == ir.DataType.STRING:  # cannot be fed: reported when it is read
        return given
    array = _converted(given.array, name, dtype, typed=given.source == "value")
    return given if array is given.array else replace(given, array=array)


def _converted(array: Array, name: str, dtype: ir.DataType, *, typed: bool) -> Array:
    """Convert an array to the graph's element type.

    Floats are rounded to a narrower float type; other conversions must be exact. A typed ``1.0`` converts to
    an integer type, an array of floats does not.

    Raises:
        SettingsError: a value does not fit the type, or the conversion is not allowed.
        SettingsError: it is not.
    """
    target = dtype.numpy()
    if array.dtype.type is np.void and array.dtype.itemsize == target.itemsize and target.kind == "V":
        array = array.view(target)  # numpy.save stores types that are not its own as raw bytes
    if array.dtype == target:
        return array
    wanted = target.name
    refusal = SettingsError(
        f"input {name!r} takes {wanted}, and what is given is {array.dtype.name}",
        hint=f"Convert it first: array.astype({wanted!r})",
    )
    rounds = dtype.is_floating_point() or target.kind == "c"
    real, inexact = array.dtype.kind in "biuf", array.dtype.kind in "fc"
    if not (real or (inexact and target.kind == "c")) or (inexact and not typed and not rounds):
        raise refusal
    with np.errstate(all="ignore"):
        made: Array = array.astype(target)
        lost = _overflows(made, array) if inexact and rounds else _differs(made, array)
    if lost.any():
        value = array[np.unravel_index(int(np.argmax(lost)), array.shape)]
        raise SettingsError(
            f"input {name!r} takes {wanted}, which does not hold {value}",
            hint="Give values that it holds",
        )
    return made


def _overflows(made: Array, array: Array) -> Array:
    plain: Array = made.astype(np.float64) if made.dtype.kind == "V" else made
    found: Array = ~np.isfinite(plain) & np.isfinite(array)
    return found


def _differs(made: Array, array: Array) -> Array:
    plain: Any = made.astype(np.int64) if made.dtype.kind == "V" else made.real
    found: Array = (plain != array) | (plain.astype(array.dtype) != array)
    return found
