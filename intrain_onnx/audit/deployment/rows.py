"""What is known of a deployment as typed rows of the audit's document."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from intrain_onnx.audit.deployment.facts import DeploymentFacts, MemoryFacts
from intrain_onnx.errors import printable
from intrain_onnx.opset.least_versions import needing_most
from intrain_onnx.report.rows.types import Count, Row


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


class DeploymentRow(Row, frozen=True):
    """What a runtime needs for the file."""

    opsets: tuple[OpsetRow, ...]
    ir_version: Count
    least_ir_version: Annotated[Count, Meta(description="The lowest that has all features.")]
    features: Annotated[tuple[FeatureRow, ...], Meta(description="Newest first.")]
    memory: Annotated[MemoryRow | None, Meta(description="Null where it is not known.")]


def row(facts: DeploymentFacts) -> DeploymentRow:
    """The row of the facts."""
    return DeploymentRow(
        opsets=_opsets(facts),
        ir_version=facts.ir_version,
        least_ir_version=facts.least_ir_version,
        features=tuple(FeatureRow(f.version, f.what, printable(f.place, 500)) for f in facts.features),
        memory=_memory(facts.memory) if facts.memory is not None else None,
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
