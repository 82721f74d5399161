"""What a model takes: concrete shapes and kinds of its inputs, from the graph alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError, UnsupportedError
from intrain_onnx.loading.given_inputs import Given
from intrain_onnx.network.marks import DECLARED
from intrain_onnx.network.values import constant_array, constant_shape
from intrain_onnx.network.window_lengths import least_lengths
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, is_view, kind, traits

Contents = Literal["noise", "ids", "ones", "positions", "length", "sampling_rate"]

_IMAGE_CHANNELS = (1, 2, 3, 4)
_SAMPLING_RATE = 16_000


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One graph input as it will be fed.

    Attributes:
        name: of the input.
        dtype: ONNX element type.
        shape: concrete, for all samples.
        declared: the shape in the file, symbols as strings, None where a dimension has no name.
        kind: ``noise`` N(0, 1); ``ids`` uniform below ``high``; ``ones``; ``positions`` 0, 1, 2 …;
            ``length`` the full sequence; ``sampling_rate`` 16,000 Hz.
        high: number of ids, 0 where the kind is another.
        channels_last: a rank-4 image with its channels in the last axis.
        batch_axis: axis that holds the samples; None where the input has none.
        number: ordinal among the inputs that a node reads; -1 where none does.
    """

    name: str
    dtype: ir.DataType
    shape: tuple[int, ...]
    declared: tuple[int | str | None, ...]
    kind: Contents
    high: int
    channels_last: bool
    batch_axis: int | None
    number: int = 0


@dataclass(frozen=True)
class Signature:
    """All inputs, and how many samples they hold.

    Attributes:
        inputs: in graph order.
        batch: samples in all; a multiple of ``fixed_batch``.
        fixed_batch: samples that the graph was exported for; None where it leaves their number open.
        given: what is fed instead of what would be drawn, by input name (see `network.given_inputs`).
    """

    inputs: tuple[InputSpec, ...]
    batch: int
    fixed_batch: int | None
    given: Mapping[str, Given] = field(default_factory=dict)


def declared_shape(value: ir.Value) -> tuple[int | str | None, ...] | None:
    """Dimensions of a value as the file has them; None for an unknown rank."""
    shape = value.meta.get(DECLARED, value.shape)
    if shape is None:
        return None
    return tuple(d if isinstance(d, int) else (d.value or None) for d in shape.dims)


