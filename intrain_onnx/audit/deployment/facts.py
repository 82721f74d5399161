"""Numbers that the checks of a deployment read. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from intrain_onnx.opset.least_versions import Feature, Use


@dataclass(frozen=True)
class DeploymentFacts:
    """What a runtime needs to load and run the file, and what the file says of its origin.

    Attributes:
        operators: versions of the operators that the nodes have.
        ir_version: of the file.
        features: what it uses of the format, newest first.
        metadata: its ``metadata_props``.
    """

    operators: tuple[Use, ...] = ()
    ir_version: int = 0
    features: tuple[Feature, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def least_ir_version(self) -> int:
        """The lowest IR version that has all of it."""
        return max((feature.version for feature in self.features), default=0)
