"""What a search ends with: the best by one objective, or the front of several."""

from __future__ import annotations

from collections.abc import Sequence

from intrain_onnx.search.goals import Objective
from intrain_onnx.search.rows import Evaluation

Point = Sequence[float]


def front(points: Sequence[Point]) -> list[int]:
    """Indices of the points that no other dominates, of which less is better; of equal ones the first.

    Sorted by value, a point is dominated only by one before it: n log n for two objectives, n times the size
    of the front for more.
    """
    kept: list[int] = []
    for index in sorted(range(len(points)), key=lambda i: (tuple(points[i]), i)):
        point = points[index]
        if not any(all(a <= b for a, b in zip(points[k], point, strict=True)) for k in reversed(kept)):
            kept.append(index)
    return sorted(kept)


def scored(evaluations: Sequence[Evaluation], objectives: Sequence[Objective]) -> list[Evaluation]:
    """Those that have all values, in the order of the search."""
    return [e for e in evaluations if None not in e.losses(objectives)]


def chosen(evaluations: Sequence[Evaluation], objectives: Sequence[Objective], top: int) -> list[Evaluation]:
    """At most ``top``: the best by the only objective, or of the front, evenly along it where it has more."""
    found = scored(evaluations, objectives)
    points = {e.number: [v for v in e.losses(objectives) if v is not None] for e in found}
    ordered = sorted(found, key=lambda e: (points[e.number], e.number))
    if len(objectives) == 1:
        return ordered[:top]
    kept = {found[i].number for i in front([points[e.number] for e in found])}
    ordered = [e for e in ordered if e.number in kept]
    if len(ordered) <= top or top == 1:
        return ordered[:top]
    return [ordered[round(i * (len(ordered) - 1) / (top - 1))] for i in range(top)]
