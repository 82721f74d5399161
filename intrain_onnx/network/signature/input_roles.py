"""Role of each graph input, by forward data-flow analysis to the operators that use its elements.

Integers that index a table are ids, those that index entries of another value an edge index, those that bound
slices offsets, those compared with a range a length, those converted to an angle a timestep. Names decide
only if the graph does not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx_ir as ir

from intrain_onnx.network.layers import data_dependent
from intrain_onnx.network.marks import DECLARED
from intrain_onnx.network.signature.mask_polarity import Polarity, polarity
from intrain_onnx.network.subgraphs import bodies, entering
from intrain_onnx.network.values import constant_array, constant_shape, gathers_rows, static_shape
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.operands import SIZES
from intrain_onnx.opset.traits import is_op, is_view, kind, traits
from intrain_onnx.vocabulary import InputKind

_FARTHEST = 24
_MOST_VALUES = 2000
_TIMESTEPS = 1000
_OF_MASK = 2
"""Classes that a mask is compared with, 0 and 1."""

_MOST = 2**31
_MOST_LABELS = 64
"""Largest class that single comparisons tell; a larger number is a quantity, such as a sampling rate."""

_FEW = 8
"""Most elements of a float vector that is a control input instead of data."""

_SHAPES = ("ConstantOfShape", "Expand", "Pad", "Range", "Reshape", "Resize", "Tile")
_BOUNDS = ("Slice",)
_COMPARE = ("Less", "LessOrEqual", "Greater", "GreaterOrEqual")
_ROUND = ("Floor", "Ceil", "Round", "Neg", "Abs", "Clip", "ReduceMax", "ReduceMin", "Min", "Max")


@dataclass(frozen=True, slots=True)
class Role:
    """How values of an input are generated.

    Attributes:
        kind: see ``InputSpec``.
        high: number of ids or timesteps; 0 for kinds without one, or if it depends on the shapes.
        columns: an axis, and the number of ids of each entry along it, if the entries index different tables.
        sure: the operators that read the input tell it; else its name does, or nothing.
        limited: noise may leave the domain of an operator that reads it, as a logarithm.
    """

    kind: InputKind
    high: int = 0
    columns: tuple[int, tuple[int, ...]] | None = None
    sure: bool = True
    limited: bool = False


@dataclass(frozen=True, slots=True)
class _Place:
    """A value that consists of elements of an input.

    Attributes:
        shift: constant added to them.
        part: axis and indices of the entries of the input that were selected.
        scaled: they were multiplied, so they cannot be indices.
        mixed: multiplied by data or summed with weights, so their sign is not the input's.
    """

    value: ir.Value
    shift: np.ndarray | None = None
    part: tuple[int, tuple[int, ...]] | None = None
    scaled: bool = False
    mixed: bool = False


@dataclass
class _Uses:
    """Uses of an input, collected over all values that consist of its elements."""

    tables: list[tuple[_Place, int]] = field(default_factory=list)
    labels: int = 0
    indexes: bool = False
    rows: list[int] = field(default_factory=list)
    bounds: bool = False
    shapes: bool = False
    compared: bool = False
    angle: bool = False
    weighed: bool = False
    switched: bool = False
    branches: bool = False
    counted: bool = False
    limited: bool = False


def role_of(model: ir.Model, value: ir.Value, *, has_batch: bool, entries: int | None) -> Role:
    """The role of an input.

    Args:
        model: a normalised model.
        value: the input.
        has_batch: one of its axes is the batch axis.
        entries: number of entries of another input that an index can select (nodes of a graph); None if the
            graph has a batch axis.
    """
    assert value.dtype is not None
    name = (value.name or "").lower()
    uses = _uses(model, value)
    mask = polarity(value)
    if value.dtype.is_floating_point():
        return _float_role(value, name, uses, mask, has_batch=has_batch)
    if value.dtype == ir.DataType.BOOL:
        return Role("control") if uses.branches and mask is None else _mask(mask)
    if uses.indexes and entries is not None:
        others = [size for size in uses.rows if size != entries]
        return Role("edge_index", min(others, default=0))
    if uses.tables:
        return _ids(value, uses, name)
    return _integer_role(value, name, uses, mask, has_batch=has_batch)


def _integer_role(value: ir.Value, name: str, uses: _Uses, mask: Polarity | None, *, has_batch: bool) -> Role:
    """The role of integers that index nothing."""
    if mask is not None and (mask.scores or uses.labels <= _OF_MASK):
        return _mask(mask)
    if "mask" in name or uses.counted:
        return Role("ones", sure=uses.counted)
    if uses.angle:
        return (
            Role("positions", 2**31 - 1) if _has_sequence(value, has_batch) else Role("timestep", _TIMESTEPS)
        )
    if uses.bounds:
        return Role("offsets")
    if "position" in name:
        return Role("positions", 2**31 - 1, sure=False)
    if uses.compared or "len" in name:
        return Role("length", sure=uses.compared)
    if uses.shapes:
        return Role("size")
    if name in ("sr", "sample_rate", "sampling_rate"):
        return Role("sampling_rate", sure=uses.labels > _MOST_LABELS)
    if 1 < uses.labels <= _MOST_LABELS:
        return Role("ids", uses.labels)
    pixels = value.dtype == ir.DataType.UINT8
    return Role("ids", 256 if pixels else 2, sure=pixels)


def _mask(found: Polarity | None) -> Role:
    """Filled with what hides nothing, so that every weight has something to see."""
    return Role("ones", sure=False) if found is None else Role("zeros" if found.hides else "ones")


def _float_role(value: ir.Value, name: str, uses: _Uses, mask: Polarity | None, *, has_batch: bool) -> Role:
    shape = value.meta.get(DECLARED, value.shape)
    dims = [d for d in shape.dims if isinstance(d, int)] if shape is not None else []
    small = shape is not None and len(dims) == len(shape.dims) <= 1 and np.prod(dims) <= _FEW
    if uses.shapes and small:
        return Role("size")
    if small and (not has_batch or dims in ([], [1])):
        return Role("control")
    if uses.labels > 1 and not uses.weighed:
        return Role("ids", uses.labels)
    if uses.angle and not uses.weighed and value.shape is not None and len(value.shape.dims) <= 1:
        return Role("timestep", _TIMESTEPS)
    if "mask" in name and not uses.weighed:
        return _mask(mask)
    if mask is not None and mask.scores and uses.switched:
        return _mask(mask)
    return Role("noise", limited=uses.limited)


def _has_sequence(value: ir.Value, has_batch: bool) -> bool:
    rank = len(value.shape.dims) if value.shape is not None else 0
    return rank > 1 or (rank == 1 and not has_batch)


def _ids(value: ir.Value, uses: _Uses, name: str) -> Role:
    """Ids below the size of the tables that they index, per column if columns index different tables."""
    kind: InputKind = "positions" if "position" in name else "ids"
    parts: dict[tuple[int, int], int] = {}
    whole: list[int] = []
    for place, size in uses.tables:
        shift = place.shift
        if place.part is not None:
            least = size - (int(shift.max()) if shift is not None else 0)
            for entry in place.part[1]:
                key = (place.part[0], entry)
                parts[key] = min(parts.get(key, least), least)
        elif shift is not None and shift.size > 1:
            return _shifted(kind, shift.reshape(-1), size)
        else:
            whole.append(size - (int(shift.max()) if shift is not None else 0))
    low = max(min(whole), 1) if whole else 0
    axes = {axis for axis, _ in parts}
    if whole or len(axes) != 1:
        least = min([*whole, *parts.values()])
        return Role(kind, max(low if whole and not parts else least, 1))
    (axis,) = axes
    count = max(entry for _, entry in parts) + 1
    shape = value.shape.dims if value.shape is not None else ()
    if axis < len(shape) and isinstance(shape[axis], int):
        count = max(count, int(shape[axis]))  # type: ignore[arg-type]
    usual = min(parts.values())
    highs = tuple(max(parts.get((axis, i), usual), 1) for i in range(count))
    if len(set(highs)) == 1:
        return Role(kind, highs[0])
    return Role(kind, max(highs), (axis, highs))


def _shifted(kind: InputKind, shift: np.ndarray, size: int) -> Role:
    """Ids of columns that share one table: each from its offset up to the next column's offset."""
    starts = [int(s) for s in shift]
    ends = [min([s for s in starts if s > start], default=size) for start in starts]
    highs = tuple(max(end - start, 1) for start, end in zip(starts, ends, strict=True))
    return Role(kind, max(highs), (-1, highs))


