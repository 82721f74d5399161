"""The JSON document of an audit as typed rows; ``audit.schema.json`` is generated from them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal

from msgspec import UNSET, Meta, UnsetType

from intrain_onnx.audit.checks.base import Place, Severity
from intrain_onnx.audit.deployment.rows import DeploymentRow
from intrain_onnx.audit.policy import Deploy, FailOn, Setting
from intrain_onnx.diff.rows import Expected
from intrain_onnx.errors import printable
from intrain_onnx.report.frames.table import Table
from intrain_onnx.report.rows import Tool
from intrain_onnx.report.rows.types import Count, Digest, Magnitude, Row, Share

_Version = Literal["1.2"]
SCHEMA_VERSION: Final[_Version] = "1.2"
Outcome = Literal["passed", "found", "waived", "off", "not_checked"]
_CODES = [0, 1, 2, 3, 4, 6, 70]


class Audited(Row, frozen=True):
    """The file. All but the path are null for a file that could not be loaded."""

    path: Annotated[str, Meta(description="As it was given.")]
    sha256: Digest | None
    bytes: Annotated[Count | None, Meta(description="With external data.")]
    producer: str | None
    opset: int | None
    parameters: Count | None
    macs: Count | None
    layers: Annotated[Count | None, Meta(description="Canonical layers.")]


class HeldAgainst(Row, frozen=True):
    """The policy."""

    source: str
    fail_on: FailOn
    deploy: Deploy
    date: Annotated[datetime.date, Meta(description="That waivers were held against.")]


class Counts(Row, frozen=True):
    """Findings that count, by severity, and those that are waived."""

    error: Count
    warning: Count
    note: Count
    waived: Count


class ScoreRow(Row, frozen=True):
    """The score under one protocol."""

    intrain: float
    std: Magnitude | None
    layers: Count


class Scores(Row, frozen=True):
    """By protocol, those that could be measured."""

    checkpoint: ScoreRow | UnsetType = UNSET
    architecture: ScoreRow | UnsetType = UNSET


class CheckRow(Row, frozen=True):
    """One check as the policy wants it, and what became of it."""

    id: str
    severity: Setting
    outcome: Annotated[Outcome, Meta(description="not_checked: what the check reads was not measured.")]
    options: Mapping[str, Any]


class Waived(Row, frozen=True):
    """Why a finding is accepted, and until when."""

    reason: str
    expires: datetime.date | None


class FindingRow(Row, frozen=True):
    """What a check found at one place."""

    check: str
    severity: Severity
    message: str
    place: Annotated[str | None, Meta(description="Layer, node, initializer, operator or file.")]
    kind: Place
    measured: float | None
    threshold: float | None
    waived: Waived | None


class VariedRow(Row, frozen=True):
    """A further run with other inputs, made where a layer seemed dead."""

    how: str
    inputs: Annotated[tuple[str, ...], Meta(description="Inputs that were varied.")]
    woke: Annotated[tuple[str, ...], Meta(description="Layers that it woke.")]


class ReferenceRow(Row, frozen=True):
    """The file that the model was compared with; `intrain-onnx diff` has the whole comparison."""

    path: str
    sha256: Digest | None
    expect: Expected
    parts_at: Annotated[str | None, Meta(description="First layer of the reference where both part.")]
    output_snr_db: Annotated[
        float | None, Meta(description="Least of all outputs; null where they are equal, or not compared.")
    ]


class PrecisionRow(Row, frozen=True):
    """What the type costs that the model will run in: signal to noise at the outputs, dB."""

    dtype: str
    snr_db: Annotated[
        float | None, Meta(description="All layers rounded; null where nothing differs or it overflows.")
    ]
    not_finite: Annotated[Count, Meta(description="Elements of the outputs.")]
    layers: Annotated[
        dict[str, float | None], Meta(description="One layer rounded alone; null as above. Costliest first.")
    ]
    not_tried: Annotated[Count, Meta(description="Layers that there was no time for.")]
    flushed: Annotated[
        dict[str, Share],
        Meta(description="By layer: largest share of a tensor that becomes zero in half precision."),
    ]


class Audit(Row, frozen=True):
    """One model."""

    model: Audited
    policy: HeldAgainst
    passed: bool
    exit_code: Annotated[int, Meta(extra_json_schema={"enum": _CODES})]
    error: Annotated[str | None, Meta(description="Why the model could not be looked at.")]
    counts: Counts
    scores: Scores
    checks: tuple[CheckRow, ...]
    findings: tuple[FindingRow, ...]
    varied: Annotated[
        tuple[VariedRow, ...], Meta(description="Runs with other inputs; none unless a layer seemed dead.")
    ]
    seconds: Magnitude
    deployment: Annotated[DeploymentRow | None, Meta(description="Null for a file that could not be loaded.")]
    reference: Annotated[ReferenceRow | None, Meta(description="Null where none was given, or it failed.")]
    precision: Annotated[PrecisionRow | None, Meta(description="Null for float32.")]


class RunCheckRow(Row, frozen=True):
    """A check of the run as a whole, and what became of it."""

    id: str
    outcome: Outcome


class Document(Row, frozen=True):
    """All audited models."""

    schema_version: _Version
    tool: Tool
    passed: Annotated[
        bool, Meta(description="All models were audited and passed, and no finding of the run fails.")
    ]
    audits: Annotated[tuple[Audit, ...], Meta(min_length=1)]
    counts: Annotated[Counts, Meta(description="Of all models and of the run.")]
    checks: Annotated[tuple[RunCheckRow, ...], Meta(description="Those of the run: of its waivers.")]
    findings: Annotated[
        tuple[FindingRow, ...], Meta(description="Of the run, and of no model alone: those of its waivers.")
    ]


_LONGEST = 4096
"""Characters of a text in a table."""


def findings_table(found: Sequence[tuple[str, bool, FindingRow]]) -> Table:
    """A row for each finding: ``model``, ``passed``, and its fields, ``waived`` with the reason.

    Args:
        found: path of the model, whether it passed, and the finding; no path for findings of the run.
    """
    fields = FindingRow.__struct_fields__
    columns = {name: [_cell(getattr(row, name)) for _, _, row in found] for name in fields}
    models = [printable(path, _LONGEST) for path, _, _ in found]
    return Table({"model": models, "passed": [passed for _, passed, _ in found], **columns})


def _cell(value: object) -> object:
    """A waiver as its reason; texts are one line."""
    told = value.reason if isinstance(value, Waived) else value
    return printable(told, _LONGEST) if isinstance(told, str) else told
