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


@dataclass(frozen=True, slots=True)
class Placed:
    """A node as onnxruntime runs it.

    Attributes:
        provider: that runs it.
        name: of the node; onnxruntime's own after a fusion.
        op: operator.
        file_node: the node of the file that gives the same value; None if none does.
        sizes: it only computes sizes.
    """

    provider: str
    name: str
    op: str
    file_node: str | None
    sizes: bool


@dataclass(frozen=True)
class AssignmentFacts:
    """Which execution provider of onnxruntime runs which node.

    Attributes:
        asked: for these providers, in order.
        available: in the installed onnxruntime.
        used: by the session.
        nodes: how many each of them runs.
        fallen: nodes on the CPU, if another provider was asked for first.
        untraced: number of nodes that no node of the file stands for.
        error: why there is no session; empty if there is one.
    """

    asked: tuple[str, ...]
    available: tuple[str, ...] = ()
    used: tuple[str, ...] = ()
    nodes: Mapping[str, int] = field(default_factory=dict)
    fallen: tuple[Placed, ...] = ()
    untraced: int = 0
    error: str = ""


@dataclass(frozen=True, slots=True)
class LatencyFacts:
    """How long a run takes in onnxruntime, in milliseconds, with all of a session's optimisations.

    Attributes:
        samples: of a run.
        threads: for one operator.
        provider: the first that the session uses.
        runs: that were timed, after a warm-up.
        median: of them.
        low: first quartile.
        high: third quartile.
        error: why nothing was timed; empty if it was.
    """

    samples: int
    threads: int
    provider: str = ""
    runs: int = 0
    median: float = 0.0
    low: float = 0.0
    high: float = 0.0
    error: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """A file and why its signature does not verify it; empty if it does."""

    file: str
    refused: str


@dataclass(frozen=True, slots=True)
class SignatureFacts:
    """Signatures of a model and of its external data.

    Attributes:
        by: files of the key, or of the certificates, that are trusted.
        files: the model first.
    """

    by: tuple[str, ...]
    files: tuple[Verified, ...]


@dataclass(frozen=True)
class DeploymentFacts:
    """What a runtime needs to load and run the file, and what the file says of its origin.

    Attributes:
        operators: versions of the operators that the nodes have.
        ir_version: of the file.
        features: what it uses of the format, newest first.
        metadata: its ``metadata_props``.
        memory: of a forward pass; None if it is not known.
        assignment: None if no provider is asked for.
        latency: None if it is not asked for.
        signature: None if no key is given.
    """

    operators: tuple[Use, ...] = ()
    ir_version: int = 0
    features: tuple[Feature, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    memory: MemoryFacts | None = None
    assignment: AssignmentFacts | None = None
    latency: LatencyFacts | None = None
    signature: SignatureFacts | None = None

    @property
    def least_ir_version(self) -> int:
        """The lowest IR version that has all of it."""
        return max((feature.version for feature in self.features), default=0)
