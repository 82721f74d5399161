"""Bottlenecks, gradient trend and intervals of a report: pure functions over its rows."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations, pairwise

from msgspec import UNSET

from intrain_onnx.report.derived import Figure, figures, largest_ratio
from intrain_onnx.report.rows import Layer, Parameter, Score

_LEAST_FALL = 1.1
"""Least ratio before/after of a bottleneck: smaller drops are within the spread over seeds."""
_MILD, _STRONG = 1.0, 3.0
"""Change over the whole depth, in decades, from which gradients drift, and vanish or explode."""
_FEWEST_DEPTHS = 3


@dataclass(frozen=True, slots=True)
class Fall:
    """A drop: a layer whose participation ratio is below that of its input layers.

    Attributes:
        layer: its row in the report.
        before, after: participation ratios; ``before`` is the geometric mean over the input layers.
        largest_before: mean over the input layers of the upper bound that rows and channels set.
    """

    layer: Layer
    before: float
    after: float
    largest_before: float

    @property
    def factor(self) -> float:
        """Ratio before / after."""
        return self.before / self.after

    @property
    def narrows(self) -> bool:
        """Whether the layer's width explains the drop: its ratio relative to the upper bound did not drop."""
        return self.after / largest_ratio(self.layer) >= 0.95 * self.before / self.largest_before


def bottlenecks(layers: Iterable[Layer], most: int = 5) -> list[Fall]:
    """Layers with the largest drop in participation ratio from their input layers, worst first.

    Where a report does not list input layers, those of the preceding depth are used.
    """
    measured = [(x, x.participation_ratio) for x in layers if x.participation_ratio is not None]
    by_name = {x.name: (x, ratio) for x, ratio in measured}
    by_depth: defaultdict[int, list[tuple[Layer, float]]] = defaultdict(list)
    for x, ratio in measured:
        by_depth[x.depth].append((x, ratio))
    previous = dict(pairwise(sorted(by_depth)[::-1]))
    falls = []
    for x, ratio in measured:
        if x.inputs is UNSET:
            feeding = by_depth.get(previous.get(x.depth, -1), [])
        else:
            feeding = [by_name[name] for name in x.inputs if name in by_name]
        if feeding:
            before = statistics.geometric_mean(r for _, r in feeding)
            largest = statistics.fmean(largest_ratio(f) for f, _ in feeding)
            falls.append(Fall(x, before, ratio, largest))
    falls = [f for f in falls if f.factor >= _LEAST_FALL]
    return sorted(falls, key=lambda f: (-f.factor, f.layer.depth, f.layer.name))[:most]


def weights_of(parameters: Iterable[Parameter]) -> list[tuple[Parameter, float]]:
    """Weights of layers with a non-zero gradient, each with the gradient's standard deviation."""
    return [
        (p, p.grad_std) for p in parameters if p.role == "weight" and p.status == "measured" and p.grad_std
    ]


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through log10 of the gradients' standard deviation against depth.

    Attributes:
        first, last: least and greatest depth fitted.
        start, end: log10 of the fitted size at these depths.
    """

    first: int
    last: int
    start: float
    end: float

    @property
    def change(self) -> float:
        """Ratio of the fitted gradient size at the first depth to that at the last."""
        return float(10 ** (self.start - self.end))

    @property
    def verdict(self) -> str:
        """``vanish``, ``shrink``, ``steady``, ``grow`` or ``explode``, from the output to the input."""
        decades = self.start - self.end
        if abs(decades) < _MILD:
            return "steady"
        strong = abs(decades) >= _STRONG
        if decades < 0:
            return "vanish" if strong else "shrink"
        return "explode" if strong else "grow"


def gradient_trend(parameters: Iterable[Parameter]) -> Trend | None:
    """Theil-Sen line through the mean log10 gradient size of each depth; None with fewer than three depths.

    The slope is the median over all pairs of depths, so that a single layer has little influence.
    """
    by_depth: defaultdict[int, list[float]] = defaultdict(list)
    for weight, std in weights_of(parameters):
        by_depth[weight.depth].append(math.log10(std))
    points = [(depth, statistics.fmean(sizes)) for depth, sizes in sorted(by_depth.items())]
    if len(points) < _FEWEST_DEPTHS:
        return None
    slope = statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2))
    offset = statistics.median(y - slope * x for x, y in points)
    first, last = points[0][0], points[-1][0]
    return Trend(first, last, offset + slope * first, offset + slope * last)


def interval(score: Score, part: Figure) -> tuple[float, float] | None:
    """95 % interval of the mean of a part of the score; None for a single run.

    Student's quantile for the number of runs is recovered from the score's own interval.
    """
    if score.ci95 is None or part == "intrain":
        return score.ci95
    if not score.standard_error or len(score.runs) == 1:
        return None
    low, high = score.ci95
    quantile = (high - low) / 2 / score.standard_error
    values = [figures(run)[part] for run in score.runs]
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    mean = figures(score)[part]
    return mean - half, mean + half
