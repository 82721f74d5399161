"""What checks read: both reports, the static pass, weights, ranges and the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from intrain_onnx.audit.facts import FileFacts, RangeFacts, WeightFacts

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

    @property
    def parity(self) -> Mapping[str, Any] | None:
        """How the comparison of the checkpoint with onnxruntime went; None where none was tried."""
        return self.checkpoint["parity"] if self.checkpoint is not None else None

    @property
    def parity_verdict(self) -> Mapping[str, Any] | None:
        """The same; None also where onnxruntime could not run the model."""
        return self.parity if self.parity is not None and self.parity["ok"] is not None else None

    @property
    def rescored(self) -> Mapping[str, Any] | None:
        """The new report under the baseline's protocol."""
        return self.reports.get(self.baseline["settings"]["protocol"]) if self.baseline is not None else None

    @property
    def other_settings(self) -> list[str]:
        """Settings, inputs and seeds in which the baseline and the new report differ."""
        old, new = self.baseline, self.rescored
        if old is None or new is None:
            return []
        return [n for n in (*_SETTINGS, *_FED) if old["settings"].get(n) != new["settings"].get(n)]

    @property
    def comparable(self) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """The baseline and the new report, where their scores mean the same."""
        old, new = self.baseline, self.rescored
        return (old, new) if old is not None and new is not None and not self.other_settings else None

    def lacks(self, need: Need) -> bool:
        """Whether that part was not measured."""
        return need in self.failures or getattr(self, need) is None
