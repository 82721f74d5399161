"""Numbers that the checks of a deployment read. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from intrain_onnx.opset.least_versions import Feature, Use


@dataclass(frozen=True, slots=True)
class Peak:
    """The most bytes of activations that are alive at once, and the node that runs then."""

    bytes: int
    node: str
    op: str


@dataclass(frozen=True, slots=True)
class MemoryFacts:
    """Memory of a forward pass.

    Attributes:
        weights: bytes of all tensors in the file.
        sample: peak of the activations for one sample, or for as many as the file fixes.
        single: how many these are.
        batch: peak for the samples of a run.
        samples: how many these are.
        unknown: number of values whose shapes are not known: they count as nothing.
    """

    weights: int
    sample: Peak
    single: int
    batch: Peak
    samples: int
    unknown: int


@dataclass(frozen=True)
class DeploymentFacts:
    """What a runtime needs to load and run the file, and what the file says of its origin.

    Attributes:
        operators: versions of the operators that the nodes have.
        ir_version: of the file.
        features: what it uses of the format, newest first.
        metadata: its ``metadata_props``.
        memory: of a forward pass; None if it is not known.
    """

    operators: tuple[Use, ...] = ()
    ir_version: int = 0
    features: tuple[Feature, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    memory: MemoryFacts | None = None

    @property
    def least_ir_version(self) -> int:
        """The lowest IR version that has all of it."""
        return max((feature.version for feature in self.features), default=0)
