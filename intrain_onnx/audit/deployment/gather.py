"""Gathers what is known of a deployment. No torch at import."""

from __future__ import annotations

from intrain_onnx.audit.deployment.facts import DeploymentFacts, MemoryFacts
from intrain_onnx.audit.deployment.memory import memory_facts
from intrain_onnx.errors import IntrainError
from intrain_onnx.network.values import name_of
from intrain_onnx.opset import least_versions
from intrain_onnx.rewrites.network import Network


def of_file(network: Network, samples: int) -> DeploymentFacts:
    """What follows from the file and its graph, without running it, for one sample and for several."""
    model = network.loaded.fresh()
    return DeploymentFacts(
        operators=tuple(least_versions.uses(model, name_of)),
        ir_version=network.loaded.ir_version,
        features=tuple(least_versions.features(model, name_of)),
        metadata=dict(model.metadata_props),
        memory=_memory(network, samples),
    )


def _memory(network: Network, samples: int) -> MemoryFacts | None:
    try:
        return memory_facts(network, samples)
    except IntrainError:  # what is measured later ends in the same way, and says so
        return None
