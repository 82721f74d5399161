"""What every view of a report reads out of it in the same way, in a terminal or on a page."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

NOT_MEASURED = {
    "collapsed": "output does not vary",
    "dead": "all-zero gradient",
    "unreached": "no gradient path",
    "not_run": "not executed",
    "too_few_rows": "fewer than two rows",
}
"""What each status of a layer means, ``measured`` aside."""


def covered_share(data: Mapping[str, Any]) -> float:
    """The share of a model's weights that the score accounts for; 1 in reports that did not measure it."""
    return float(data.get("coverage", {"share": 1.0})["share"])


def count(value: int | None) -> str:
    """A count with a unit.

    >>> count(3_400_000), count(None)
    ('3.4 M', '?')
    """
    if value is None:
        return "?"
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return str(value)


def file_labels(paths: Sequence[str]) -> list[str]:
    """File names, or whole paths where two files share a name."""
    names = [Path(p).name for p in paths]
    return [p if names.count(n) > 1 else n for p, n in zip(paths, names, strict=True)]


def largest_ratio(layer: Mapping[str, Any]) -> int:
    """The largest participation ratio that the rows and channels of a layer of a report allow."""
    channels = int(layer["channels"])
    return max(channels if layer["rows"] is None else min(layer["rows"] - 1, channels), 1)


def relative_ratio(layer: Mapping[str, Any]) -> float | None:
    """Participation ratio over the largest that the rows and channels allow, in (0, 1]."""
    if layer["participation_ratio"] is None:
        return None
    return float(layer["participation_ratio"] / largest_ratio(layer))


def layer_health(layer: Mapping[str, Any], parameters: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Mean gradient health of a layer's weights; None where none has one."""
    return _mean_over_weights(layer, parameters, "health")


def layer_gradient(layer: Mapping[str, Any], parameters: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Mean standard deviation of the gradients of a layer's weights; None where none has one."""
    return _mean_over_weights(layer, parameters, "grad_std")


def _mean_over_weights(
    layer: Mapping[str, Any], parameters: Mapping[str, Mapping[str, Any]], field: str
) -> float | None:
    values = [parameters[name][field] for name in layer["weights"] if name in parameters]
    known = [v for v in values if v is not None]
    return statistics.fmean(known) if known else None
