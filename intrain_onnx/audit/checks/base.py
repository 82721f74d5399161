"""What a check is. Imports no other audit module, so that the policy reads the table without evidence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence

SEVERITIES = ("error", "warning", "note")
"""From the gravest."""


@dataclass(frozen=True, slots=True)
class Option:
    """A threshold or a switch of a check.

    Attributes:
        name: in the policy.
        kind: int, float, bool, or list (of strings).
        default: its value; None for no limit.
        help: what it says, in half a sentence.
        low: least value of a number.
        high: largest value of a number.
        may_be_off: ``false`` in the policy takes the limit away.
    """

    name: str
    kind: type
    default: Any
    help: str
    low: float = 0.0
    high: float = math.inf
    may_be_off: bool = False


@dataclass(frozen=True, slots=True)
class Found:
    """What one check found at one place, before the policy gives it a severity.

    Attributes:
        message: what is wrong, with figures.
        place: layer, node, initializer or operator; None for the whole model.
        kind: which of these: layer, node, weight, operator, file, model.
        measured: the figure that crossed the threshold.
        threshold: that threshold.
    """

    message: str
    place: str | None = None
    kind: str = "model"
    measured: float | None = None
    threshold: float | None = None


Run = Callable[["Evidence", Mapping[str, Any]], Iterable[Found]]


def nothing(evidence: Evidence, options: Mapping[str, Any]) -> Iterable[Found]:
    """For checks whose findings come from elsewhere: the runner makes them."""
    return ()


@dataclass(frozen=True, slots=True)
class Check:
    """One entry of the table.

    Attributes:
        id: its name in policies and reports.
        title: what it looks for, in a few words.
        severity: by default.
        explanation: what is measured and why it matters.
        remedy: what to do about a finding.
        run: finds.
        options: thresholds and switches.
    """

    id: str
    title: str
    severity: str
    explanation: str
    remedy: str
    run: Run = nothing
    options: tuple[Option, ...] = ()
