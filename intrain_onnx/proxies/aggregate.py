"""Rank aggregation of several proxy values over a population: sums of log ranks. No torch.

AZ-NAS (Lee and Ham, CVPR 2024) sums up the logarithms of the ranks of its four values; VKDNW (Tybl and
Neumann, CVPR 2025) those of its single score, Jacov, AZ-NAS's expressivity and trainability, and FLOPs.
Rank 1 is the worst, ties share their mean rank, and ranks are divided by the size of the population. Higher
is better.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

AGGREGATES: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "az_nas": (
            "az_nas_expressivity",
            "az_nas_progressivity",
            "az_nas_trainability",
            "az_nas_complexity",
        ),
        "vkdnw": ("vkdnw", "jacov", "az_nas_expressivity", "az_nas_trainability", "flops"),
    }
)
"""The values that each aggregate combines; higher is better for all of them."""


def aggregate(name: str, population: Sequence[Mapping[str, float | None]]) -> list[float | None]:
    """An aggregate for each network of a population: sum over its values of log(rank / number of networks).

    None for a network that lacks one of the values; it is not ranked.

    >>> values = [{"vkdnw": v, "jacov": v, "az_nas_expressivity": v, "az_nas_trainability": v, "flops": v}
    ...           for v in (1.0, 3.0, None)]
    >>> [a if a is None else round(a, 3) for a in aggregate("vkdnw", values)]
    [-3.466, 0.0, None]
    """
    parts = AGGREGATES[name]
    rows = [[row.get(part) for part in parts] for row in population]
    complete = [[v for v in row if v is not None] for row in rows]
    ranked = [i for i, row in enumerate(complete) if len(row) == len(parts)]
    columns = [ranks([complete[i][k] for i in ranked]) for k in range(len(parts))]
    sums = {i: math.fsum(math.log(c[n] / len(ranked)) for c in columns) for n, i in enumerate(ranked)}
    return [sums.get(i) for i in range(len(rows))]


def ranks(values: Sequence[float]) -> list[float]:
    """Fractional ranks, 1 for the least; ties share their mean rank.

    >>> ranks([5.0, 1.0, 5.0])
    [2.5, 1.0, 2.5]
    """
    order = sorted(range(len(values)), key=values.__getitem__)
    found = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for index in order[start:end]:
            found[index] = (start + 1 + end) / 2
        start = end
    return found
