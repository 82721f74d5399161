"""The row of a model: what is stored, and what tables and the page show."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from msgspec import Struct

from intrain_onnx.engine.outcomes import Lost as LostProcess
from intrain_onnx.engine.retries import TRIES
from intrain_onnx.failure import Failure
from intrain_onnx.jobs import failure_of
from intrain_onnx.report.context.inputs import in_words
from intrain_onnx.report.document import Report
from intrain_onnx.report.rows import Document

FORMAT = "intrain-onnx rank 1"
Status = Literal["scored", "failed", "quarantined"]
"""A quarantined model took its process down as often as it is tried."""


class Error(Struct, frozen=True):
    """Why a model has no score.

    Attributes:
        kind: class of the error, or reason of the loss of its process.
        message: one line.
        exit_code: of ``score`` for it.
        node: name of the ONNX node.
        op: its operator.
    """

    kind: str
    message: str
    exit_code: int
    node: str | None = None
    op: str | None = None


class Score(Struct, frozen=True):
    """Mean over the seeds, and its standard error (null for one seed)."""

    value: float
    standard_error: float | None


class Row(Struct, frozen=True, kw_only=True):
    """One model.

    Attributes:
        model: path or address, as given.
        status: whether it has a score.
        sha256: of the file; null if it could not be read.
        external_sha256: of its external data, by location.
        source_version: what a remote store says of this version of the file; null for a local one.
        same_as: the model whose identical file was scored instead.
        given: other columns of the manifest.
        error: why there is no score.
        scores: the named scores; ``volume`` leads.
        baselines: what a score has to beat.
        proxies: parts of peers' proxies.
        kind: of network; scores of different kinds cannot be compared.
        layers: that count.
        coverage: share of the weights that are in layers that were recognised.
        warnings: their codes.
        parity: ok, differs or not compared with onnxruntime; null if it was not asked for.
        device: that measured it.
        threads: CPU threads; reductions differ with them.
        attempts: processes that it took.
        seconds: wall-clock time of the score.
        inputs: what the network reads, in words; null in logs of earlier versions.
    """

    model: str
    status: Status
    sha256: str | None = None
    external_sha256: Mapping[str, str] = {}
    source_version: str | None = None
    same_as: str | None = None
    given: Mapping[str, str] = {}
    error: Error | None = None
    scores: Mapping[str, Score] = {}
    baselines: Mapping[str, int | float | None] = {}
    proxies: Mapping[str, float | None] = {}
    kind: str | None = None
    layers: int | None = None
    coverage: float | None = None
    warnings: tuple[str, ...] = ()
    parity: str | None = None
    device: str | None = None
    threads: int | None = None
    attempts: int = 1
    seconds: float | None = None
    inputs: str | None = None

    def measured(self) -> dict[str, Any]:
        """All but timings and attempts, as JSON values: the same for every engine."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return {name: value for name, value in found.items() if name not in ("seconds", "attempts")}

    def value(self, name: str) -> float | None:
        """A score, baseline or proxy part by name; None if it has none."""
        if name in self.scores:
            return self.scores[name].value
        return self.baselines.get(name, self.proxies.get(name))


class Lost(Struct, frozen=True):
    """A process that a model took down, and that is tried again."""

    model: str
    sha256: str | None
    reason: str


def of_report(model: str, given: Mapping[str, str], report: Report, seconds: float | None) -> Row:
    """The row of a scored model."""
    document: Document = report.document
    return Row(
        model=model,
        status="scored",
        sha256=document.model.sha256,
        external_sha256=document.model.external_sha256,
        given=given,
        scores={name: Score(row.value, row.standard_error) for name, row in document.scores.items()},
        baselines=document.baselines,
        proxies={part: v for row in document.proxies.values() for part, v in row.values.items()},
        kind=document.kind,
        layers=document.score.layers,
        coverage=document.coverage.share,
        warnings=tuple(warning.code for warning in document.warnings),
        parity=_parity(document),
        device=document.environment.device,
        threads=document.environment.threads,
        seconds=None if seconds is None else round(seconds, 3),
        inputs=in_words(document.settings.inputs_fed),
    )


def _parity(document: Document) -> str | None:
    if document.parity is None:
        return None
    return {True: "ok", False: "differs", None: "not compared"}[document.parity.ok]


def of_failure(
    model: str, given: Mapping[str, str], failure: Failure, sha256: str | None, *, quarantined: bool = False
) -> Row:
    """The row of a model without a score."""
    error = Error(failure.kind, failure.message, failure.exit_code, failure.node, failure.op)
    status: Status = "quarantined" if quarantined else "failed"
    return Row(model=model, status=status, sha256=sha256, given=given, error=error)


def of_loss(model: str, given: Mapping[str, str], lost: LostProcess, sha256: str | None) -> Row:
    """The row of a model that took its process down: as often as it is tried, if the cause may pass."""
    failure = failure_of(lost, model)
    row = of_failure(model, given, failure, sha256, quarantined=lost.may_pass)
    return msgspec.structs.replace(row, attempts=TRIES if lost.may_pass else 1)
