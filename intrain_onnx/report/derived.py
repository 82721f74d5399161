"""Quantities derived from a report, shared by the terminal and HTML views."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, Literal

from intrain_onnx.proxy_table import LOWER
from intrain_onnx.report.rows import Document, GradientAlongDepth, Layer, Parameter, Run, Score
from intrain_onnx.scores.variants import VARIANTS
from intrain_onnx.vocabulary import LEADING, LayerStatus, NetworkKind

_LEAST_SCORE = 1e-6
"""Of a network of two layers the scores are above 1."""

Figure = Literal["intrain", "geometric_capacity", "optimization_resilience"]
"""The score and its two factors."""

KINDS: Final[Mapping[NetworkKind, str]] = {
    "vision": "vision network",
    "language": "language model",
    "recurrent": "recurrent network",
    "other": "network of another kind",
}
"""What a network of each kind is called."""

MEASURED_ON: Final[Mapping[NetworkKind, str]] = {
    "language": "of language models, its ranks were measured on OpenLM's grid alone",
    "recurrent": "of recurrent networks, its ranks were measured on the cells of NAS-Bench-NLP alone",
    "other": "nothing is known of its ranks for networks without a convolution, an embedding or a recurrence",
}
"""What the leading score was measured on, for kinds where that is little or nothing."""

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


def leading(report: Document) -> float | None:
    """The score by which networks are ranked; None in reports of versions without it."""
    found = report.scores.get(LEADING)
    return None if found is None else found.value


def value_of(report: Document, name: str) -> float | None:
    """A named score, a baseline or a part of a proxy; None if the report has none of that name."""
    if name in report.scores:
        return report.scores[name].value
    parts = {part: value for row in report.proxies.values() for part, value in row.values.items()}
    return report.baselines.get(name, parts.get(name))


def is_void(name: str, value: float | None) -> bool:
    """Whether a value says nothing: 0, as of a network without a live layer, or not finite.

    A named score falls with every nat by which the gradient dies, so a tiny one is 0. A proxy may be small.
    """
    if value is None:
        return False
    least = _LEAST_SCORE if name in (*VARIANTS, "intrain") else 0.0
    return not math.isfinite(value) or abs(value) <= least


def ranked(reports: Iterable[Document], by: str = LEADING) -> list[Document]:
    """Best first, by a value (see `value_of`); those without it come last, by InTrain."""
    sign = 1 if by in LOWER else -1

    def key(report: Document) -> tuple[bool, float, float, str]:
        value = value_of(report, by)
        return value is None, sign * (value or 0.0), -report.score.intrain, str(report.model.path)

    return sorted(reports, key=key)


def mixed_kinds(reports: Sequence[Document]) -> str:
    """The warning where networks of different kinds are ranked together; empty where they are of one."""
    return mixed_names({report.kind for report in reports})


def mixed_names(kinds: Collection[str | None]) -> str:
    """The warning where kinds of networks are more than one; empty otherwise."""
    named = [name for kind, name in KINDS.items() if kind in kinds]
    if len(named) < 2:
        return ""
    return f"scores of different kinds of networks cannot be compared: here a {' and a '.join(named)}"


def along_depth(row: GradientAlongDepth, deepest: int) -> str:
    """Where the gradient explodes or dies, in words; ``deepest`` is the depth of the last layer."""
    if row.log_sensitivity is None:
        return "not measured"
    most = f"e^{row.log_sensitivity:.1f}"
    if row.direction == "even":
        return f"even ({most} where it strays most)"
    place = f"{row.direction} by {most} at {row.value} (depth {row.depth} of {deepest})"
    behind = f"{row.layers_behind} layer{'s lie' if row.layers_behind != 1 else ' lies'} behind"
    if row.lost_at == row.value:
        return f"{place}: {behind} it"
    return f"{place}, beyond e^{row.tolerance:g} from {row.lost_at} (depth {row.lost_at_depth}) on: {behind}"


def file_labels(paths: Sequence[str]) -> list[str]:
    """File names; full paths for files that share a name."""
    names = [Path(p).name for p in paths]
    counts = Counter(names)
    return [p if counts[n] > 1 else n for p, n in zip(paths, names, strict=True)]


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
