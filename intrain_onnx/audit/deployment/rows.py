"""What is known of a deployment as typed rows of the audit's document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from msgspec import Meta

from intrain_onnx.audit.deployment.facts import (
    AssignmentFacts,
    DeploymentFacts,
    LatencyFacts,
    MemoryFacts,
    SignatureFacts,
)
from intrain_onnx.errors import printable
from intrain_onnx.opset.least_versions import needing_most
from intrain_onnx.report.rows.types import Count, Magnitude, Row

_MOST = 1000
"""Nodes that are listed."""


class OpsetRow(Row, frozen=True):
    """One domain of operators: the opset that is imported, and the lowest with the same schemas."""

    domain: str
    imported: int
    least: Annotated[
        int | None, Meta(description="Null where the schema of one of its operators is not known.")
    ]
    operator: Annotated[str | None, Meta(description="An operator that needs it.")]
    node: Annotated[str | None, Meta(description="The first node of that operator.")]


class FeatureRow(Row, frozen=True):
    """Something in the file that an IR version brought."""

    version: int
    what: str
    place: str


class PeakRow(Row, frozen=True):
    """The most bytes of activations that are alive at once, and where."""

    samples: Count
    bytes: Count
    node: str


class MemoryRow(Row, frozen=True):
    """Memory of a forward pass, by a liveness pass over the nodes in the order of the file."""

    weights: Annotated[Count, Meta(description="Bytes of all tensors in the file.")]
    sample: PeakRow
    batch: PeakRow
    unknown: Annotated[Count, Meta(description="Values of unknown shapes, which count as nothing.")]


class PlacedRow(Row, frozen=True):
    """A node that runs on the CPU, where another provider was asked for first."""

    name: str
    op: str
    node: Annotated[str | None, Meta(description="Of the file; null where none stands for it.")]
    sizes: Annotated[bool, Meta(description="It only computes sizes.")]


class AssignmentRow(Row, frozen=True):
    """Which execution provider of onnxruntime runs which node."""

    asked: tuple[str, ...]
    available: tuple[str, ...]
    used: tuple[str, ...]
    nodes: Annotated[Mapping[str, int], Meta(description="Number of nodes of each provider.")]
    fallen: tuple[PlacedRow, ...]
    untraced: Annotated[Count, Meta(description="Nodes that no node of the file stands for.")]
    error: str | None


class LatencyRow(Row, frozen=True):
    """Wall-clock time of a run in onnxruntime; differs from run to run."""

    samples: Count
    threads: Count
    provider: str | None
    runs: Count
    median_ms: Magnitude
    first_quartile_ms: Magnitude
    third_quartile_ms: Magnitude
    error: str | None


class SignedRow(Row, frozen=True):
    """A file, and whether a signature beside it verifies it."""

    file: str
    verified: bool
    reason: str | None


class DeploymentRow(Row, frozen=True):
    """What a runtime needs for the file."""

    opsets: tuple[OpsetRow, ...]
    ir_version: Count
    least_ir_version: Annotated[Count, Meta(description="The lowest that has all features.")]
    features: Annotated[tuple[FeatureRow, ...], Meta(description="Newest first.")]
    memory: Annotated[MemoryRow | None, Meta(description="Null where it is not known.")]
    assignment: Annotated[AssignmentRow | None, Meta(description="Null if no provider is asked for.")]
    latency: Annotated[LatencyRow | None, Meta(description="Null if it is not measured.")]
    signatures: Annotated[
        tuple[SignedRow, ...], Meta(description="Of the model and its external data; none without a key.")
    ]


def row(facts: DeploymentFacts) -> DeploymentRow:
    """The row of the facts."""
    return DeploymentRow(
        opsets=_opsets(facts),
        ir_version=facts.ir_version,
        least_ir_version=facts.least_ir_version,
        features=tuple(FeatureRow(f.version, f.what, printable(f.place, 500)) for f in facts.features),
        memory=_memory(facts.memory) if facts.memory is not None else None,
        assignment=_assignment(facts.assignment) if facts.assignment is not None else None,
        latency=_latency(facts.latency) if facts.latency is not None else None,
        signatures=_signatures(facts.signature) if facts.signature is not None else (),
    )


def _assignment(told: AssignmentFacts) -> AssignmentRow:
    fallen = [
        PlacedRow(
            printable(node.name, 500),
            node.op,
            printable(node.file_node, 500) if node.file_node is not None else None,
            node.sizes,
        )
        for node in told.fallen[:_MOST]
    ]
    return AssignmentRow(
        asked=told.asked,
        available=told.available,
        used=told.used,
        nodes=told.nodes,
        fallen=tuple(fallen),
        untraced=told.untraced,
        error=told.error or None,
    )


def _signatures(told: SignatureFacts) -> tuple[SignedRow, ...]:
    return tuple(SignedRow(printable(f.file, 500), not f.refused, f.refused or None) for f in told.files)


def _latency(told: LatencyFacts) -> LatencyRow:
    return LatencyRow(
        samples=told.samples,
        threads=told.threads,
        provider=told.provider or None,
        runs=told.runs,
        median_ms=round(told.median, 4),
        first_quartile_ms=round(told.low, 4),
        third_quartile_ms=round(told.high, 4),
        error=told.error or None,
    )


def _memory(memory: MemoryFacts) -> MemoryRow:
    sample, batch = (
        PeakRow(samples, peak.bytes, printable(peak.node, 500))
        for samples, peak in ((memory.single, memory.sample), (memory.samples, memory.batch))
    )
    return MemoryRow(memory.weights, sample, batch, memory.unknown)


def _opsets(facts: DeploymentFacts) -> tuple[OpsetRow, ...]:
    rows = []
    for domain, use in needing_most(facts.operators).items():
        imported = max(u.imported for u in facts.operators if u.domain == domain)
        told = (None, None, None) if use is None else (use.version, use.op, printable(use.node, 500))
        rows.append(OpsetRow(domain or "ai.onnx", imported, *told))
    return tuple(rows)
