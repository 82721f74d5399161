"""Are two models the same architecture? Layer by layer, with the first difference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from intrain_onnx.network.coverage import Coverage
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.report.derived import Figure, figures
from intrain_onnx.report.document import Report


@dataclass(frozen=True, slots=True)
class LayerRow:
    """One canonical layer as it is compared: what it is, how deep it lies, and its structural key."""

    name: str
    kind: str
    shape: tuple[int, ...]
    depth: int
    key: str

    def describes(self) -> tuple[str, tuple[int, ...], int]:
        """The layer in itself and its depth; axes of size one at the end say nothing."""
        shape = self.shape
        while len(shape) > 2 and shape[-1] == 1:
            shape = shape[:-1]
        kind = "linear" if len(shape) == 2 and self.kind == "convolution" else self.kind
        return kind, shape, self.depth


@dataclass(frozen=True)
class Comparison:
    """Two sequences of layers, aligned.

    Attributes:
        rows: pairs in depth order; None where one side has no counterpart.
        same: both have the same layers at the same depths with the same neighbours.
        first_difference: index into ``rows``; None where they are the same.
        scores: for reports, each figure of both and their relative difference.
        covered: of each, the share of the weights that was recognised; below 1, the layers are not all.
    """

    rows: tuple[tuple[LayerRow | None, LayerRow | None], ...]
    same: bool
    first_difference: int | None
    scores: Mapping[Figure, tuple[float, float, float]]
    covered: tuple[float, float] = (1.0, 1.0)

    @property
    def whole(self) -> bool:
        """Whether all weights of both were recognised: else equal layers do not make equal networks."""
        return min(self.covered) == 1.0


@dataclass(frozen=True)
class LayerList:
    """What is compared: canonical layers in canonical order, and the figures of a report if it is one.

    ``covered`` is the share of the weights that the layers and other parameters account for.
    """

    layers: Sequence[LayerRow]
    figures: Mapping[Figure, float]
    covered: float = 1.0


def network_of(layers: LayerMap, covered: Coverage) -> LayerList:
    """The layers that a static pass found."""
    rows = [LayerRow(x.name, x.kind, x.weights[0].shape, x.depth, x.key) for x in layers.layers]
    return LayerList(rows, {}, covered.share)


def network_of_report(report: Report) -> LayerList:
    """The layers that a saved report tells of, with its score."""
    document = report.document
    rows = [LayerRow(x.name, x.kind, x.weight_shape, x.depth, x.key) for x in document.layers]
    return LayerList(rows, figures(document.score), document.coverage.share)


def compare(one: LayerList, other: LayerList) -> Comparison:
    """Compare two networks by their layers.

    They are the same when their structural keys are, whatever the order, and no weights were left out. Keys
    cover each layer's shape, strides and groups and which layers come before and after. Where they differ,
    layers are aligned by what they are.
    """
    first, second = one.layers, other.layers
    scores = {name: _differ(one.figures[name], other.figures[name]) for name in one.figures}
    covered = one.covered, other.covered
    same = Counter(x.key for x in first) == Counter(x.key for x in second)
    if same:
        by_key = {x.key: x for x in second}
        pairs = tuple((x, by_key[x.key]) for x in first)
        return Comparison(pairs, min(covered) == 1.0, None, scores, covered)
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
    return Comparison(tuple(rows), False, (in_itself or differs or [0])[0], scores, covered)


def _differ(a: float, b: float) -> tuple[float, float, float]:
    largest = max(abs(a), abs(b))
    return a, b, abs(a - b) / largest if largest else 0.0


def _alike(x: LayerRow | None, y: LayerRow | None) -> bool:
    return x is not None and y is not None and x.describes() == y.describes()
