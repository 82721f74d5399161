"""Infer concrete shapes, batch axes and contents of the graph inputs, without running the model."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import onnx_ir as ir

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError, UnsupportedError
from intrain_onnx.loading.given_inputs import Given
from intrain_onnx.network.marks import BATCH_AXES, DECLARED, ROLES
from intrain_onnx.network.signature.batch_axes import INTEGERS, BatchAxes, Dims, batch_axes
from intrain_onnx.network.signature.dimension_names import Expression, numeral, parse
from intrain_onnx.network.signature.input_roles import Role, role_of
from intrain_onnx.network.values import name_of, static_shape
from intrain_onnx.network.window_lengths import least_lengths
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import is_op, kind
from intrain_onnx.vocabulary import InputKind

_IMAGE_CHANNELS = (1, 2, 3, 4)
_SAMPLING_RATE = 16_000
_DEGREE = 4
"""Edges for each node of a graph."""

_NODES = 8
"""Nodes in a graph, where several are fed as one."""

_NO_ROLE = Role("noise")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """Shape and contents of one graph input.

    Attributes:
        name: of the input.
        dtype: ONNX element type.
        shape: concrete, for the whole batch.
        declared: the shape in the file: sizes, symbols as strings, None for an unnamed free dimension.
        kind: ``noise`` N(0, 1); ``positive`` uniform in [0.1, 0.9); ``ids``, ``edge_index`` and ``timestep``
            uniform integers below ``high``; ``ones``, ``zeros``; ``positions`` and ``offsets`` 0, 1, 2 …;
            ``length`` of the full sequence; ``size`` in pixels; ``control`` 1; ``sampling_rate`` 16,000 Hz.
        high: number of ids, entries or timesteps; the length; the size; 0 for other kinds.
        channels_last: a rank-4 image in layout NHWC.
        batch_axis: axis of the samples; None if the input has none.
        number: ordinal among the inputs that a node reads; -1 if none reads it.
        role: what ``kind``, ``high`` and the columns follow from.
    """

    name: str
    dtype: ir.DataType
    shape: tuple[int, ...]
    declared: tuple[int | str | None, ...]
    kind: InputKind
    high: int
    channels_last: bool
    batch_axis: int | None
    number: int = 0
    role: Role = _NO_ROLE


@dataclass(frozen=True)
class Signature:
    """All inputs and the batch size.

    Attributes:
        inputs: in graph order.
        batch: samples in all; a multiple of ``fixed_batch``.
        fixed_batch: batch size that the graph was exported for; None if it is free.
        separate: no input has a batch axis: each sample is a separate call.
        free: default sizes of dimensions that neither file nor user fixes, by symbol or as ``input[axis]``.
        why: the constraint of an operator that a default follows from, by dimension as in ``free``.
        given: values that the user gives, by input name (see `network.given_inputs`).
    """

    inputs: tuple[InputSpec, ...]
    batch: int
    fixed_batch: int | None
    separate: bool = False
    free: Mapping[str, int] = field(default_factory=dict)
    why: Mapping[str, str] = field(default_factory=dict)
    given: Mapping[str, Given] = field(default_factory=dict)


def declared_shape(value: ir.Value) -> tuple[int | str | None, ...] | None:
    """Dimensions of a value as declared in the file; None for an unknown rank."""
    shape = value.meta.get(DECLARED, value.shape)
    if shape is None:
        return None
    return tuple(d if isinstance(d, int) else (d.value or None) for d in shape.dims)


def resolve(
    model: ir.Model,
    config: ScoreConfig,
    *,
    batch: int | None = None,
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> Signature:
    """Choose a concrete shape for every input, and what it is fed with.

    Args, Raises: as :func:`resolve_shapes`.
    """
    shaped = resolve_shapes(model, config, batch=batch, sizes=sizes)
    entries = model.graph.meta[BATCH_AXES].entries
    roles = model.graph.meta.get(ROLES) or _roles(model)
    inputs = tuple(
        _with_role(spec, roles[spec.name], shaped.inputs, entries, config) for spec in shaped.inputs
    )
    return replace(shaped, inputs=inputs)


def resolve_shapes(
    model: ir.Model,
    config: ScoreConfig,
    *,
    batch: int | None = None,
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> Signature:
    """Choose a concrete shape for every input; each is left ``noise``.

    Args:
        model: a normalised model.
        config: sets the batch, default sizes of free dimensions and the user's shapes.
        batch: samples instead of ``config.batch``.
        sizes: of free dimensions, instead of the defaults (see ``Signature.free``).

    Raises:
        SettingsError: a shape is set for an unknown input, has another rank, or conflicts with another shape.
        UnsupportedError: an input is not a tensor, or of unknown rank.
    """
    names = [v.name for v in model.graph.inputs]
    for name in config.input_shapes:
        if name not in names:
            known = ", ".join(repr(n) for n in names)
            raise SettingsError(f"the model has no input {name!r}", hint=f"Its inputs are {known}")
    shapes = {v: _declared(v, config) for v in model.graph.inputs}
    found = batch_axes(model, shapes, config.batch_axes)
    samples = batch or config.batch
    if found.fixed is not None:
        samples = -(-samples // found.fixed) * found.fixed
    symbols = _Symbols(config, dict(sizes), shapes)
    if found.symbol is not None:
        symbols.bind(found.symbol, samples)
    symbols.bind_told(found.axes)
    if found.entries is not None:
        symbols.usual = _of_graphs(shapes, config)
    free = (d for v, dims in shapes.items() if len(dims) <= 3 for d in _without(dims, found.axes[v.name]))
    least = {} if all(isinstance(d, int) for d in free) else least_lengths(model.graph)
    inputs: list[InputSpec] = []
    for value, dims in shapes.items():
        length = least.get(value, 1) if len(dims) <= 3 else 1
        number = sum(i.number >= 0 for i in inputs) if value.uses() else -1
        spec = _spec(value, dims, found.axes[value.name], samples, symbols, config, length)
        inputs.append(replace(spec, number=number))
    inputs = [replace(spec, shape=symbols.complete(spec)) for spec in inputs]
    return Signature(tuple(inputs), samples, found.fixed, found.separate, symbols.free, symbols.why)


def _without(dims: Dims, axis: int | None) -> list[int | str | None]:
    return [d for i, d in enumerate(dims) if i != axis]


def mark_roles(model: ir.Model, found: Mapping[str, Role] = MappingProxyType({})) -> None:
    """Cache the roles of the inputs in the graph's metadata, before its outputs are cut.

    Requires: shapes inferred. Roles in ``found``, determined by other means, override those of the graph.
    """
    known = model.graph.meta.get(ROLES) or _roles(model)
    model.graph.meta[ROLES] = {**known, **found}


def _roles(model: ir.Model) -> dict[str, Role]:
    found: BatchAxes = model.graph.meta[BATCH_AXES]
    first = next((v for v in model.graph.inputs if found.entries in (v.name, None)), None)
    shape = static_shape(first) if first is not None else None
    entries = (shape[0] if shape else 0) if found.separate else None
    return {
        value.name or "": role_of(model, value, has_batch=found.axes[value.name] is not None, entries=entries)
        for value in model.graph.inputs
    }


def _with_role(
    spec: InputSpec, role: Role, inputs: Sequence[InputSpec], entries: str | None, config: ScoreConfig
) -> InputSpec:
    high = role.high
    if role.kind == "length":
        high = _first_length(spec, inputs)
    elif role.kind == "edge_index":
        high = role.high or next((i.shape[0] for i in inputs if i.name == entries), inputs[0].shape[0])
    elif role.kind == "size":
        high = config.size
    return replace(spec, kind=role.kind, high=high, role=role)


def _first_length(spec: InputSpec, inputs: Sequence[InputSpec]) -> int:
    """Sequence length for a length input: first free axis of another input, without the batch; else any."""
    others = [i for i in inputs if i.name != spec.name and i.number >= 0 and len(i.shape) > 1]
    axes = [
        (isinstance(dim, int), n)
        for other in others
        for axis, (dim, n) in enumerate(zip(other.declared, other.shape, strict=True))
        if axis != other.batch_axis
    ]
    return next((n for fixed, n in axes if not fixed), axes[0][1] if axes else 1)


def resized(given: Signature, batch: int) -> Signature:
    """The same inputs with another batch size."""
    specs = []
    for spec in given.inputs:
        shape = list(spec.shape)
        if spec.batch_axis is not None:
            shape[spec.batch_axis] = batch
        specs.append(replace(spec, shape=tuple(shape)))
    return replace(given, inputs=tuple(specs), batch=batch)


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
    return tuple(_dimension(d) for d in dims)


def _dimension(dim: int | str | None) -> int | str | None:
    """A size, a symbol, or None for an unnamed free dimension; a name of digits is a size."""
    if isinstance(dim, str):
        number = numeral(dim)
        dim = dim if number is None else number
    return None if isinstance(dim, int) and dim < 1 else dim


def _with_numeral(name: str) -> bool:
    """Whether a name contains a separate numeral, as in ``2*n`` and not in ``n2``."""
    return re.search(r"\d", re.sub(r"[A-Za-z_][\w.]*", "", name)) is not None


class _Symbols:
    """Sizes of dimension symbols, shared by all inputs, and of arithmetic names over them."""

    def __init__(self, config: ScoreConfig, wanted: dict[str, int], shapes: Mapping[ir.Value, Dims]) -> None:
        self.config = config
        self.wanted = wanted
        self.shapes = shapes
        self.sizes: dict[str, int] = {}
        self.free: dict[str, int] = {}
        self.why: dict[str, str] = {}
        self.usual: dict[str, int] = {}
        self.told: dict[str, str] = {}
        names = {d for dims in shapes.values() for d in dims if isinstance(d, str)}
        parsed = {name: expression for name in names if (expression := parse(name)) is not None}
        # "image-width" is a name; arithmetic has a numeral in it, or only symbols that are names themselves.
        self.expressions = {
            name: found
            for name, found in parsed.items()
            if _with_numeral(name) or names.issuperset(found.symbols)
        }

    def bind(self, symbol: str, size: int) -> None:
        """Set the size of a symbol, unless it is set."""
        self.sizes.setdefault(symbol, size)

    def bind_told(self, axes: Mapping[str | None, int | None]) -> None:
        """Bind symbols to the sizes in the user's shapes; arithmetic names last.

        Raises:
            SettingsError: two shapes conflict.
        """
        told = [
            (value, axis, dim, chosen[axis])
            for value, dims in self.shapes.items()
            if (chosen := self.config.input_shapes.get(value.name or "")) is not None
            and len(chosen) == len(dims)
            for axis, dim in enumerate(dims)
            if isinstance(dim, str) and axis != axes[value.name]
        ]
        for value, axis, dim, size in sorted(told, key=lambda row: row[2] in self.expressions):
            found = self.expressions.get(dim)
            where = f"axis {axis} of {value.name!r}"
            if found is None:
                self._agree(dim, size, where)
            else:
                self._solve(dim, found, size, where)

    def _agree(self, symbol: str, size: int, where: str) -> None:
        known = self.sizes.get(symbol)
        if known is not None and known != size:
            other = self.told.get(symbol, "the batch")
            raise SettingsError(
                f"{symbol!r} is {known} by {other} and {size} by {where}",
                hint="Give both inputs the same size there, with --input-shape",
            )
        self.sizes[symbol] = size
        self.told.setdefault(symbol, where)

    def _solve(self, name: str, found: Expression, size: int, where: str) -> None:
        """Solve an arithmetic name of known size for its one unbound symbol, as a linear equation."""
        unknown = [s for s in found.symbols if s not in self.sizes]
        if len(unknown) == 1:
            zero, one = (found.value(self.sizes | {unknown[0]: n}) for n in (0, 1))
            if zero is not None and one is not None and one != zero and (size - zero) % (one - zero) == 0:
                found_size = (size - zero) // (one - zero)
                if found_size < 0:
                    least = f"at least {zero} with {self._known(found)}"
                    raise SettingsError(
                        f"{where} is {name!r}, which is {least}, and not {size}",
                        hint="Leave the shape of that input out: it follows from the others",
                    )
                self._agree(unknown[0], found_size, where)
        if not unknown and found.value(self.sizes) != size:
            raise SettingsError(
                f"{where} is {name!r}, which is {found.value(self.sizes)} with {self._known(found)}, and not "
                f"{size}",
                hint="Leave the shape of that input out: it follows from the others",
            )

    def size(self, dim: str | None, key: str, usual: int, why: str = "") -> int | None:
        """The size of a free dimension; None for an arithmetic name, evaluated once all symbols are bound.

        Args:
            dim: its symbol.
            key: its name if it has no symbol.
            usual: its default.
            why: the constraint that the default follows from.
        """
        if dim is not None and dim in self.expressions:
            return None
        name = key if dim is None else dim
        if dim is not None and dim in self.sizes:
            return self.sizes[dim]
        found = self.free[name] = self.wanted.get(name, self.usual.get(name, usual))
        if why:
            self.why[name] = why
        if dim is not None:
            self.sizes[dim] = found
        return found

    def complete(self, spec: InputSpec) -> tuple[int, ...]:
        """The shape with its arithmetic names evaluated."""
        shape = list(spec.shape)
        for axis, size in enumerate(shape):
            dim = spec.declared[axis] if size < 0 else None
            if not isinstance(dim, str):
                continue
            found = self.expressions[dim]
            for symbol in found.symbols:
                if symbol not in self.sizes:
                    self.size(symbol, symbol, self.config.sequence)
            shape[axis] = self._value(dim, found)
        return tuple(shape)

    def _value(self, name: str, found: Expression) -> int:
        value = found.value(self.sizes)
        if value is None:
            raise SettingsError(
                f"{name!r} is no size with {self._known(found)}", hint="Set the shapes with --input-shape"
            )
        return value

    def _known(self, found: Expression) -> str:
        return ", ".join(f"{s} = {self.sizes[s]}" for s in found.symbols if s in self.sizes)


def _spec(
    value: ir.Value,
    dims: tuple[int | str | None, ...],
    batch_axis: int | None,
    samples: int,
    symbols: _Symbols,
    config: ScoreConfig,
    least: int,
) -> InputSpec:
    """An input with its shape; -1 for arithmetic names, which are evaluated later.

    ``least`` is the least length for which all windows over a sequence fit.
    """
    assert value.dtype is not None
    name = value.name or ""
    chosen = config.input_shapes.get(name)
    if chosen is not None and len(chosen) != len(dims):
        raise SettingsError(
            f"input {name!r} has rank {len(dims)}, --input-shape gives {len(chosen)} dimensions",
            hint=f"Declared: {show_dims(dims)}",
        )
    channels_last = _channels_last(dims)
    shape: list[int] = []
    for axis, dim in enumerate(dims):
        if axis == batch_axis:
            shape.append(samples)
        elif isinstance(dim, int):
            if chosen is not None and chosen[axis] != dim:
                raise SettingsError(
                    f"input {name!r} fixes axis {axis} at {dim}", hint=f"Declared: {show_dims(dims)}"
                )
            shape.append(dim)
        elif chosen is not None:
            shape.append(chosen[axis])
        else:
            usual = _free(value, dims, axis, channels_last, config, least)
            size = symbols.size(dim, f"{name}[{axis}]", *usual)
            shape.append(-1 if size is None else size)
    return InputSpec(name, value.dtype, tuple(shape), dims, "noise", 0, channels_last, batch_axis)


def shape_options(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """The options that set the shapes of inputs, as a shell takes them."""
    told = (f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())
    return " ".join(f"--input-shape {shlex.quote(text)}" for text in told)


def show_dims(dims: tuple[int | str | None, ...]) -> str:
    """A shape as messages have it: ``Nx3x?``."""
    return "x".join("?" if d is None else str(d) for d in dims) or "no axes (one number)"


def _channels_last(dims: tuple[int | str | None, ...]) -> bool:
    return len(dims) == 4 and dims[3] in _IMAGE_CHANNELS and dims[1] not in _IMAGE_CHANNELS


def _of_graphs(shapes: Mapping[ir.Value, Dims], config: ScoreConfig) -> dict[str, int]:
    """Default numbers of edges and of graphs, by dimension as in ``Signature.free``.

    Edges are pairs of integers; what one vector alone is as long as is the number of graphs.
    """
    found: dict[str, int] = {}
    for value, dims in shapes.items():
        for axis, dim in enumerate(dims):
            key = dim if isinstance(dim, str) else f"{value.name}[{axis}]"
            if value.dtype in INTEGERS and len(dims) == 2 and dims[1 - axis] == 2:
                found[key] = _DEGREE * config.sequence
            elif len(dims) == 1 and isinstance(dim, str) and sum(dim in d for d in shapes.values()) == 1:
                found[key] = max(config.sequence // _NODES, 1)
    return found


def _free(
    value: ir.Value,
    dims: tuple[int | str | None, ...],
    axis: int,
    channels_last: bool,
    config: ScoreConfig,
    least: int,
) -> tuple[int, str]:
    """Default size of a dimension that neither the file nor the user fixes, and the constraint behind it."""
    if (axis == len(dims) - 1 and len(dims) <= 3) or (axis == 1 and len(dims) >= 3 and not channels_last):
        wanted = _consumer_width(value, axis, last=axis == len(dims) - 1)
        if wanted is not None:
            return wanted
    if len(dims) == 4:
        return 3 if axis == (3 if channels_last else 1) else config.size, ""
    if len(dims) == 5:
        return 3 if axis == 1 else max(config.size // 2, 1), ""
    if 2 * least > config.sequence:  # a waveform: two windows fit
        return 2 * least, f"the windows over it take at least {least:,}"
    return config.sequence, ""


def _consumer_width(value: ir.Value, axis: int, *, last: bool) -> tuple[int, str] | None:
    """Input channels of the first layer that reads an input directly, and why; None if nothing fixes them."""
    for node in value.consumers():
        if is_op(node, "Cast", "Identity"):
            found = _consumer_width(node.outputs[0], axis, last=last)
            if found is not None:
                return found
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        if weight is None or weight.const_value is None:
            continue
        shape = [int(d) for d in weight.const_value.shape.numpy()]
        width = None
        if is_op(node, "Conv") and axis == 1:
            width = shape[1] * node.attributes.get_int("group", 1)
        elif kind(node) is Kind.PRODUCT and len(shape) == 2 and last:
            width = shape[1 if node.attributes.get_int("transB", 0) == 1 else 0]
        if width is not None:
            return width, f"{node.op_type} node {name_of(node)!r} takes {width}"
    return None


def sampling_rate() -> int:
    """Value of a sampling-rate input, in Hz."""
    return _SAMPLING_RATE
