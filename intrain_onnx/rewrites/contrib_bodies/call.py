"""Access to a node for the function that writes its body: checked inputs and attributes, text fragments."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import onnx_ir as ir

from intrain_onnx.errors import ModelFileError, UnsupportedError, printable
from intrain_onnx.network.values import constant_array, name_of, static_shape

MICROSOFT = "com.microsoft"

_STEPS = 64
"""Most ancestors that are visited to decide whether an input is constant."""

_KINDS = {
    "float": ir.AttributeType.FLOAT,
    "int": ir.AttributeType.INT,
    "string": ir.AttributeType.STRING,
    "floats": ir.AttributeType.FLOATS,
    "ints": ir.AttributeType.INTS,
}


class Later(Exception):  # noqa: N818 - no error: the node waits
    """A body depends on a type or rank that may be inferred once other nodes are expanded."""


@dataclass(frozen=True, slots=True)
class Body:
    """The decomposition of an operator.

    Attributes:
        write: returns the nodes in ONNX's textual syntax; None for a form that it does not cover.
        inputs: formal inputs of the text, in order.
        required: those that are not optional.
        outputs: formal outputs.
        exact: nodes with another number of inputs are not expanded.
    """

    write: Callable[[Call], str | None]
    inputs: tuple[str, ...]
    required: frozenset[str]
    outputs: tuple[str, ...]
    exact: bool = False


BODIES: dict[tuple[str, str], Body] = {}
"""By domain and operator."""


def body(
    op_type: str, inputs: str, outputs: str = "y", domain: str = MICROSOFT, *, exact: bool = False
) -> Callable[[Callable[[Call], str | None]], Callable[[Call], str | None]]:
    """Register the body of an operator; names of optional inputs end in a question mark."""

    def register(write: Callable[[Call], str | None]) -> Callable[[Call], str | None]:
        names = inputs.split()
        BODIES[domain, op_type] = Body(
            write,
            tuple(n.rstrip("?") for n in names),
            frozenset(n for n in names if not n.endswith("?")),
            tuple(outputs.split()),
            exact,
        )
        return write

    return register


@dataclass
class Call:
    """A node to be expanded.

    Attributes:
        node: the node.
        body: its row in the table.
        opset: of ai.onnx.
        guess: assume float32 for an unknown element type, instead of raising ``Later``.
        literals: constants of the body, by their names in the text.
    """

    node: ir.Node
    body: Body
    opset: int
    guess: bool = False
    literals: dict[str, np.ndarray[Any, Any]] = field(default_factory=dict)
    _read: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        inputs, outputs = self.node.inputs, self.node.outputs
        if len(inputs) > len(self.body.inputs) or len(outputs) > len(self.body.outputs):
            self.fail(
                f"{len(inputs)} inputs and {len(outputs)} outputs for an operator of at most "
                f"{len(self.body.inputs)} and {len(self.body.outputs)}"
            )
        missing = [n for n in self.body.inputs if n in self.body.required and not self.has(n)]
        if missing:
            self.fail(f"the input {missing[0]!r} is left out")

    def fail(self, message: str) -> NoReturn:
        """Refuse the node: it violates its operator's definition."""
        raise ModelFileError(message, node=name_of(self.node), op=self._op())

    def refuse(self, message: str, hint: str | None = None) -> NoReturn:
        """Refuse the node: valid, but not supported."""
        raise UnsupportedError(message, node=name_of(self.node), op=self._op(), hint=hint)

    def _op(self) -> str:
        return "::".join(part for part in (self.node.domain, self.node.op_type) if part)

    # --- inputs and outputs -------------------------------------------------------------------------

    def value(self, name: str) -> ir.Value | None:
        """The input of that name; None if it is omitted."""
        index = self.body.inputs.index(name)
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def has(self, name: str) -> bool:
        """Whether the node has an input."""
        return self.value(name) is not None

    def wants(self, name: str) -> bool:
        """Whether the node has an output."""
        index = self.body.outputs.index(name) if name in self.body.outputs else len(self.node.outputs)
        return index < len(self.node.outputs) and bool(self.node.outputs[index].name)

    def rank(self, name: str) -> int:
        """Number of dimensions of an input.

        Raises:
            Later: it is not known.
        """
        found = self.known_rank(name)
        if found is None:
            raise Later
        return found

    def known_rank(self, name: str) -> int | None:
        """Number of dimensions of an input; None if unknown."""
        value = self.value(name)
        tensor = value.const_value if value is not None else None
        shape = tensor.shape if tensor is not None else value.shape if value is not None else None
        return None if shape is None else len(shape.dims)

    def size(self, name: str, axis: int) -> int | None:
        """Length of an input along an axis; None if unknown."""
        value = self.value(name)
        shape = value.shape if value is not None else None
        if value is not None and value.const_value is not None:
            shape = ir.Shape(value.const_value.shape.numpy())
        if shape is None or not -len(shape.dims) <= axis < len(shape.dims):
            return None
        dim = shape.dims[axis]
        return dim if isinstance(dim, int) else None

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of an input; None unless all of it is known."""
        return static_shape(self.value(name))

    def constant(self, name: str) -> np.ndarray[Any, Any] | None:
        """The value of an input that is a constant; None for others."""
        value = self.value(name)
        if value is None:
            return None
        maker = value.producer()
        if maker is not None and maker.op_type == "Constant" and not maker.domain:
            held = maker.attributes.get("value")
            return held.as_tensor().numpy() if held is not None else None
        return constant_array(value)

    def is_fixed(self, name: str) -> bool:
        """Whether an input depends on constants alone; False if it has more than 64 ancestors."""
        stack, seen = [self.value(name)], 0
        while stack:
            value = stack.pop()
            seen += 1
            if value is None or value.const_value is not None:
                continue
            maker = value.producer()
            if maker is None or seen > _STEPS:
                return False
            stack.extend(maker.inputs)
        return True

    def type_of(self, name: str) -> ir.DataType:
        """Element type of an input.

        Raises:
            Later: it is not known.
        """
        value = self.value(name)
        found = value.dtype if value is not None else None
        if found is None and value is not None and value.const_value is not None:
            found = value.const_value.dtype
        if found is None and not self.guess:
            raise Later
        return found or ir.DataType.FLOAT

    def float_type(self) -> ir.DataType:
        """The floating-point type of the node: that of its first input or output that has one.

        Raises:
            Later: none is known.
        """
        types = [v.dtype for v in (*self.node.inputs, *self.node.outputs) if v is not None]
        known = [t for t in types if t is not None and t.is_floating_point()]
        if not known and not self.guess:
            raise Later
        return known[0] if known else ir.DataType.FLOAT

    # --- attributes ---------------------------------------------------------------------------------

    def _attribute(self, name: str, kind: str) -> Any:
        self._read.add(name)
        found = self.node.attributes.get(name)
        if found is None:
            return None
        if found.type != _KINDS[kind]:
            self.fail(f"the attribute '{name}' holds {found.type.name.lower()}, not {kind}")
        return found.value

    def integer(self, name: str, default: int = 0, allowed: Collection[int] | None = None) -> int:
        """An integer attribute, checked against the allowed values."""
        given = self._attribute(name, "int")
        value = default if given is None else int(given)
        if allowed is not None and value not in allowed:
            self.fail(f"the attribute '{name}' is {value}")
        return value

    def count(self, name: str, default: int | None = None) -> int:
        """A positive int32 attribute."""
        given = self._attribute(name, "int")
        value = default if given is None else int(given)
        if value is None:
            self.fail(f"the attribute '{name}' is left out")
        if not 0 < value < 2**31:
            self.fail(f"the attribute '{name}' is {value}")
        return value

    def flag(self, name: str, default: int = 0) -> bool:
        """An integer attribute that is 0 or 1."""
        return bool(self.integer(name, default, (0, 1)))

    def real(self, name: str, default: float) -> float:
        """A finite float attribute."""
        given = self._attribute(name, "float")
        value = default if given is None else float(given)
        if not math.isfinite(value):
            self.fail(f"the attribute '{name}' is {value}")
        return value

    def optional_real(self, name: str) -> float | None:
        """A finite float attribute; None if it is omitted or 0."""
        return self.real(name, 0.0) or None

    def word(self, name: str, default: str = "") -> str:
        """A string attribute."""
        given = self._attribute(name, "string")
        return default if given is None else str(given)

    def reals(self, name: str) -> list[float]:
        """A list attribute of finite floats; empty by default."""
        values = [float(v) for v in self._attribute(name, "floats") or ()]
        if not all(map(math.isfinite, values)):
            self.fail(f"the attribute '{name}' holds {values}")
        return values

    def integers(self, name: str) -> list[int]:
        """A list attribute of integers; empty by default."""
        return [int(v) for v in self._attribute(name, "ints") or ()]

    def passed(self, **kinds: str) -> str:
        """Those of the named attributes that the node has, as text that passes them to an inner operator."""
        given = [(n, k) for n, k in kinds.items() if self._attribute(n, k) is not None]
        return f"<{', '.join(f'{n}: {k} = @{n}' for n, k in given)}>" if given else ""

    def ignore(self, *names: str) -> None:
        """Accept attributes that do not change the result, such as the choice of a kernel."""
        self._read.update(names)

    def unread(self) -> list[str]:
        """Attributes of the node that the body did not read."""
        return [printable(name) for name in self.node.attributes if name not in self._read]

    # --- text ---------------------------------------------------------------------------------------

    def literal(self, array: np.ndarray[Any, Any]) -> str:
        """The name of a constant; equal constants share one."""
        for name, known in self.literals.items():
            if known.dtype == array.dtype and known.shape == array.shape and np.array_equal(known, array):
                return name
        name = f"constant_{len(self.literals)}"
        self.literals[name] = array
        return name

    def part(self, name: str, array: np.ndarray[Any, Any], of: str) -> str:
        """The name of a part of a constant input, as a separate parameter."""
        self.literals[f"{name}_{of}"] = array
        return f"{name}_{of}"

    def number(self, value: float) -> str:
        """The name of a scalar of the node's floating-point type."""
        return self.literal(np.asarray(value, self.float_type().numpy()))

    def ints(self, *values: int) -> str:
        """The name of an int64 vector."""
        return self.literal(np.asarray(values, np.int64))

    def index(self, value: int) -> str:
        """The name of an int64 scalar."""
        return self.literal(np.asarray(value, np.int64))

    def unsqueeze(self, x: str, axis: int) -> str:
        """Unsqueeze, in the syntax of the opset."""
        if self.opset < 13:
            return f"Unsqueeze <axes: ints = [{axis}]> ({x})"
        return f"Unsqueeze ({x}, {self.ints(axis)})"

    def reduce(self, op_type: str, x: str, axis: int, *, keep: bool) -> str:
        """A reduction over one axis, in the syntax of the opset."""
        since = 13 if op_type == "ReduceSum" else 18
        if self.opset < since:
            return f"{op_type} <axes: ints = [{axis}], keepdims: int = {int(keep)}> ({x})"
        return f"{op_type} <keepdims: int = {int(keep)}> ({x}, {self.ints(axis)})"

    def split(self, x: str, sizes: list[int], names: list[str], axis: int = -1) -> str:
        """Split into given sizes, in the syntax of the opset."""
        if self.opset < 13:
            return f"{', '.join(names)} = Split <axis: int = {axis}, split: ints = {sizes}> ({x})"
        return f"{', '.join(names)} = Split <axis: int = {axis}> ({x}, {self.ints(*sizes)})"

    def equal_parts(self, x: str, names: list[str], axis: int = -1) -> str:
        """Split into equal parts, in the syntax of the opset."""
        count = f", num_outputs: int = {len(names)}" if self.opset >= 18 else ""
        return f"{', '.join(names)} = Split <axis: int = {axis}{count}> ({x})"

    def slice(self, x: str, start: int, end: int, axis: int = -1) -> str:
        """Slice along one axis."""
        return f"Slice ({x}, {self.ints(start)}, {self.ints(end)}, {self.ints(axis)})"

    def length(self, x: str, axis: int, y: str) -> str:
        """``y``: the length of ``x`` along an axis, as an int64 scalar computed at run time."""
        return f"{y}_shape = Shape ({x}) {y} = Gather ({y}_shape, {self.index(axis)})"

    def positions(self, x: str, axis: int, y: str) -> str:
        """``y``: the vector 0, 1, 2 … of the length of ``x`` along an axis."""
        return f"{self.length(x, axis, f'{y}_end')} {y} = Range ({self.index(0)}, {y}_end, {self.index(1)})"
