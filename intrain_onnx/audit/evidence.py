"""What checks read: both reports, the static pass, weights, ranges and the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from intrain_onnx.audit.facts import FileFacts, RangeFacts, WeightFacts
from intrain_onnx.report import rows
from intrain_onnx.report.document import Report

_SETTINGS = ("protocol", "weights", "batch_norm", "calibrate", "live_layers_only", "health_over", "eps")
_FED = ("samples", "inputs_fed", "seed", "seeds")

Need = Literal[
    "checkpoint", "architecture", "ranges", "parity", "parity_verdict", "baseline", "rescored", "comparable"
]
"""What may be missing from the evidence: names of its attributes, which are None then."""


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
    model: rows.Model
    file: FileFacts
    weights: Mapping[str, WeightFacts]
    ranges: RangeFacts | None = None
    reports: Mapping[str, Report] = field(default_factory=dict)
    failures: Mapping[str, Failure] = field(default_factory=dict)
    baseline: Report | None = None

    @property
    def checkpoint(self) -> rows.Document | None:
        """The report of the checkpoint."""
        return self._document("checkpoint")

    @property
    def architecture(self) -> rows.Document | None:
        """The report of its architecture at initialisation."""
        return self._document("architecture")

    def _document(self, protocol: str) -> rows.Document | None:
        report = self.reports.get(protocol)
        return report.document if report is not None else None

    @property
    def parity(self) -> rows.Parity | None:
        """How the comparison of the checkpoint with onnxruntime went; None where none was tried."""
        return self.checkpoint.parity if self.checkpoint is not None else None

    @property
    def parity_verdict(self) -> rows.Parity | None:
        """The same; None also where onnxruntime could not run the model."""
        return self.parity if self.parity is not None and self.parity.ok is not None else None

    @property
    def rescored(self) -> Report | None:
        """The new report under the baseline's protocol."""
        return (
            self.reports.get(self.baseline.document.settings.protocol) if self.baseline is not None else None
        )

    @property
    def other_settings(self) -> list[str]:
        """Settings, inputs and seeds in which the baseline and the new report differ."""
        if self.baseline is None or self.rescored is None:
            return []
        old, new = self.baseline.document.settings, self.rescored.document.settings
        return [name for name in (*_SETTINGS, *_FED) if _compared(old, name) != _compared(new, name)]

    @property
    def comparable(self) -> tuple[rows.Score, rows.Score] | None:
        """The scores of the baseline and of the new report, where they mean the same."""
        if self.baseline is None or self.rescored is None or self.other_settings:
            return None
        return self.baseline.document.score, self.rescored.document.score

    def lacks(self, need: Need) -> bool:
        """Whether that part was not measured."""
        return need in self.failures or getattr(self, need) is None


def _compared(settings: rows.Settings, name: str) -> object:
    """A setting; of inputs what they were fed, wherever it came from."""
    if name != "inputs_fed":
        return getattr(settings, name)
    return [msgspec.structs.replace(row, source="synthetic") for row in settings.inputs_fed]
