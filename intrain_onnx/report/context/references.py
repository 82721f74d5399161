"""Reference networks: scores at the standard settings, stored with the package, and which are like a network.

``benchmarks/reference_networks.py`` measures them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Final, NamedTuple

import msgspec
from msgspec import Struct

from intrain_onnx.vocabulary import NetworkKind

FEWEST: Final = 10
"""Networks among which a percentile means something: one of them is 10 points."""


class Likeness(NamedTuple):
    """Factors within which #Params and the number of layers of like networks lie."""

    parameters: float
    layers: float


LIKENESS: Final = (Likeness(3.0, 2.0), Likeness(9.0, 4.0))
"""The second is tried where the first finds fewer than `FEWEST`."""


class Reference(Struct, frozen=True):
    """A reference network.

    Attributes:
        name: torchvision's, or the space and the number of the draw.
        family: its design, or its space.
        kind: of network.
        inputs: what it was fed, in words (see ``inputs.in_words``).
        seeds: runs whose mean the scores are.
        scores: all named scores.
        baselines: what a score has to beat.
    """

    name: str
    family: str
    kind: NetworkKind
    inputs: str
    seeds: int
    scores: Mapping[str, float]
    baselines: Mapping[str, int | float | None]


class Table(Struct, frozen=True):
    """The stored table.

    Attributes:
        tool: version of intrain-onnx.
        torch: version of torch.
        settings: that can move a score, as ``comparison.that_move_a_score`` has them.
        left_out: why a network is not among them, by name.
        networks: those that are.
    """

    tool: str
    torch: str
    settings: Mapping[str, Any]
    left_out: Mapping[str, str]
    networks: tuple[Reference, ...]


@dataclass(frozen=True, slots=True)
class Neighbours:
    """Reference networks that are like a network, the nearest first.

    Attributes:
        networks: those found.
        likeness: the factors within which they lie.
    """

    networks: tuple[Reference, ...]
    likeness: Likeness


@lru_cache(maxsize=1)
def table() -> Table:
    """The stored table."""
    text = resources.files("intrain_onnx.report.context").joinpath("networks.json").read_bytes()
    return msgspec.json.decode(text, type=Table)


def neighbours(kind: str, inputs: str, parameters: float, layers: float) -> Neighbours:
    """Reference networks of the same kind, on the same inputs, of like #Params and number of layers.

    Distance is the larger of both logs of ratios, each over the log of its factor. Where the first of
    `LIKENESS` finds fewer than `FEWEST`, the next is taken.
    """
    alike = [x for x in table().networks if x.kind == kind and x.inputs == inputs]
    found: list[tuple[float, Reference]] = []
    for likeness in LIKENESS:
        measured = [(_distance(x, parameters, layers, likeness), x) for x in alike]
        found = sorted((item for item in measured if item[0] <= 1), key=lambda item: (item[0], item[1].name))
        if len(found) >= FEWEST:
            break
    return Neighbours(tuple(x for _, x in found), likeness)


def _distance(x: Reference, parameters: float, layers: float, likeness: Likeness) -> float:
    return max(
        _apart(x.baselines["parameters"], parameters, likeness.parameters),
        _apart(x.baselines["layers"], layers, likeness.layers),
    )


def _apart(one: float | None, other: float, factor: float) -> float:
    return abs(math.log(one / other)) / math.log(factor) if one and other > 0 else math.inf


def percentile(value: float, others: list[float]) -> float:
    """Share of the others that are lower, in per cent; ties count half. In [0, 100].

    >>> percentile(2.0, [1.0, 2.0, 3.0, 4.0])
    37.5
    """
    below = sum(x < value for x in others) + 0.5 * sum(x == value for x in others)
    return 100.0 * below / len(others)
