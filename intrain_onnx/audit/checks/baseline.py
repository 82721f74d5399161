"""Checks against an earlier report of the same model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from scipy.special import stdtr

from intrain_onnx.audit.checks.base import Check, Found, Options
from intrain_onnx.audit.fields import limit
from intrain_onnx.report.comparison import compare, network_of_report
from intrain_onnx.report.rows import Score

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence


def _settings(evidence: Evidence, options: Options) -> Iterator[Found]:
    if evidence.baseline is None:
        return
    protocol = evidence.baseline.document.settings.protocol
    if evidence.rescored is None:
        yield Found(f"the baseline is of the protocol {protocol!r}, of which there is no new report")
    elif evidence.other_settings:
        differ = ", ".join(evidence.other_settings)
        yield Found(f"scores are not compared: the baseline has another {differ}")


def _changed(evidence: Evidence, options: Options) -> Iterator[Found]:
    old, new = evidence.baseline, evidence.rescored
    if old is None or new is None:
        return
    found = compare(network_of_report(old), network_of_report(new))
    if found.same:
        return
    old_row, new_row = found.rows[found.first_difference or 0]
    row = new_row or old_row
    counts = [sum(pair[side] is not None for pair in found.rows) for side in (0, 1)]
    where = (
        "a layer that is new" if old_row is None else "a layer that is gone" if new_row is None else "a layer"
    )
    message = f"{counts[0]} canonical layers became {counts[1]}; the first difference is {where}"
    yield Found(message, row.name if row is not None else None, "layer")


@dataclass(frozen=True, slots=True)
class _ScoreRegression(Options):
    max_drop: Annotated[float, limit("largest relative drop", 0, 1)] = 0.05
    max_probability: Annotated[float, limit("largest chance of the drop by seeds alone", 0, 1)] = 0.05


def _regression(evidence: Evidence, options: _ScoreRegression) -> Iterator[Found]:
    if evidence.comparable is None:
        return
    old, new = evidence.comparable
    before, after = old.intrain, new.intrain
    drop = (before - after) / abs(before) if before else 0.0
    if drop <= options.max_drop:
        return
    probability = drop_by_chance(old, new)
    if probability is not None and probability > options.max_probability:
        return
    chance = "" if probability is None else f" (chance of such a drop by the seeds alone: {probability:.2g})"
    yield Found(
        f"InTrain fell from {before:.4g} to {after:.4g}, by {drop:.1%}{chance}",
        None,
        "model",
        drop,
        options.max_drop,
    )


def drop_by_chance(old: Score, new: Score) -> float | None:
    """p-value of the drop in mean score: a one-sided paired t test over common seeds.

    Runs of a seed use the same inputs and labels, so their differences vary less than the scores. None with
    fewer than two common seeds; without variance, 0 for a drop and 1 otherwise.
    """
    by_seed = {run.seed: run.intrain for run in old.runs}
    drops = [by_seed[run.seed] - run.intrain for run in new.runs if run.seed in by_seed]
    if len(drops) < 2:
        return None
    mean = math.fsum(drops) / len(drops)
    variance = math.fsum((d - mean) ** 2 for d in drops) / (len(drops) - 1)
    if variance == 0.0:
        return 0.0 if mean > 0 else 1.0
    return float(stdtr(len(drops) - 1, -mean / math.sqrt(variance / len(drops))))


CHECKS = (
    Check(
        "baseline-settings",
        "A baseline that cannot be compared",
        "warning",
        "Scores are comparable only at equal settings, inputs and seeds. The audit takes them over from the "
        "baseline; what it cannot take over is reported, and the scores are not compared.",
        "Make the baseline again with this version: `intrain-onnx score MODEL --protocol checkpoint -o "
        "FILE`.",
        needs=("baseline",),
        run=_settings,
        refined_by=("rescored",),
    ),
    Check(
        "architecture-changed",
        "Another architecture than the baseline's",
        "error",
        "The canonical layers of the model and of the baseline differ in number, shape, strides, groups or "
        "in what comes before and after them. Names, node order and the exporter do not matter.",
        "If the change is meant, make a new baseline: `intrain-onnx score MODEL --protocol checkpoint -o "
        "FILE`. `intrain-onnx compare --reports BASELINE FILE` shows the first difference, with `--all` "
        "every layer.",
        needs=("baseline", "rescored"),
        run=_changed,
    ),
    Check(
        "score-regression",
        "A lower score than the baseline's",
        "error",
        "The InTrain score fell by more than `max_drop`, and by more than the seeds explain: a one-sided "
        "paired t test over the seeds, which use the same noise and labels in both.",
        "Score the model as the baseline was, `intrain-onnx score MODEL --protocol checkpoint -o FILE`; then "
        "`intrain-onnx compare --reports BASELINE FILE` lists the layers that moved most.",
        needs=("comparable",),
        run=_regression,
        options=_ScoreRegression,
    ),
)
