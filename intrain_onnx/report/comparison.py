"""Compares two models' architectures layer by layer and finds the first difference."""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from intrain_onnx.network.coverage import Coverage
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.report.derived import Figure, figures, layer_health
from intrain_onnx.report.document import Report
from intrain_onnx.report.rows import Settings

_LEAST_MOVE = math.log(1.001)


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One canonical layer for comparison: name, kind, weight shape, depth and structural key.

    Of a report it has the status, the participation ratio and the mean gradient health of the weights too;
    ratio and health are None where they were not measured.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    depth: int
    key: str
    status: str | None = None
    ratio: float | None = None
    health: float | None = None

    def describes(self) -> tuple[str, tuple[int, ...], int]:
        """Kind, weight shape and depth; trailing axes of size 1 are dropped (a 1x1 convolution is linear)."""
        shape = self.shape
        while len(shape) > 2 and shape[-1] == 1:
            shape = shape[:-1]
        kind = "linear" if len(shape) == 2 and self.kind == "convolution" else self.kind
        return kind, shape, self.depth


@dataclass(frozen=True)
class Comparison:
    """Two aligned sequences of layers.

    Attributes:
        rows: pairs in depth order; None for a layer without a counterpart.
        same: equal multisets of structural keys, and full coverage of both.
        first_difference: index into ``rows``; None if the same.
        scores: for reports, each figure of both and their relative difference.
        covered: coverage (share of weights recognised) of each; below 1, some layers are missing.
        different: for reports, settings that differ between them and can move scores and layers.
    """

    rows: tuple[tuple[LayerRow | None, LayerRow | None], ...]
    same: bool
    first_difference: int | None
    scores: Mapping[Figure, tuple[float, float, float]]
    covered: tuple[float, float] = (1.0, 1.0)
    different: tuple[str, ...] = ()

    @property
    def whole(self) -> bool:
        """Whether both have full coverage: otherwise equal layers do not imply equal networks."""
        return min(self.covered) == 1.0


@dataclass(frozen=True, slots=True)
class Move:
    """A layer of two reports, as it was and as it is, and by how much it moved.

    ``change`` is the larger of the absolute logarithms of new / old participation ratio and gradient health;
    infinite where one of a pair is zero or was not measured.
    """

    old: LayerRow
    new: LayerRow
    change: float


@dataclass(frozen=True)
class LayerList:
    """Canonical layers in canonical order, and the figures and settings of a report if it is one.

    ``covered`` is the share of the weights that the layers and other parameters account for.
    """

    layers: Sequence[LayerRow]
    figures: Mapping[Figure, float]
    covered: float = 1.0
    settings: Settings | None = None


def network_of(layers: LayerMap, covered: Coverage) -> LayerList:
    """The layers of a static pass."""
    rows = [LayerRow(x.name, x.kind, x.weights[0].shape, x.depth, x.key) for x in layers.layers]
    return LayerList(rows, {}, covered.share)


def network_of_report(report: Report) -> LayerList:
    """The layers and figures of a saved report."""
    document = report.document
    parameters = {p.name: p for p in document.parameters}
    rows = [
        LayerRow(
            x.name, x.kind, x.weight_shape, x.depth, x.key, x.status, x.participation_ratio,
            layer_health(x, parameters),
        )
        for x in document.layers
    ]  # fmt: skip
    return LayerList(rows, figures(document.score), document.coverage.share, document.settings)


def compare(one: LayerList, other: LayerList) -> Comparison:
    """Compare two networks by their layers.

    They are the same if their multisets of structural keys are equal and both have full coverage. Keys cover
    each layer's shape, strides and groups and its predecessors and successors. Otherwise the sequences of
    (kind, shape, depth) are aligned by ``difflib.SequenceMatcher``.
    """
    first, second = one.layers, other.layers
    scores = {name: _differ(one.figures[name], other.figures[name]) for name in one.figures}
    covered, different = (one.covered, other.covered), _differ_in(one, other)
    same = Counter(x.key for x in first) == Counter(x.key for x in second)
    if same:
        by_key: defaultdict[str, deque[LayerRow]] = defaultdict(deque)
        for x in second:
            by_key[x.key].append(x)
        pairs = tuple((x, by_key[x.key].popleft()) for x in first)
        return Comparison(pairs, min(covered) == 1.0, None, scores, covered, different)
    first, second = _in_order(first), _in_order(second)
    rows: list[tuple[LayerRow | None, LayerRow | None]] = []
    matcher = SequenceMatcher(
        None, [x.describes() for x in first], [x.describes() for x in second], autojunk=False
    )
    for _, a, b, c, d in matcher.get_opcodes():
        left, right = first[a:b], second[c:d]
        for index in range(max(len(left), len(right))):
            rows.append(
                (left[index] if index < len(left) else None, right[index] if index < len(right) else None)
            )
    known = {x.key for x in second}
    differs = [
        i
        for i, (x, y) in enumerate(rows)
        if x is None or y is None or x.describes() != y.describes() or x.key not in known
    ]
    in_itself = [i for i in differs if not _alike(*rows[i])]
    return Comparison(tuple(rows), False, (in_itself or differs or [0])[0], scores, covered, different)


def moves(found: Comparison) -> list[Move]:
    """The layers of two reports that moved by 0.1 % or more, those that moved most first."""
    pairs = [(x, y) for x, y in found.rows if x is not None and y is not None and _alike(x, y)]
    moved = [Move(x, y, max(_moved(x.ratio, y.ratio), _moved(x.health, y.health))) for x, y in pairs]
    return sorted((m for m in moved if m.change >= _LEAST_MOVE), key=lambda m: (-m.change, m.new.depth))


def _differ_in(one: LayerList, other: LayerList) -> tuple[str, ...]:
    if one.settings is None or other.settings is None:
        return ()
    return tuple(different_settings([one.settings, other.settings]))


def that_move_a_score(settings: Settings) -> dict[str, object]:
    """The settings that can move a score, by name; what follows from the network is among them."""
    return {
        "protocol": settings.protocol,
        "weights": settings.weights,
        "batch_norm": settings.batch_norm,
        "calibrate": settings.calibrate,
        "live_layers_only": settings.live_layers_only,
        "health_over": settings.health_over,
        "eps": settings.eps,
        "seed": settings.seed,
        "seeds": settings.seeds,
        "converter": settings.converter,
        "execution": settings.execution,
        "samples": settings.samples,
        "input shapes": sorted(x.shape for x in settings.inputs_fed),
        "given inputs": sorted(x.sha256 for x in settings.inputs_fed if x.sha256 is not None),
    }


def different_settings(reports: Sequence[Settings]) -> list[str]:
    """Names of the settings that can change a score and differ between reports."""
    first, *others = map(that_move_a_score, reports)
    return [name for name, value in first.items() if any(other[name] != value for other in others)]


def _moved(old: float | None, new: float | None) -> float:
    if old == new:
        return 0.0
    return abs(math.log(new / old)) if old and new else math.inf


def _in_order(layers: Sequence[LayerRow]) -> list[LayerRow]:
    """By depth and what they are: keys, which order layers of one depth, change with what is near them."""
    return sorted(layers, key=lambda x: (x.depth, x.describes(), x.key))


def _differ(a: float, b: float) -> tuple[float, float, float]:
    largest = max(abs(a), abs(b))
    return a, b, abs(a - b) / largest if largest else 0.0


def _alike(x: LayerRow | None, y: LayerRow | None) -> bool:
    return x is not None and y is not None and x.describes() == y.describes()
