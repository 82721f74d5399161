"""Scatter plots of measures against accuracies, with matplotlib, an optional dependency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from intrain_onnx.bench.measures import Measure
from intrain_onnx.bench.ranking import Array

_SIDE = 3.1


def scatter(path: Path, title: str, shown: Sequence[Measure], truth: Mapping[str, Array]) -> None:
    """Write a figure in the format of the suffix: one row per data set, one column per measure.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
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
    figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)
