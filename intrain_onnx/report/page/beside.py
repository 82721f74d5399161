"""What a ranking's page says besides its rows: the score against #Params, and rank correlations."""

from __future__ import annotations

from collections.abc import Sequence

from intrain_onnx.report.context.overlap import HEADER, Overlap, cells, remarks
from intrain_onnx.report.numbers import quantity
from intrain_onnx.report.page import charts
from intrain_onnx.report.page.shown import Beside


def beside(
    by: str, points: Sequence[tuple[float | None, float | None, str]], overlap: Sequence[Overlap], inputs: str
) -> Beside:
    """What a ranking says besides its rows.

    Args:
        by: the value that it is ranked by.
        points: #Params, that value and label of each network; None for what is not known.
        overlap: of the scores with what can be counted.
        inputs: the warning where inputs differ; empty otherwise.
    """
    known = [
        (x, y, f"{label}\n{by} {quantity(y)}, {quantity(x)} #Params") for x, y, label in points if x and y
    ]
    plot = charts.cloud(
        f"{by} against #Params",
        f"{by} of {len(known)} networks against their #Params, on a logarithmic axis.",
        known,
        x_label="#Params, logarithmic",
        y_label=by,
    )
    table = ([*HEADER], cells(overlap)) if overlap else None
    return Beside(inputs, plot, table, remarks(overlap))
