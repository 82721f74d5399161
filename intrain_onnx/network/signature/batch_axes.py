"""Finds the batch axis of each input, if it has one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import onnx_ir as ir

from intrain_onnx.errors import SettingsError
from intrain_onnx.network.layers import data_dependent
from intrain_onnx.network.marks import BATCH_AXES, DECLARED
from intrain_onnx.network.values import constant_array, gathers_rows, is_batch_first, listed
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, is_view, kind, traits

Dims = tuple[int | str | None, ...]
"""Declared shape of an input: sizes, symbols, and None for unnamed free dimensions."""

_INDEXED = frozenset({"Gather", "GatherElements", "GatherND", "ScatterElements"})
INTEGERS = (ir.DataType.INT64, ir.DataType.INT32)
"""Element types of indices."""

_ROW_BY_ROW = (Kind.ACTIVATION, Kind.ELEMENTWISE, Kind.NORMALISATION)
_PREPROCESSING = ("Cast", "Identity", "Resize", "Upsample", "Pad", "Slice", "Clip")
_FARTHEST = 64
_MOST_VALUES = 2000


@dataclass(frozen=True, slots=True)
class BatchAxes:
    """The batch axis of each input.

    Attributes:
        axes: by input name; None for an input without one.
        fixed: batch size that the graph was exported for; 1 without a batch axis, None if the size is free.
        symbol: name of the batch dimension; None if unnamed.
        separate: no input has a batch axis, so each sample is a separate call.
        entries: the input whose entries along axis 0 integers index, as nodes of a graph; None if none is.
    """

    axes: Mapping[str | None, int | None]
    fixed: int | None
    symbol: str | None
    separate: bool
    entries: str | None = None


def batch_axes(
    model: ir.Model,
    shapes: Mapping[ir.Value, Dims],
    told: Mapping[str, int | None] = MappingProxyType({}),
) -> BatchAxes:
    """Find the batch axis: the one named so, or that of the first input, if the outputs have it too.

    An unnamed axis is none if an integer input indexes its entries (nodes of a graph), or if every output is
    declared without it (channels of an image without batch, frames of a pooled sequence). Computed once per
    graph, before its outputs are cut, and cached in the graph's metadata.

    Args:
        model: a normalised model.
        shapes: declared shapes of its inputs.
        told: batch axes by input name, None for an input without one; they override what is found.

    Raises:
        SettingsError: ``told`` names an unknown input or axis, or axes of different fixed sizes.
    """
    if BATCH_AXES not in model.graph.meta:
        found = _find(model, shapes)
        model.graph.meta[BATCH_AXES] = _overruled(found, shapes, told) if told else found
    cached: BatchAxes = model.graph.meta[BATCH_AXES]
    return cached


def _overruled(
    found: BatchAxes, shapes: Mapping[ir.Value, Dims], told: Mapping[str, int | None]
) -> BatchAxes:
    """The batch axes with the told ones; other inputs keep theirs if its size can be the batch."""
    declared = {value.name or "": dims for value, dims in shapes.items()}
    sizes = {name: _told_size(name, axis, declared) for name, axis in told.items()}
    chosen = [(name, sizes[name]) for name, axis in told.items() if axis is not None]
    fixed = {size: name for name, size in chosen if isinstance(size, int)}
    if len(fixed) > 1:
        one, other = sorted(fixed.items())[:2]
        raise SettingsError(
            f"the batch axis of {one[1]!r} is fixed at {one[0]}, and that of {other[1]!r} at {other[0]}",
            hint="Set --batch-axis NAME:none for one of them",
        )
    size = next(iter(fixed), None if chosen else found.fixed)
    symbol = next((s for _, s in chosen if isinstance(s, str)), None if chosen else found.symbol)
    axes: dict[str | None, int | None] = dict(told.items())
    for name, dims in declared.items():
        if name not in told:
            usual = dims.index(symbol) if symbol is not None and symbol in dims else found.axes.get(name)
            fits = usual is not None and (not isinstance(dims[usual], int) or dims[usual] == size)
            axes[name] = usual if fits else None
    if all(axis is None for axis in axes.values()):
        return BatchAxes(axes, 1, None, True)
    return BatchAxes(axes, size, symbol, False)


def _told_size(name: str, axis: int | None, declared: Mapping[str, Dims]) -> int | str | None:
    """The declared size of a told batch axis."""
    if name not in declared:
        known = ", ".join(map(repr, declared))
        raise SettingsError(f"the model has no input {name!r}", hint=f"Its inputs are {known}")
    rank = len(declared[name])
    if axis is not None and axis >= rank:
        last = f"0 to {rank - 1}, or none" if rank else "none: the input is one number"
        raise SettingsError(
            f"input {name!r} has no axis {axis}", hint=f"Set --batch-axis {name}:AXIS to {last}"
        )
    return declared[name][axis] if axis is not None else None


def _find(model: ir.Model, shapes: Mapping[ir.Value, Dims]) -> BatchAxes:
    # tf2onnx leaves unused inputs, which are no evidence of a batch axis.
    read = {v: d for v, d in shapes.items() if d and (v.uses() or v.is_graph_output())}
    named = next(
        (d for dims in read.values() for d in dims if isinstance(d, str) and "batch" in d.lower()), None
    )
    first = next((v for v, d in read.items() if len(d) >= 2), next(iter(read), None))
    if first is None:
        return BatchAxes(dict.fromkeys(v.name for v in shapes), None, None, False)
    lead = _samples_axis(first, read[first])
    size = read[first][lead]
    indexed = _indexed(model, read) if named is None else None
    no_samples = indexed is not None or _is_lost(model, read, size) or _is_channels(first, lead)
    if named is None and no_samples:
        entries = indexed.name if indexed is not None else None
        return BatchAxes(dict.fromkeys(v.name for v in shapes), 1, None, True, entries)
    fixed = size if isinstance(size, int) else None
    symbol = size if isinstance(size, str) else None
    axes = {v.name: _batch_axis(dims, lead, symbol, fixed) for v, dims in shapes.items()}
    return BatchAxes(axes, fixed, symbol, False)


def _is_lost(model: ir.Model, shapes: Mapping[ir.Value, Dims], size: int | str | None) -> bool:
    """Whether every output is declared, and none has a dimension of that size or symbol.

    Symbols that no input has match anything: exporters invent names for outputs.
    """
    if size is None or size == 1:
        return False
    names = {d for dims in shapes.values() for d in dims if isinstance(d, str)}
    for output in model.graph.outputs:
        shape = output.meta.get(DECLARED, output.shape)
        dims = [d if isinstance(d, int) else d.value for d in shape.dims] if shape is not None else []
        if not dims:  # a scalar may be a mean over samples
            return False
        if any(d == size or (d not in names if isinstance(d, str) else (d or 0) < 1) for d in dims):
            return False
    return bool(model.graph.outputs)


def _is_channels(start: ir.Value, axis: int) -> bool:
    """Whether a convolution sums over an axis of an input: the channels of an image without a batch."""
    found = {start: axis}
    waiting = [start]
    while waiting and len(found) < _MOST_VALUES:
        value = waiting.pop()
        for node, index in value.uses():
            if kind(node) is Kind.CONVOLUTION and index == 0 and found[value] == 1:
                return True
            after = _axis_after(node, index, found[value])
            if after is not None and node.outputs and node.outputs[0] not in found:
                found[node.outputs[0]] = after
                waiting.append(node.outputs[0])
    return False


def _axis_after(node: ir.Node, index: int, axis: int) -> int | None:
    """Where an axis of an image is after a node of its preprocessing; None if it is not followed."""
    if is_op(node, "Unsqueeze", "Squeeze"):
        before = sum(0 <= a <= axis for a in listed(node, "axes"))
        return axis + before if is_op(node, "Unsqueeze") else axis - before
    if is_op(node, "Gather") and index == 0:
        chosen, along = constant_array(node.inputs[1]), node.attributes.get_int("axis", 0)
        one = chosen is not None and not chosen.ndim and along != axis
        return axis - (0 <= along < axis) if one else None
    if is_op(node, "Transpose") and "perm" in node.attributes:
        perm = list(node.attributes["perm"].as_ints())
        return perm.index(axis) if axis in perm else None
    if kind(node) is Kind.ELEMENTWISE or (index == 0 and is_op(node, *_PREPROCESSING)):
        return axis
    return axis if is_op(node, "Concat") and node.attributes.get_int("axis", 0) != axis else None


def _indexed(model: ir.Model, shapes: Mapping[ir.Value, Dims]) -> ir.Value | None:
    """The float input whose entries along axis 0 integer inputs index, at once or after layers; else None."""
    integers = {v for v in shapes if v.dtype in INTEGERS}
    floats = [v for v, dims in shapes.items() if v not in integers and dims]
    if not integers or not floats:
        return None
    data = data_dependent(model.graph)
    indices = _elements(integers)
    for first in floats:
        entries = _rows(first, len(shapes[first]))
        if any(_looks_up(node, entries, indices) and node.inputs[0] in data for node in model.graph):
            return first
    return None


def _looks_up(node: ir.Node, entries: Mapping[ir.Value, int], indices: set[ir.Value]) -> bool:
    """Whether a node selects rows of one of the entries, given with their ranks, by one of the indices."""
    if node.op_type not in _INDEXED or node.domain not in ("", "ai.onnx"):
        return False
    table, index = node.inputs[:2]
    if table is None or index is None or table not in entries or index not in indices:
        return False
    if is_op(node, "GatherND"):  # shapes may not be inferred yet
        maker = index.producer()
        unsqueezed = maker is not None and is_op(maker, "Unsqueeze")
        return gathers_rows(node) or (unsqueezed and not node.attributes.get_int("batch_dims", 0))
    return node.attributes.get_int("axis", 0) in (0, -entries[table])


def _elements(start: set[ir.Value]) -> set[ir.Value]:
    """Values that consist of elements of the given ones."""
    found = set(start)
    waiting = [(v, 0) for v in start]
    while waiting:
        value, steps = waiting.pop()
        for node, index in value.uses():
            row = traits(node)
            passes = (
                is_view(node)
                or index in row.elements_of
                or is_op(node, "Where", "Add", "Mul", "Expand", "Concat", "Gather", "GatherND")
            )
            if passes and steps < _FARTHEST:
                for out in node.outputs[:1]:
                    if out not in found:
                        found.add(out)
                        waiting.append((out, steps + 1))
    return found


def _rows(start: ir.Value, rank: int) -> dict[ir.Value, int]:
    """Values whose axis 0 is that of the given one, with their ranks."""
    found = {start: rank}
    waiting = [start]
    while waiting and len(found) < _MOST_VALUES:
        value = waiting.pop()
        for node, index in value.uses():
            after = _rank_after(node, index, found[value])
            if after is not None and node.outputs and node.outputs[0] not in found:
                found[node.outputs[0]] = after
                waiting.append(node.outputs[0])
    return found


def _rank_after(node: ir.Node, index: int, rank: int) -> int | None:
    """Rank of the output if axis 0 of an input of that rank stays axis 0; else None."""
    if kind(node) is Kind.PRODUCT:
        return rank if index == 0 and rank > 1 and not node.attributes.get_int("transA", 0) else None
    if kind(node) in _ROW_BY_ROW or is_op(node, "Cast", "Identity"):
        others = [len(v.shape) for v in node.inputs if v is not None and v.shape is not None]
        return max([rank, *others]) if max([0, *others]) <= rank else None
    if is_op(node, "Reshape"):
        target = constant_array(node.inputs[1])
        keeps = target is not None and target.size >= rank and target.reshape(-1)[0] in (0, -1)
        return target.size if target is not None and keeps else None
    if is_op(node, "Concat"):
        return rank if node.attributes.get_int("axis", 0) not in (0, -rank) else None
    if kind(node) is Kind.REDUCTION or is_op(node, "Unsqueeze", "Squeeze"):
        return _rank_without(node, rank)
    return None


def _rank_without(node: ir.Node, rank: int) -> int | None:
    """Rank after a reduction, Squeeze or Unsqueeze over constant axes other than the first."""
    axes = listed(node, "axes")
    if is_op(node, "Unsqueeze"):
        after = rank + len(axes)
        return after if axes and 0 not in [a % after for a in axes] else None
    if not axes or 0 in [a % rank for a in axes]:
        return None
    keeps = not is_op(node, "Squeeze") and node.attributes.get_int("keepdims", 1) == 1
    return rank if keeps else rank - len(axes)


def _samples_axis(value: ir.Value, dims: Dims) -> int:
    """Batch axis of the first input: the one named so, axis 1 before a time-first recurrence, else axis 0."""
    named = [axis for axis, dim in enumerate(dims) if isinstance(dim, str) and "batch" in dim.lower()]
    return named[0] if named else int(len(dims) == 3 and _feeds_recurrence(value))


def _feeds_recurrence(value: ir.Value) -> bool:
    """Whether a recurrence reads the value as its sequence in ONNX's default, time-first layout."""
    return any(
        _feeds_recurrence(node.outputs[0])
        if is_op(node, "Cast", "Identity")
        else kind(node) is Kind.RECURRENT and index == 0 and not is_batch_first(node)
        for node, index in value.uses()
    )


def _batch_axis(dims: Dims, lead: int, symbol: str | None, fixed: int | None) -> int | None:
    """Batch axis of an input: the axis with the batch symbol, or the same axis as in the first input."""
    if symbol is not None and symbol in dims:
        return dims.index(symbol)
    if len(dims) > lead and (not isinstance(dims[lead], int) or dims[lead] == fixed):
        return lead
    free = [axis for axis, dim in enumerate(dims) if dim is None]
    # The state of a recurrence, (layers, samples, channels), in a file that names no dimension.
    return free[0] if len(free) == 1 and symbol is None and fixed is None else None
