"""What checks read: both reports, the static pass, weights, ranges and the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from intrain_onnx.audit.facts import FileFacts, RangeFacts, WeightFacts


@dataclass(frozen=True)
class Failure:
    """A measurement that could not be made, as the error said it."""

    kind: str
    message: str
    node: str | None
    op: str | None


@dataclass(frozen=True)
class Evidence:
    """Everything that a check may read.

    Attributes:
        path: of the model, as it was given.
        deploy: element type that the model will run in.
        model: the ``model`` part of a report.
        file: what the file tells.
        weights: by initializer.
        ranges: of the forward pass; None where it failed.
        reports: the report of each protocol that could be scored.
        failures: by ``checkpoint``, ``architecture`` and ``ranges``.
        baseline: an earlier report of the same model, of either protocol.
    """

    path: str
    deploy: str
    model: Mapping[str, Any]
    file: FileFacts
    weights: Mapping[str, WeightFacts]
    ranges: RangeFacts | None = None
    reports: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)
    baseline: Mapping[str, Any] | None = None

    @property
    def checkpoint(self) -> Mapping[str, Any] | None:
        """The report of the checkpoint."""
        return self.reports.get("checkpoint")

    @property
    def architecture(self) -> Mapping[str, Any] | None:
        """The report of its architecture at initialisation."""
        return self.reports.get("architecture")
