"""What can be counted without measuring, and a score has to beat: the one table for all that shows it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

Number = int | float


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts of the network that is scored, after the protocol's rewrites, so that exporters agree.

    Attributes:
        parameters: elements of layers' weights and of embeddings, ties counted once. Not of biases and
            normalisations: exporters fold them, drop those of ones or zeros, and add some.
        embeddings: those in look-up tables, tokens and added positions.
        macs: multiply-accumulate operations for one sample; None if shapes are unknown.
        layers: canonical layers.
        live_layers: those whose weights have a gradient.
        elements: of all layers' outputs, for one sample.
        mean_log_channels: over the layers, nats; 0 without any.
        activation_functions: values that one is applied to, see `activation_functions`.
    """

    parameters: int
    embeddings: int
    macs: int | None
    layers: int
    live_layers: int
    elements: int
    mean_log_channels: float
    activation_functions: int


@dataclass(frozen=True, slots=True)
class Baseline:
    """A number that ranks networks; a higher one is taken for better.

    Attributes:
        name: in reports and records.
        title: in tables.
        meaning: in one line.
        compute: from the counts.
    """

    name: str
    title: str
    meaning: str
    compute: Callable[[Counts], Number | None]


PARAMETERS: Final = "parameters"
LAYERS: Final = "layers"

_ROWS: Final = (
    Baseline(
        PARAMETERS,
        "#Params",
        "elements of weights and embeddings; without biases and normalisations, which exporters fold",
        lambda c: c.parameters,
    ),
    Baseline(
        "parameters_without_embeddings",
        "#Params without embeddings",
        "the same without look-up tables, tokens and added positions",
        lambda c: c.parameters - c.embeddings,
    ),
    Baseline("macs", "MACs", "multiply-accumulate operations for one sample", lambda c: c.macs),
    Baseline(LAYERS, "layers", "canonical layers, counted in the score or not", lambda c: c.layers),
    Baseline("live_layers", "live layers", "layers whose weights have a gradient", lambda c: c.live_layers),
    Baseline(
        "activations", "activations", "elements of all layers' outputs, one sample", lambda c: c.elements
    ),
    Baseline(
        "mean_log_channels", "mean log channels", "mean over the layers, nats", lambda c: c.mean_log_channels
    ),
    Baseline(
        "activation_functions",
        "activation functions",
        "values that an activation function is applied to",
        lambda c: c.activation_functions,
    ),
    Baseline(
        "parameters_and_layers",
        "log #Params x log(1 + layers)",
        "log of #Params, times log of 1 + layers",
        lambda c: math.log(max(c.parameters, 1)) * math.log1p(c.layers),
    ),
)

BASELINES: Final[Mapping[str, Baseline]] = MappingProxyType({row.name: row for row in _ROWS})


def all_of(counts: Counts) -> dict[str, Number | None]:
    """Every baseline, by name."""
    return {name: baseline.compute(counts) for name, baseline in BASELINES.items()}
