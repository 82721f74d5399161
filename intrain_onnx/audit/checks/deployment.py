"""Checks of where a model will run: versions of the format, memory, time, execution providers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from intrain_onnx.audit.checks.base import Check, Found, Options
from intrain_onnx.audit.deployment.provenance import KEYS, provenance
from intrain_onnx.audit.fields import limit, says

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence

_MB = 1e6


@dataclass(frozen=True, slots=True)
class _OpsetSupport(Options):
    max_opset: Annotated[int, limit("newest opset of the runtime")] | None = None
    max_ir: Annotated[int, limit("newest IR version of the runtime")] | None = None


def _opset_support(evidence: Evidence, options: _OpsetSupport) -> Iterator[Found]:
    if options.max_opset is not None:
        yield from _beyond_opset(evidence, options.max_opset)
    if options.max_ir is not None:
        yield from _beyond_ir(evidence, options.max_ir)


def _beyond_opset(evidence: Evidence, most: int) -> Iterator[Found]:
    uses = [use for use in evidence.deployment.operators if not use.domain]
    beyond = [use for use in uses if use.version is not None and use.version > most]
    for use in beyond:
        others = f", as {use.nodes - 1:,} more" if use.nodes > 1 else ""
        message = f"{use.op} is that of opset {use.version}{others}; the runtime ends at {most}"
        yield Found(message, use.node, "node", use.version, most)
    imported = max((use.imported for use in uses), default=0)
    if not beyond and imported > most:
        message = f"opset {imported} is imported, but no node needs one above {most}: lower the import"
        yield Found(message, None, "model", imported, most)


def _beyond_ir(evidence: Evidence, most: int) -> Iterator[Found]:
    beyond = [feature for feature in evidence.deployment.features if feature.version > most]
    for feature in beyond:
        message = f"{feature.what} came with IR version {feature.version}; the runtime ends at {most}"
        yield Found(
            message, feature.place or None, "node" if feature.place else "model", feature.version, most
        )
    told = evidence.deployment.ir_version
    if not beyond and told > most:
        message = f"IR version {told} is written, but nothing needs one above {most}: lower it"
        yield Found(message, None, "model", told, most)


@dataclass(frozen=True, slots=True)
class _Memory(Options):
    max_mb: Annotated[float, limit("megabytes of 10^6 bytes, weights and activations")] | None = None
    whole_batch: Annotated[bool, says("hold the batch of the run against it, and not one sample")] = False


def _memory(evidence: Evidence, options: _Memory) -> Iterator[Found]:
    if options.max_mb is None:
        return
    memory = evidence.deployment.memory
    if memory is None:
        yield Found("the memory that it needs cannot be counted: shapes are unknown")
        return
    peak = memory.batch if options.whole_batch else memory.sample
    size = (memory.weights + peak.bytes) / _MB
    if size > options.max_mb:
        message = (
            f"{size:.4g} MB, allowed are {options.max_mb:g}: {memory.weights / _MB:.4g} of weights, and "
            f"{peak.bytes / _MB:.4g} of activations that are alive at this {peak.op or 'graph'}"
        )
        yield Found(message, peak.node or None, "node" if peak.node else "model", size, options.max_mb)
    elif memory.unknown:
        yield Found(f"the shapes of {memory.unknown:,} values are unknown: it may need more than is allowed")


@dataclass(frozen=True, slots=True)
class Latency(Options):
    """Options that say what is measured, too: without a limit nothing is."""

    max_ms: Annotated[float, limit("milliseconds of a run, the median")] | None = None
    runs: Annotated[int, limit("runs that are timed, at most", 5, 10_000)] = 50
    whole_batch: Annotated[bool, says("time the batch of the run, and not one sample")] = False


def _latency(evidence: Evidence, options: Latency) -> Iterator[Found]:
    latency = evidence.deployment.latency
    if options.max_ms is None or latency is None:
        return
    if latency.error:
        yield Found(f"the latency cannot be measured: {latency.error}")
    elif latency.median > options.max_ms:
        message = (
            f"{latency.median:.4g} ms, allowed are {options.max_ms:g}: the median of {latency.runs} runs of "
            f"{latency.samples} sample{'s' if latency.samples > 1 else ''} (quartiles {latency.low:.4g} and "
            f"{latency.high:.4g}), {latency.threads} thread{'s' if latency.threads > 1 else ''}, "
            f"{latency.provider}"
        )
        yield Found(message, None, "model", latency.median, options.max_ms)


@dataclass(frozen=True, slots=True)
class _ProviderFallback(Options):
    allow: Annotated[tuple[str, ...], says("operators that may run on the CPU")] = ()


def _provider_fallback(evidence: Evidence, options: _ProviderFallback) -> Iterator[Found]:
    told = evidence.deployment.assignment
    if told is None:
        return
    if told.error:
        yield Found(f"onnxruntime makes no session: {told.error}")
        return
    for provider in told.asked:
        if provider not in told.available:
            have = ", ".join(told.available)
            yield Found(f"{provider} is not in the installed onnxruntime, which has {have}")
        elif provider not in told.used:
            yield Found(f"{provider} cannot be used on this machine: onnxruntime took {', '.join(told.used)}")
    if told.asked[0] not in told.used:
        return  # then all nodes fell back
    for node in told.fallen:
        if not node.sizes and node.op not in options.allow:
            made = "" if node.file_node is not None else ", which onnxruntime made of others"
            message = f"{node.op}{made} runs on {node.provider}, and not on {told.asked[0]}"
            yield Found(message, node.file_node or node.name or None, "node")


@dataclass(frozen=True, slots=True)
class _Provenance(Options):
    require: Annotated[
        tuple[str, ...],
        says("what must be said: licence, author, version, producer, producer-version, datasets"),
    ] = ()


def _provenance(evidence: Evidence, options: _Provenance) -> Iterator[Found]:
    told = provenance(evidence.deployment.metadata)
    producer, _, version = evidence.model.producer.partition(" ")
    said = {
        "licence": (bool(told.licence), KEYS["licence"]),
        "author": (bool(told.author), KEYS["author"]),
        "version": (bool(told.version), KEYS["version"]),
        "datasets": (bool(told.datasets), KEYS["datasets"]),
        "producer": (bool(producer), ("producer_name",)),
        "producer-version": (bool(version), ("producer_version",)),
    }
    for what in options.require:
        if what not in said:
            yield Found(f"nothing is called {what!r} here: {', '.join(said)} can be required")
        elif not said[what][0]:
            yield Found(f"the file says no {what}: {' or '.join(said[what][1])} is not there")


@dataclass(frozen=True, slots=True)
class Signature(Options):
    """Options that say what is verified, too."""

    key: Annotated[str, says("file of the public key, in PEM; empty: not looked at")] = ""
    certificates: Annotated[tuple[str, ...], says("files of the certificates that are trusted instead")] = ()


def _signature(evidence: Evidence, options: Signature) -> Iterator[Found]:
    told = evidence.deployment.signature
    if told is None:
        return
    for file in told.files:
        if file.refused:
            yield Found(f"not verified by {', '.join(told.by)}: {file.refused}", file.file, "file")


CHECKS = (
    Check(
        "opset-support",
        "Newer than the runtime",
        "error",
        "A runtime of a fixed version ends at an opset and an IR version. A node needs the opset in which "
        "its operator got the meaning that it has in the file; a file needs the IR version that brought the "
        "newest thing in it. Looked at where a limit is set.",
        "Export with an older opset, or convert with onnx.version_converter; where only the number is too "
        "new, lower it in the file.",
        needs=(),
        run=_opset_support,
        options=_OpsetSupport,
    ),
    Check(
        "memory",
        "Too much memory",
        "error",
        "Bytes of the weights, and of the activations that are alive at once in a forward pass: each value "
        "from the node that makes it to the last one that reads it, in the order of the file, at the input "
        "sizes of the run. Reshapes share memory, no other node is taken to compute in place; a runtime's "
        "own buffers and fused kernels come on top or save some.",
        "Look at the node that is named: a smaller input, an earlier stride, or a batch of one make it less.",
        needs=(),
        run=_memory,
        options=_Memory,
    ),
    Check(
        "latency",
        "Too slow",
        "error",
        "The median time of a run in onnxruntime on the inputs of the measurement, after a warm-up, with the "
        "threads and providers of `[run]`. Measured where a limit is set, and on this machine: it is no "
        "property of the file, and the one finding that may differ from run to run.",
        "Measure on the machine that it is deployed on; fewer operations, a smaller input or more threads.",
        needs=(),
        run=_latency,
        options=Latency,
    ),
    Check(
        "provider-fallback",
        "Nodes that fall back to the CPU",
        "error",
        "onnxruntime runs what an execution provider does not take on the CPU, without a word, and copies "
        "values to and fro. Looked at where `[run]` names `providers`; nodes that only compute sizes belong "
        "on the CPU. A provider that is not there is reported, too.",
        "Install the onnxruntime package of the provider; write the node with operators that the provider "
        "takes, or allow its operator.",
        needs=(),
        run=_provider_fallback,
        options=_ProviderFallback,
    ),
    Check(
        "provenance",
        "The file does not say where it comes from",
        "error",
        "What the metadata of the file (`metadata_props`) and its producer say: what is listed in `require` "
        "must be there. A bill of materials (`-o cyclonedx=FILE`) takes it from the same place.",
        "Write it into the file: `onnx.helper.set_model_props(model, {'model_license': 'MIT'})`.",
        needs=(),
        run=_provenance,
        options=_Provenance,
    ),
    Check(
        "signature",
        "No signature that verifies the file",
        "error",
        "A file is what its maker signed: `<file>.sig` beside the model, and beside each file of its "
        "external data, is verified with a public key or certificates, without a network (OpenSSF model "
        "signing; `pip install 'intrain-onnx[signing]'`). Looked at where a key or certificates are named.",
        "Look who changed the file, then sign it: `model_signing sign key FILE --signature FILE.sig "
        "--private_key KEY`.",
        needs=(),
        run=_signature,
        options=Signature,
    ),
)