def _uses(model: ir.Model, value: ir.Value) -> _Uses:
    found = _Uses()
    data: set[ir.Value] | None = None
    seen: set[ir.Value] = {value}
    waiting = deque([(_Place(value), 0)])
    while waiting and len(seen) < _MOST_VALUES:
        place, steps = waiting.popleft()
        for node, index in place.value.uses():
            if _looks_up(node) and index == 1:
                if data is None:
                    data = data_dependent(model.graph)
                _note_lookup(found, node, place, data)
            else:
                _note(found, node, index, place)
            if steps >= _FARTHEST:
                continue
            for following in _follow(node, index, place):
                if following.value not in seen:
                    seen.add(following.value)
                    waiting.append((following, steps + 1))
    return found


def _looks_up(node: ir.Node) -> bool:
    """Whether input 1 of a node are indices along one axis of input 0."""
    return is_op(node, "Gather", "GatherElements", "ScatterElements") or gathers_rows(node)


def _note_lookup(found: _Uses, node: ir.Node, place: _Place, data: set[ir.Value]) -> None:
    """Record an index: into a table of known size, or into data."""
    table = node.inputs[0]
    if place.scaled or table is None:
        return
    shape = static_shape(table) if table in data else constant_shape(table) or static_shape(table)
    axis = 0 if is_op(node, "GatherND") else node.attributes.get_int("axis", 0)
    size = shape[axis] if shape is not None and -len(shape) <= axis < len(shape) else None
    if table not in data and size is not None:
        found.tables.append((place, size))
    elif table in data or not is_op(node, "Gather"):
        found.indexes = True
        found.rows += [size] if size is not None else []