def resolve(model: ir.Model, config: ScoreConfig, *, batch: int | None = None) -> Signature:
    """Choose a concrete shape for every input.

    Args:
        model: a normalised model.
        config: gives the batch, the size of free dimensions and the shapes that the user set.
        batch: samples instead of ``config.batch``.

    Raises:
        SettingsError: a shape was set for an input that does not exist, or of another rank.
        UnsupportedError: an input that is no tensor, or of unknown rank.
    """
    names = [v.name for v in model.graph.inputs]
    for name in config.input_shapes:
        if name not in names:
            known = ", ".join(repr(n) for n in names)
            raise SettingsError(f"the model has no input {name!r}", hint=f"Its inputs are {known}")
    shapes = {v: _declared(v, config) for v in model.graph.inputs}
    # tf2onnx leaves inputs that nothing reads; they say nothing about the batch.
    read = {v: d for v, d in shapes.items() if d and (v.uses() or v.is_graph_output())}
    first = next((v for v, d in read.items() if len(d) >= 2), next(iter(read), None))
    lead = _samples_axis(first, read[first]) if first is not None else 0
    size = read[first][lead] if first is not None else 1
    fixed = size if isinstance(size, int) else None
    symbol = size if isinstance(size, str) else None
    samples = batch or config.batch
    if fixed is not None:
        samples = -(-samples // fixed) * fixed
    bound = {symbol: samples} if symbol is not None else {}
    least = least_lengths(model.graph)
    inputs: list[InputSpec] = []
    for value, dims in shapes.items():
        axis = _batch_axis(dims, lead, symbol, fixed)
        length = least.get(value, 1) if len(dims) <= 3 else 1
        long = replace(config, sequence=max(config.sequence, 2 * length))  # a waveform: room for two windows
        number = sum(i.number >= 0 for i in inputs) if value.uses() else -1
        inputs.append(replace(_spec(value, dims, axis, samples, bound, long), number=number))
    return Signature(tuple(inputs), samples, fixed)


def resized(given: Signature, batch: int) -> Signature:
    """The same inputs for another number of samples."""
    specs = []
    for spec in given.inputs:
        shape = list(spec.shape)
        if spec.batch_axis is not None:
            shape[spec.batch_axis] = batch
        specs.append(replace(spec, shape=tuple(shape)))
    return replace(given, inputs=tuple(specs), batch=batch)


def _samples_axis(value: ir.Value, dims: tuple[int | str | None, ...]) -> int:
    """The axis of the first input that holds the samples: by name, second before a recurrence, or first."""
    named = [axis for axis, dim in enumerate(dims) if isinstance(dim, str) and "batch" in dim.lower()]
    return named[0] if named else int(len(dims) == 3 and _feeds_recurrence(value))


def _feeds_recurrence(value: ir.Value) -> bool:
    """Whether a recurrence reads a value as its sequence, time first as ONNX has it by default."""
    return any(
        _feeds_recurrence(node.outputs[0])
        if is_op(node, "Cast", "Identity")
        else kind(node) is Kind.RECURRENT and index == 0 and not _batch_first(node)
        for node, index in value.uses()
    )


def _batch_first(node: ir.Node) -> bool:
    return "layout" in node.attributes and node.attributes["layout"].as_int() == 1


def _batch_axis(
    dims: tuple[int | str | None, ...], lead: int, symbol: str | None, fixed: int | None
) -> int | None:
    """The axis of an input that holds the samples, if one does: by the symbol, or as in the first input."""
    if symbol is not None and symbol in dims:
        return dims.index(symbol)
    if len(dims) > lead and (not isinstance(dims[lead], int) or dims[lead] == fixed):
        return lead
    free = [axis for axis, dim in enumerate(dims) if dim is None]
    # The state of a recurrence, (layers, samples, channels), in a file that names no dimension.
    return free[0] if len(free) == 1 and symbol is None and fixed is None else None


def _declared(value: ir.Value, config: ScoreConfig) -> tuple[int | str | None, ...]:
    if not isinstance(value.type, ir.TensorType) or value.dtype is None:
        raise UnsupportedError(f"input {value.name!r} is not a tensor")
    if value.dtype == ir.DataType.STRING:
        raise UnsupportedError(
            f"input {value.name!r} holds strings", hint="Cut the text processing off the model"
        )
    dims = declared_shape(value)
    chosen = config.input_shapes.get(value.name or "")
    if dims is None:
        if chosen is None:
            raise UnsupportedError(
                f"input {value.name!r} has an unknown rank",
                hint=f"Set it: --input-shape {value.name}:1x3x64x64",
            )
        return (None, *chosen[1:])
    return tuple(None if isinstance(d, int) and d < 1 else d for d in dims)


def _spec(
    value: ir.Value,
    dims: tuple[int | str | None, ...],
    batch_axis: int | None,
    samples: int,
    symbols: dict[str, int],
    config: ScoreConfig,
) -> InputSpec:
    assert value.dtype is not None
    name = value.name or ""
    chosen = config.input_shapes.get(name)
    if chosen is not None and len(chosen) != len(dims):
        raise SettingsError(
            f"input {name!r} has rank {len(dims)}, --input-shape gives {len(chosen)} dimensions",
            hint=f"Declared: {_show(dims)}",
        )
    channels_last = _channels_last(dims)
    shape: list[int] = []
    for axis, dim in enumerate(dims):
        if axis == batch_axis:
            shape.append(samples)
        elif isinstance(dim, int):
            if chosen is not None and chosen[axis] != dim:
                raise SettingsError(
                    f"input {name!r} fixes axis {axis} at {dim}", hint=f"Declared: {_show(dims)}"
                )
            shape.append(dim)
        elif chosen is not None:
            shape.append(chosen[axis])
        elif dim is not None and dim in symbols:
            shape.append(symbols[dim])
        else:
            shape.append(_free(value, dims, axis, channels_last, config))
        if dim is not None and not isinstance(dim, int):
            symbols.setdefault(dim, shape[-1])
    kind, high = _kind(value, name)
    return InputSpec(name, value.dtype, tuple(shape), dims, kind, high, channels_last, batch_axis)


def _show(dims: tuple[int | str | None, ...]) -> str:
    return "x".join("?" if d is None else str(d) for d in dims)


def _channels_last(dims: tuple[int | str | None, ...]) -> bool:
    return len(dims) == 4 and dims[3] in _IMAGE_CHANNELS and dims[1] not in _IMAGE_CHANNELS


def _free(
    value: ir.Value, dims: tuple[int | str | None, ...], axis: int, channels_last: bool, config: ScoreConfig
) -> int:
    """Size of a dimension that the file and the user leave open."""
    if (axis == len(dims) - 1 and len(dims) <= 3) or (axis == 1 and len(dims) >= 3 and not channels_last):
        wanted = _consumer_width(value, axis, last=axis == len(dims) - 1)
        if wanted is not None:
            return wanted
    if len(dims) == 4:
        return 3 if axis == (3 if channels_last else 1) else config.size
    if len(dims) == 5:
        return 3 if axis == 1 else max(config.size // 2, 1)
    return config.sequence


def _consumer_width(value: ir.Value, axis: int, *, last: bool) -> int | None:
    """The width that the first layer on an input asks for, where one takes it directly."""
    for node in value.consumers():
        if is_op(node, "Cast", "Identity"):
            found = _consumer_width(node.outputs[0], axis, last=last)
            if found is not None:
                return found
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        if weight is None or weight.const_value is None:
            continue
        shape = [int(d) for d in weight.const_value.shape.numpy()]
        if is_op(node, "Conv") and axis == 1:
            group = node.attributes["group"].as_int() if "group" in node.attributes else 1
            return shape[1] * group
        if kind(node) is Kind.PRODUCT and len(shape) == 2 and last:
            transposed = "transB" in node.attributes and node.attributes["transB"].as_int() == 1
            return shape[1 if transposed else 0]
    return None


def _kind(value: ir.Value, name: str) -> tuple[Contents, int]:
    assert value.dtype is not None
    if value.dtype.is_floating_point():
        return ("ones", 0) if "mask" in name.lower() else ("noise", 0)
    lowered = name.lower()
    if value.dtype == ir.DataType.BOOL or "mask" in lowered:
        return "ones", 0
    ids = _vocabulary(value)
    if ids is not None:
        return ("positions", ids) if "position" in lowered else ("ids", ids)
    if "position" in lowered:
        return "positions", 2**31 - 1
    if "len" in lowered:
        return "length", 0
    if lowered in ("sr", "sample_rate", "sampling_rate"):
        return "sampling_rate", 0
    if value.dtype == ir.DataType.UINT8:
        return "ids", 256
    return "ids", 2


def _vocabulary(value: ir.Value, depth: int = 0) -> int | None:
    """Ids that the first Gather or OneHot behind an integer input can look up."""
    for node in value.consumers():
        if kind(node) is Kind.LOOKUP and len(node.inputs) > 1 and node.inputs[1] is value:
            shape = constant_shape(node.inputs[0])
            axis = node.attributes.get_int("axis", 0)
            if shape is not None and -len(shape) <= axis < len(shape):
                return shape[axis]
        if is_op(node, "OneHot") and node.inputs[0] is value:
            count = constant_array(node.inputs[1])
            if count is not None:
                return int(count.reshape(-1)[0])
        if is_op(node, "Equal"):  # a one-hot code that is written out
            classes = [constant_array(v) for v in node.inputs if v is not value]
            if len(classes) == 1 and classes[0] is not None and classes[0].size > 1:
                return int(classes[0].max()) + 1
        if depth < 16 and (is_view(node) or traits(node).elements_of or _wraps(node)):
            found = _vocabulary(node.outputs[0], depth + 1)
            if found is not None:
                return found
    return None


def _wraps(node: ir.Node) -> bool:
    """Whether ids may pass a node unchanged: ``where(id < 0, id + size, id)`` stands before many a table."""
    return is_op(node, "Add", "Mul") and all(constant_array(v) is None for v in node.inputs)


def sampling_rate() -> int:
    """Samples per second that a speech model is told, in Hz."""
    return _SAMPLING_RATE
