"""Gathers what is known of a deployment. No torch at import."""

from __future__ import annotations

from dataclasses import replace

from intrain_onnx.audit.checks.deployment import Latency, Signature
from intrain_onnx.audit.deployment.assignment import assignment_facts
from intrain_onnx.audit.deployment.facts import DeploymentFacts, MemoryFacts, SignatureFacts
from intrain_onnx.audit.deployment.memory import memory_facts
from intrain_onnx.audit.deployment.signature import signature_facts
from intrain_onnx.audit.policy import Policy, Rule
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.loading.load import LoadedModel
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


def in_onnxruntime(
    network: Network, facts: DeploymentFacts, config: ScoreConfig, policy: Policy
) -> DeploymentFacts:
    """The facts with those of onnxruntime's sessions that a policy asks for.

    Args:
        network: its file is run.
        facts: what is known without.
        config: of the checkpoint's measurement.
        policy: providers, and the limits of the checks that read these facts.
    """
    facts = replace(facts, signature=_signature(network.loaded, policy.rules["signature"]))
    providers = policy.run.providers
    if providers:
        asked = assignment_facts(network.loaded, providers, config.threads or 1)
        facts = replace(facts, assignment=asked)
    rule = policy.rules["latency"]
    options = rule.options
    if rule.severity == "off" or not isinstance(options, Latency) or options.max_ms is None:
        return facts
    from intrain_onnx.audit.deployment.latency import latency_facts  # noqa: PLC0415 - torch waits for it

    samples = config.batch if options.whole_batch else 1
    return replace(
        facts,
        latency=latency_facts(network, config, providers, samples=samples, runs=options.runs),
    )


def _signature(loaded: LoadedModel, rule: Rule) -> SignatureFacts | None:
    options = rule.options
    wanted = isinstance(options, Signature) and (options.key or options.certificates)
    if rule.severity == "off" or not wanted or loaded.path is None:
        return None
    assert isinstance(options, Signature)
    external = [file.location for file in loaded.external]
    return signature_facts(loaded.path, external, key=options.key, certificates=options.certificates)


def _memory(network: Network, samples: int) -> MemoryFacts | None:
    try:
        return memory_facts(network, samples)
    except IntrainError:  # what is measured later ends in the same way, and says so
        return None
