"""What stands out along the depth of a scored network: pure functions over the rows of a report."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from typing import Any

from intrain_onnx.report.derived import largest_ratio

Row = Mapping[str, Any]

_LEAST_FALL = 1.1
"""A participation ratio that falls by less is no bottleneck: seeds differ by as much."""
_MILD, _STRONG = 1.0, 3.0
"""Powers of ten over the whole depth from which gradients are said to drift, and to vanish or explode."""
_FEWEST_DEPTHS = 3


@dataclass(frozen=True, slots=True)
class Fall:
    """A layer whose participation ratio is below that of the layers that feed it.

    Attributes:
        layer: its row in the report.
        before, after: participation ratios; ``before`` is the geometric mean of those that feed it.
        largest_before: the mean of the largest ratios that rows and channels allow those.
    """

    layer: Row
    before: float
    after: float
    largest_before: float

    @property
    def factor(self) -> float:
        """How many times smaller it became."""
        return self.before / self.after

    @property
    def narrows(self) -> bool:
        """Whether the layer's width explains the fall: its share of the largest ratio did not fall."""
        return self.after / largest_ratio(self.layer) >= 0.95 * self.before / self.largest_before


def bottlenecks(layers: Iterable[Row], most: int = 5) -> list[Fall]:
    """Layers where the participation ratio drops most from the layers that feed them, worst first.

    In a report that does not say which feed a layer, those of the depth before stand in for them.
    """
    measured = [x for x in layers if x["participation_ratio"] is not None]
    by_name = {x["name"]: x for x in measured}
    by_depth = _by_depth(measured)
    previous = dict(pairwise(sorted(by_depth)[::-1]))
    falls = []
    for x in measured:
        if "inputs" in x:
            feeding = [by_name[name] for name in x["inputs"] if name in by_name]
        else:
            feeding = by_depth.get(previous.get(x["depth"], -1), [])
        if feeding:
            before = statistics.geometric_mean(f["participation_ratio"] for f in feeding)
            largest = statistics.fmean(map(largest_ratio, feeding))
            falls.append(Fall(x, before, x["participation_ratio"], largest))
    falls = [f for f in falls if f.factor >= _LEAST_FALL]
    return sorted(falls, key=lambda f: (-f.factor, f.layer["depth"], f.layer["name"]))[:most]


def _by_depth(rows: Iterable[Row]) -> dict[int, list[Row]]:
    found: defaultdict[int, list[Row]] = defaultdict(list)
    for row in rows:
        found[row["depth"]].append(row)
    return found


def weights_of(parameters: Iterable[Row]) -> list[Row]:
    """Weights of layers that received a gradient."""
    return [p for p in parameters if p["role"] == "weight" and p["status"] == "measured" and p["grad_std"]]


@dataclass(frozen=True, slots=True)
class Trend:
    """A line through the logarithm of the gradients' size against depth.

    Attributes:
        first, last: depths that it was drawn through.
        start, end: decimal logarithms on the line at these depths.
    """

    first: int
    last: int
    start: float
    end: float

    @property
    def change(self) -> float:
        """How many times larger gradients are at the input's end than at the output's."""
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


def gradient_trend(parameters: Iterable[Row]) -> Trend | None:
    """The trend of the weights' gradients along depth; None with fewer than three depths.

    The slope is that of Theil and Sen, the median over all pairs of depths: a single layer cannot turn it.
    """
    points = [
        (depth, statistics.fmean(math.log10(p["grad_std"]) for p in rows))
        for depth, rows in sorted(_by_depth(weights_of(parameters)).items())
    ]
    if len(points) < _FEWEST_DEPTHS:
        return None
    slope = statistics.median((b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2))
    offset = statistics.median(y - slope * x for x, y in points)
    first, last = points[0][0], points[-1][0]
    return Trend(first, last, offset + slope * first, offset + slope * last)


def interval(score: Row, part: str) -> tuple[float, float] | None:
    """The 95 % interval of the mean of a part of the score; None for a single run.

    Student's quantile for the number of runs is taken from the score's own interval.
    """
    if score["ci95"] is None:
        return None
    if part == "intrain":
        return float(score["ci95"][0]), float(score["ci95"][1])
    if not score["standard_error"]:
        return None
    low, high = score["ci95"]
    quantile = (high - low) / 2 / score["standard_error"]
    values = [run[part] for run in score["runs"]]
    half = quantile * statistics.stdev(values) / math.sqrt(len(values))
    return score[part] - half, score[part] + half


_SETTINGS = (
    *("protocol", "weights", "batch_norm", "calibrate", "live_layers_only", "health_over", "eps"),
    *("seed", "seeds", "converter", "execution", "samples"),
)


def different_settings(reports: Sequence[Row]) -> list[str]:
    """Settings that can move a score and that are not the same in all reports."""
    found = [name for name in _SETTINGS if len({repr(r["settings"].get(name)) for r in reports}) > 1]
    shapes = {repr(sorted(tuple(i["shape"]) for i in r["settings"]["inputs_fed"])) for r in reports}
    return found + (["input shapes"] if len(shapes) > 1 else [])
