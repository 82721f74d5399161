"""Input of the checks: both reports, the static pass, weight statistics, activation ranges, baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from intrain_onnx.audit.deployment.facts import DeploymentFacts
from intrain_onnx.audit.facts import FileFacts, PrecisionFacts, RangeFacts, WeightFacts
from intrain_onnx.diff.rows import Document
from intrain_onnx.report import rows
from intrain_onnx.report.document import Report

_SETTINGS = ("protocol", "weights", "batch_norm", "calibrate", "live_layers_only", "health_over", "eps")
_FED = ("samples", "inputs_fed", "seed", "seeds")

Need = Literal[
    "checkpoint",
    "architecture",
    "ranges",
    "parity",
    "parity_verdict",
    "baseline",
    "rescored",
    "comparable",
    "reference",
    "precision",
]
"""Parts of the evidence that may be missing: names of its attributes, which are None then."""


@dataclass(frozen=True)
class Failure:
    """A measurement that raised an error, with the error's message and place."""

    kind: str
    message: str
    node: str | None
    op: str | None


@dataclass(frozen=True)
class Evidence:
    """Everything that a check may read.

    Attributes:
        path: of the model, as given.
        deploy: element type that the model will run in.
        model: the ``model`` part of a report.
        file: facts of the file and its graph.
        weights: statistics by initializer.
        ranges: activation ranges of one forward pass; None if it failed.
        reports: by protocol, for each one that could be scored.
        failures: keyed by ``checkpoint``, ``architecture`` and ``ranges``.
        baseline: an earlier report of the same model, under either protocol.
        reference: the comparison with another file of the same network; None if none was given.
        precision: what the type costs that it is deployed in; None for float32.
        deployment: what a runtime needs for it.
    """

    path: str
    deploy: str
    model: rows.Model
    file: FileFacts
    weights: Mapping[str, WeightFacts]
    ranges: RangeFacts | None = None
    reports: Mapping[str, Report] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)
    baseline: Report | None = None
    reference: Document | None = None
    precision: PrecisionFacts | None = None
    deployment: DeploymentFacts = field(default_factory=DeploymentFacts)

    @property
    def checkpoint(self) -> rows.Document | None:
        """The report on the checkpoint's weights."""
        return self._document("checkpoint")

    @property
    def architecture(self) -> rows.Document | None:
        """The report on the architecture at initialisation."""
        return self._document("architecture")

    def _document(self, protocol: str) -> rows.Document | None:
        report = self.reports.get(protocol)
        return report.document if report is not None else None

    @property
    def parity(self) -> rows.Parity | None:
        """Result of comparing the checkpoint with onnxruntime; None if not compared."""
        return self.checkpoint.parity if self.checkpoint is not None else None

    @property
    def parity_verdict(self) -> rows.Parity | None:
        """The same; None also if it has no verdict, as onnxruntime could not run the model."""
        return self.parity if self.parity is not None and self.parity.ok is not None else None

    @property
    def rescored(self) -> Report | None:
        """The new report under the baseline's protocol; None without a baseline or such a report."""
        return (
            self.reports.get(self.baseline.document.settings.protocol) if self.baseline is not None else None
        )

    @property
    def other_settings(self) -> list[str]:
        """Names of the settings, inputs and seeds in which the baseline and the new report differ."""
        if self.baseline is None or self.rescored is None:
            return []
        old, new = self.baseline.document.settings, self.rescored.document.settings
        return [name for name in (*_SETTINGS, *_FED) if _compared(old, name) != _compared(new, name)]

    @property
    def comparable(self) -> tuple[rows.Score, rows.Score] | None:
        """The scores of the baseline and of the new report; None unless their settings agree."""
        if self.baseline is None or self.rescored is None or self.other_settings:
            return None
        return self.baseline.document.score, self.rescored.document.score

    def lacks(self, need: Need) -> bool:
        """Whether a part of the evidence is missing."""
        return need in self.failures or getattr(self, need) is None


def _compared(settings: rows.Settings, name: str) -> object:
    """A setting; of fed inputs everything but their source."""
    if name != "inputs_fed":
        return getattr(settings, name)
    return [msgspec.structs.replace(row, source="synthetic") for row in settings.inputs_fed]
