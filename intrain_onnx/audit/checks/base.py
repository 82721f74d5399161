"""Types of an audit check. Imports no other audit module: a policy needs the table, but no evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence, Need

Severity = Literal["error", "warning", "note"]
Place = Literal["layer", "node", "weight", "operator", "file", "waiver", "model"]
SEVERITIES: tuple[Severity, ...] = get_args(Severity)
"""Most severe first."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of a check that a policy may set: subclasses have a field for each threshold or switch.

    Type, range and help are in the field's annotation (see `fields`). ``false`` in the policy removes the
    limit of a number that may be None.
    """


@dataclass(frozen=True, slots=True)
class Found:
    """A finding at one place, before the policy assigns a severity.

    Attributes:
        message: what is wrong, with figures.
        place: layer, node, initializer or operator; None for the whole model.
        kind: of the place.
        measured: value that crossed the threshold.
        threshold: value that it is compared with.
    """

    message: str
    place: str | None = None
    kind: Place = "model"
    measured: float | None = None
    threshold: float | None = None


O = TypeVar("O", bound=Options)  # noqa: E741 - the options of one check


def nothing(evidence: Evidence, options: Options) -> Iterable[Found]:
    """The run function of checks whose findings the runner makes."""
    return ()


@dataclass(frozen=True, slots=True)
class Check(Generic[O]):
    """One entry of the table.

    Attributes:
        id: its name in policies and reports.
        title: short description of what it looks for.
        severity: default severity.
        explanation: what is measured and why it matters.
        remedy: what to do about a finding.
        needs: parts of the evidence that it requires. If one is missing, the check is reported as not checked
            instead of passed.
        run: yields the findings; `nothing` if the runner makes them.
        options: class of its thresholds and switches.
        refined_by: optional parts that suppress findings: without them it reports more, never less.
        of_run: its findings are of all models of a run together, and of none alone.
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
    of_run: bool = False
