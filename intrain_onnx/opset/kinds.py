"""Types of the table of operator traits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, Flag, auto


class Kind(Enum):
    """Class of an operator: one for each, by its function in a network."""

    __hash__ = object.__hash__  # that of Enum is written in Python, and every analysis looks kinds up

    PRODUCT = auto()
    CONVOLUTION = auto()
    RECURRENT = auto()
    LOOKUP = auto()
    ATTENTION = auto()
    NORMALISATION = auto()
    ACTIVATION = auto()
    SOFTMAX = auto()
    ELEMENTWISE = auto()
    VIEW = auto()
    SELECTION = auto()
    POOL = auto()
    REDUCTION = auto()
    SHAPE = auto()
    GENERATOR = auto()
    CONTROL = auto()
    QUANTISED = auto()
    RANDOM = auto()
    LOSS = auto()
    SEQUENCE = auto()
    OTHER = auto()


class Property(Flag):
    """Properties of an operator that hold for all values of its attributes.

    Attributes:
        KEEPS_CHANNELS: each channel of the output is computed from that channel of input 0.
        KEEPS_LENGTH: the last axis usually keeps its length, or about it.
        MOVES_AXES: the output's axes are not those of input 0: permuted, merged, reduced or dropped.
        NEVER_NEGATIVE: no element of the output is negative.
        KEEPS_SIGN: non-negative operands give a non-negative output.
        NO_GRADIENT: the outputs have no gradient, or one that is zero everywhere.
        ON_INTEGERS: computes on quantised integers.
        SHAPE_ONLY: reads the shape of its inputs, not their data.
        JOINS: unites branches of a network.
        ORDERED: not commutative: each operand has its own role.
        SCALES: multiplies by a constant operand, or divides by it.
        SHIFTS: adds a constant operand, or subtracts it.
        WINDOW: slides a window with strides and padding over the spatial axes.
        OVER_FEATURES: normalises by statistics over features of one sample.
        TO_PROBABILITIES: maps logits to probabilities or log-probabilities.
    """

    KEEPS_CHANNELS = auto()
    KEEPS_LENGTH = auto()
    MOVES_AXES = auto()
    NEVER_NEGATIVE = auto()
    KEEPS_SIGN = auto()
    NO_GRADIENT = auto()
    ON_INTEGERS = auto()
    SHAPE_ONLY = auto()
    JOINS = auto()
    ORDERED = auto()
    SCALES = auto()
    SHIFTS = auto()
    WINDOW = auto()
    OVER_FEATURES = auto()
    TO_PROBABILITIES = auto()


NO_PROPERTIES = Property(0)
EVERY_INPUT = -1
"""In ``Traits.elements_of``: all inputs of a variadic operator."""


@dataclass(frozen=True, slots=True)
class Traits:
    """One row of the table.

    Attributes:
        kind: its class.
        parameters: role by index of each input that a framework trains if it is constant: weight, bias,
            scale, offset, slope or table. None for operators without float inputs.
        properties: what holds for all its attributes.
        elements_of: inputs whose elements, or means of them, the output consists of.
        float_form: for a quantised operator, the operator that computes the same on floats.
        no_gradient_outputs: outputs without a gradient, if others have one.
        coefficients: attributes that hold the weights of a product.
    """

    kind: Kind
    parameters: Mapping[int, str] | None = None
    properties: Property = NO_PROPERTIES
    elements_of: tuple[int, ...] = ()
    float_form: str | None = None
    no_gradient_outputs: tuple[int, ...] = ()
    coefficients: tuple[str, ...] = ()

    def has(self, properties: Property) -> bool:
        """Whether the operator has all of these properties."""
        wanted = properties._value_
        return self.properties._value_ & wanted == wanted

    @property
    def bias(self) -> int | None:
        """Index of the input with the role ``bias``, added per channel of the output; None if it has none."""
        return next((i for i, role in (self.parameters or {}).items() if role == "bias"), None)

    @property
    def weights(self) -> tuple[int, ...]:
        """Indices of the inputs that, if constant, are the weight or the table of a layer."""
        if self.kind not in _WITH_WEIGHTS:
            return ()
        return tuple(i for i, role in (self.parameters or {}).items() if role in ("weight", "table"))


_WITH_WEIGHTS = (Kind.PRODUCT, Kind.CONVOLUTION, Kind.RECURRENT, Kind.LOOKUP, Kind.ATTENTION, Kind.QUANTISED)
