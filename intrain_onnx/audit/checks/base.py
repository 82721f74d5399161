"""What a check is. Imports no other audit module, so that the policy reads the table without evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence, Need

Severity = Literal["error", "warning", "note"]
Place = Literal["layer", "node", "weight", "operator", "file", "waiver", "model"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""From the gravest."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a policy may set of a check: a subclass has a field for each threshold or switch.

    Its type, range and help stand in its annotation (see `fields`). ``false`` in the policy takes away the
    limit of a number that may be None.
    """


@dataclass(frozen=True, slots=True)
class Found:
    """What one check found at one place, before the policy gives it a severity.

    Attributes:
        message: what is wrong, with figures.
        place: layer, node, initializer or operator; None for the whole model.
        kind: what ``place`` is.
        measured: the figure that crossed the threshold.
        threshold: that threshold.
    """

    message: str
    place: str | None = None
    kind: Place = "model"
    measured: float | None = None
    threshold: float | None = None


O = TypeVar("O", bound=Options)  # noqa: E741 - the options of one check


def nothing(evidence: Evidence, options: Options) -> Iterable[Found]:
    """For checks whose findings come from elsewhere: the runner makes them."""
    return ()


@dataclass(frozen=True, slots=True)
class Check(Generic[O]):
    """One entry of the table.

    Attributes:
        id: its name in policies and reports.
        title: what it looks for, in a few words.
        severity: by default.
        explanation: what is measured and why it matters.
        remedy: what to do about a finding.
        needs: the parts of the evidence that it reads. Where one is missing it could not look: it is reported
            as not checked, and not as passed.
        run: finds; `nothing` where the runner makes the findings.
        options: its thresholds and switches.
        refined_by: parts that it reads where they are there, to withhold findings: without them it finds
            more, never less.
    """

    id: str
    title: str
    severity: Severity
    explanation: str
    remedy: str
    _: KW_ONLY
    needs: tuple[Need, ...]
    run: Callable[[Evidence, O], Iterable[Found]]
    options: type[O] = Options  # type: ignore[assignment] # a test holds the annotation of `run` against it
    refined_by: tuple[Need, ...] = ()
