"""Scatter plots of measures against accuracies, with matplotlib, an optional dependency."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from intrain_onnx.bench.measures import Measure
from intrain_onnx.report.document import write_atomically
from intrain_onnx.scores.rank_correlation import Array

_SIDE = 3.1
_PLACE = "MPLCONFIGDIR"


def scatter(path: Path, title: str, shown: Sequence[Measure], truth: Mapping[str, Array]) -> None:
    """Write a figure in the format of the suffix: one row per data set, one column per measure.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    with _no_cache_at_home():
        from matplotlib.figure import Figure  # noqa: PLC0415 - optional, and slow to import

    figure = Figure(figsize=(_SIDE * len(shown), _SIDE * len(truth) + 0.4), layout="constrained")
    axes = figure.subplots(len(truth), len(shown), squeeze=False)
    for row, (name, y) in zip(axes, truth.items(), strict=True):
        for axis, measure in zip(row, shown, strict=True):
            axis.scatter(
                measure.values, y, s=6, alpha=0.5, color="#0072b2", edgecolors="none", rasterized=True
            )
            axis.set_xlabel(f"{measure.group}: {measure.name}", fontsize=8)
            axis.tick_params(labelsize=7)
            axis.spines[["top", "right"]].set_visible(False)
        row[0].set_ylabel(f"{name}: test accuracy, %", fontsize=8)
    figure.suptitle(title, fontsize=10)
    kind = path.suffix.removeprefix(".")
    drawn = io.BytesIO()
    figure.savefig(drawn, format=kind, dpi=150, metadata={"Date": None} if kind == "svg" else None)
    write_atomically(path, drawn.getvalue())


@contextmanager
def _no_cache_at_home() -> Iterator[None]:
    """Have matplotlib write its list of fonts, as it does when it is imported, where it is thrown away."""
    before = os.environ.get(_PLACE)
    with tempfile.TemporaryDirectory() as folder:
        os.environ[_PLACE] = folder
        try:
            yield
        finally:
            os.environ.pop(_PLACE)
            if before is not None:
                os.environ[_PLACE] = before
