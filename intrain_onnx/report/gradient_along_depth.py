"""The report's row of the gradient along depth: where it explodes or dies, and what lies behind."""

from __future__ import annotations

import statistics

from intrain_onnx.report import rows
from intrain_onnx.report.document import number
from intrain_onnx.scores.scoring import Run, Score
from intrain_onnx.scores.variants import excess, reach, tolerated


def gradient_along_depth(result: Score) -> rows.GradientAlongDepth:
    """The row, of the run whose gradient strays most; every path crosses a cut, so the worst one decides."""
    worst = min(result.runs, key=lambda run: reach(run.values))
    cuts = _cuts(result, worst)
    name, depth, sensitivity = max(
        cuts, key=lambda cut: (excess(worst.values, cut[2]), abs(cut[2])), default=(None, None, None)
    )
    beyond = [cut for cut in cuts if excess(worst.values, cut[2])]
    lost_at, lost_at_depth, _ = max(beyond, key=lambda cut: cut[1], default=(None, None, None))
    behind = [
        s for s in result.layers if s.counted and lost_at_depth is not None and s.layer.depth <= lost_at_depth
    ]
    return rows.GradientAlongDepth(
        reach=number(statistics.fmean(reach(run.values) for run in result.runs)) or 0.0,
        tolerance=tolerated(worst.values, sensitivity or 0.0),
        direction="even" if not beyond else "explodes" if (sensitivity or 0.0) > 0 else "dies",
        value=name,
        depth=depth,
        log_sensitivity=number(sensitivity),
        lost_at=lost_at,
        lost_at_depth=lost_at_depth,
        layers_behind=len(behind),
    )


def _cuts(result: Score, run: Run) -> list[tuple[str, int, float]]:
    """Name, depth and log sensitivity of each cut of a run that has one."""
    return [
        (score.point.value, score.point.depth, value.sensitivity)
        for score, value in zip(result.points, run.values.points, strict=True)
        if value.cut and value.sensitivity is not None
    ]