def _note(found: _Uses, node: ir.Node, index: int, place: _Place) -> None:
    if is_op(node, "OneHot") and index == 0:
        count = _largest(constant_array(node.inputs[1]))
        if count is not None:
            found.tables.append((place, count))
    elif is_op(node, "Equal") and not place.scaled:  # a decomposed OneHot
        classes = [constant_array(v) for v in node.inputs if v is not place.value]
        largest = _largest(classes[0]) if len(classes) == 1 else None
        if largest is not None and classes[0] is not None and classes[0].size > 1:
            found.tables.append((place, largest + 1))
        elif largest is not None:
            found.labels = max(found.labels, largest + 1)
    else:
        _note_values(found, node, index, place)


def _largest(numbers: np.ndarray[Any, Any] | None) -> int | None:
    """The largest of some numbers that count things; None if it cannot be that many."""
    largest = float(numbers.max()) if numbers is not None and numbers.size else -1.0
    return int(largest) if 0 <= largest < _MOST else None


def _note_values(found: _Uses, node: ir.Node, index: int, place: _Place) -> None:
    if is_op(node, *_SHAPES) and index in SIZES[node.op_type]:
        found.shapes = True
    elif is_op(node, *_BOUNDS) and index in SIZES[node.op_type]:
        found.bounds = True
    elif is_op(node, *_COMPARE):
        found.compared |= _is_range(node.inputs[1 - index])
    elif is_op(node, "Sin", "Cos"):
        found.angle = True
    elif is_op(node, "Cast") and node.attributes.get_int("to") == ir.DataType.BOOL:
        found.switched = True
    elif is_op(node, "CumSum"):
        found.counted |= index == 0
    elif is_op(node, "If"):
        found.branches = True
    elif not place.mixed and _is_limited(node, index):
        found.limited = True
    elif kind(node) in (Kind.CONVOLUTION, Kind.PRODUCT, Kind.RECURRENT, Kind.NORMALISATION):
        found.weighed |= not place.scaled


def _is_limited(node: ir.Node, index: int) -> bool:
    """Whether an operator is not defined for all values of an input."""
    if is_op(node, "Log", "Sqrt", "Reciprocal", "Acos", "Asin", "Atanh", "Acosh"):
        return True
    if is_op(node, "Pow"):
        exponent = constant_array(node.inputs[1])
        return exponent is None or bool((exponent != np.round(exponent)).any() or (exponent < 0).any())
    return is_op(node, "Div") and index == 1


