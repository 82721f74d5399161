"""Quantities derived from a report, shared by the terminal and HTML views."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from intrain_onnx.report.rows import Layer, Parameter, Run, Score
from intrain_onnx.vocabulary import LayerStatus

Figure = Literal["intrain", "geometric_capacity", "optimization_resilience"]
"""The score and its two factors."""

NOT_MEASURED: Final[Mapping[LayerStatus, str]] = {
    "collapsed": "output does not vary",
    "dead": "all-zero gradient",
    "unreached": "no gradient path",
    "not_run": "not executed",
    "too_few_rows": "fewer than two rows",
}
"""Meaning of each status of a layer except ``measured``."""


def figures(row: Score | Run) -> dict[Figure, float]:
    """The score and its two factors, of all runs or of one, by name."""
    return {
        "intrain": row.intrain,
        "geometric_capacity": row.geometric_capacity,
        "optimization_resilience": row.optimization_resilience,
    }


def file_labels(paths: Sequence[str]) -> list[str]:
    """File names; full paths for files that share a name."""
    names = [Path(p).name for p in paths]
    return [p if names.count(n) > 1 else n for p, n in zip(paths, names, strict=True)]


def largest_ratio(layer: Layer) -> int:
    """Upper bound of the participation ratio: min(rows - 1, channels), or channels if rows are unknown."""
    rank = layer.channels if layer.rows is None else min(layer.rows - 1, layer.channels)
    return max(rank, 1)


def relative_ratio(layer: Layer) -> float | None:
    """Participation ratio over its upper bound (see `largest_ratio`), in (0, 1]."""
    ratio = layer.participation_ratio
    return None if ratio is None else ratio / largest_ratio(layer)


def layer_health(layer: Layer, parameters: Mapping[str, Parameter]) -> float | None:
    """Mean gradient health of a layer's weights; None if none was measured."""
    return _mean(p.health for p in _weights(layer, parameters))


def layer_gradient(layer: Layer, parameters: Mapping[str, Parameter]) -> float | None:
    """Mean standard deviation of the gradients of a layer's weights; None if none was measured."""
    return _mean(p.grad_std for p in _weights(layer, parameters))


def _weights(layer: Layer, parameters: Mapping[str, Parameter]) -> list[Parameter]:
    return [parameters[name] for name in layer.weights if name in parameters]


def _mean(values: Iterable[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None