def _is_range(value: ir.Value | None) -> bool:
    """Whether a value is a range 0, 1, 2, …, up to views: the positions of a sequence."""
    for _ in range(_FARTHEST):
        node = value.producer() if value is not None else None
        if node is None:
            array = constant_array(value)
            flat = array.reshape(-1) if array is not None else np.zeros(0)
            return flat.size > 1 and bool((np.diff(flat) == 1).all())
        if is_op(node, "Range", "CumSum"):
            return True
        if not is_view(node) and not is_op(node, "Cast", "Expand", "Tile"):
            return False
        value = node.inputs[0]
    return False


def _follow(node: ir.Node, index: int, place: _Place) -> Iterator[_Place]:
    """Outputs of a node that still consist of elements of the input."""
    for _, body in bodies(node):
        for formal, outer in entering(node, body):
            if outer is place.value:
                yield replace(place, value=formal)
    if is_op(node, "Gather", "Slice", "Split") and index == 0:
        yield from _selected(node, place)
        return
    if (
        is_view(node)
        or index in traits(node).elements_of
        or is_op(node, "Concat", "Expand", "Where", *_ROUND)
    ):
        passes = place
    elif is_op(node, "Add", "Sub"):
        passes = _added(node, index, place)
    elif is_op(node, "Mul") and _of_integers(node) and all(constant_array(v) is None for v in node.inputs):
        # where(id < 0, id + size, id), as products with 0 and 1; a mask times its sum is a position.
        passes = replace(place, scaled=place.scaled or any(map(_is_range, node.inputs)))
    elif is_op(node, "Mul", "Div", "Reciprocal", "Sqrt", "Exp") or kind(node) is Kind.PRODUCT:
        by_data = len(node.inputs) > 1 and constant_array(node.inputs[1 - index]) is None
        passes = replace(place, scaled=True, mixed=by_data or kind(node) is Kind.PRODUCT)
    else:
        return
    yield from (replace(passes, value=out) for out in node.outputs[:1])


def _of_integers(node: ir.Node) -> bool:
    dtypes = [v.dtype for v in node.inputs if v is not None and v.dtype is not None]
    return not any(d.is_floating_point() for d in dtypes)


def _added(node: ir.Node, index: int, place: _Place) -> _Place:
    constant = constant_array(node.inputs[1 - index])
    if constant is None or constant.dtype.kind not in "iu" or place.shift is not None:
        return place if constant is None else replace(place, scaled=True)
    sign = -1 if is_op(node, "Sub") else 1
    return replace(place, shift=constant.astype(np.int64) * sign)


def _selected(node: ir.Node, place: _Place) -> Iterator[_Place]:
    """Outputs of a selection by constants (Gather, Slice, Split), with the selected entries of the input."""
    if is_op(node, "Split"):
        axis, start = node.attributes.get_int("axis", 0), 0
        for out in node.outputs:
            dims = out.shape.dims if out.shape is not None else ()
            width = dims[axis] if -len(dims) <= axis < len(dims) else None
            entries = tuple(range(start, start + width)) if isinstance(width, int) else None
            yield replace(place, value=out, part=place.part or (entries and (axis, entries)) or None)
            start += width if isinstance(width, int) else 0
        return
    part = place.part or _entries(node)
    yield from (replace(place, value=out, part=part) for out in node.outputs[:1])


def _entries(node: ir.Node) -> tuple[int, tuple[int, ...]] | None:
    arrays = [constant_array(v) for v in node.inputs[1:]]
    if is_op(node, "Gather"):
        chosen = arrays[0]
        if chosen is None or (chosen < 0).any():
            return None
        return node.attributes.get_int("axis", 0), tuple(int(i) for i in chosen.reshape(-1))
    if len(arrays) < 3 or any(a is None or a.size != 1 for a in arrays[:3]):
        return None
    start, end, axis = (int(a.reshape(-1)[0]) for a in arrays[:3] if a is not None)
    return (axis, tuple(range(start, end))) if 0 <= start < end <= start + 4096 else None
