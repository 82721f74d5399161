"""Checks of the file: loads, safe, portable."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from intrain_onnx.audit.checks.base import Check, Found, Options, nothing
from intrain_onnx.audit.fields import limit, says

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence, Failure

_LOADER = frozenset(
    {
        "external-key", "external-unused", "shadowed-name", "ir-version", "opset-twice", "opset-missing",
        "unnamed-initializer", "unsorted", "onnx-checker",
    }
)  # fmt: skip
"""Codes of the loader's warnings; those of the static pass have separate checks."""


def _not_measured(evidence: Evidence, options: Options) -> Iterator[Found]:
    """One finding per distinct reason: two protocols usually fail for the same one."""
    seen: dict[tuple[str, str | None], list[str]] = {}
    for stage, failure in evidence.failures.items():
        if not _told_elsewhere(evidence, stage, failure):
            seen.setdefault((failure.message, failure.node), []).append(stage)
    for (message, node), stages in seen.items():
        yield Found(f"{', '.join(stages)} not measured: {message}", node, "node" if node else "model")


def _told_elsewhere(evidence: Evidence, stage: str, failure: Failure) -> bool:
    """Whether `unsupported-ops` or `not-finite` reports the failure; all others are reported here."""
    if failure.kind == "MissingOpsError":
        return bool(evidence.file.missing)
    return failure.kind == "NumericalError" and stage != "architecture"


@dataclass(frozen=True, slots=True)
class _ExternalData(Options):
    allow: Annotated[bool, says("external data is accepted")] = True


def _external(evidence: Evidence, options: _ExternalData) -> Iterator[Found]:
    if options.allow:
        return
    for name in evidence.file.external:
        yield Found("weights are kept in a file beside the model", name, "file")


@dataclass(frozen=True, slots=True)
class _FileWarnings(Options):
    ignore: Annotated[tuple[str, ...], says("codes that are accepted")] = ()


def _loader(evidence: Evidence, options: _FileWarnings) -> Iterator[Found]:
    for row in evidence.file.warnings:
        if row.code in _LOADER and row.code not in options.ignore:
            yield Found(f"{row.code}: {row.message}", row.node, "node" if row.node else "model")


@dataclass(frozen=True, slots=True)
class _OpsetRange(Options):
    min: Annotated[int, limit("oldest opset")] = 7
    max: Annotated[int, limit("newest opset")] | None = 26


def _opset(evidence: Evidence, options: _OpsetRange) -> Iterator[Found]:
    version = evidence.file.opset
    if version is None:
        return
    if version < options.min:
        message = f"opset {version} is older than {options.min}"
        yield Found(message, None, "model", version, options.min)
    if options.max is not None and version > options.max:
        message = f"opset {version} is newer than {options.max}"
        yield Found(message, None, "model", version, options.max)


@dataclass(frozen=True, slots=True)
class _CustomOps(Options):
    allow: Annotated[tuple[str, ...], says("domains that are accepted")] = (
        "com.microsoft",
        "com.microsoft.nchwc",
        "ai.onnx.contrib",
    )


def _custom(evidence: Evidence, options: _CustomOps) -> Iterator[Found]:
    for node in evidence.file.foreign:
        if node.detail not in options.allow:
            yield Found(f"operator {node.detail}::{node.op} is no part of ONNX", node.name, "node")


def _unsupported(evidence: Evidence, options: Options) -> Iterator[Found]:
    for name, count in evidence.file.missing.items():
        nodes = f"{count} node{'s' if count > 1 else ''}"
        yield Found(f"{nodes} of {name} cannot be run here, so nothing behind is measured", name, "operator")


@dataclass(frozen=True, slots=True)
class _WeightsNotRecognised(Options):
    min_share: Annotated[float, limit("least share of the elements of weights", 0, 1)] = 0.95


def _not_recognised(evidence: Evidence, options: _WeightsNotRecognised) -> Iterator[Found]:
    covered = evidence.file.covered
    if covered.share >= options.min_share:
        return
    for row in covered.missed:
        if not row.queries:
            message = f"{row.elements:,} elements of weights are in no layer: {row.reason}"
            yield Found(message, row.node, "node", covered.share, options.min_share)


def _queries(evidence: Evidence, options: Options) -> Iterator[Found]:
    for row in evidence.file.covered.missed:
        if row.queries:
            yield Found(f"{row.elements:,} elements of weights make queries from no input", row.node, "node")


CHECKS = (
    Check(
        "not-loaded",
        "The file cannot be loaded",
        "error",
        "The loader refuses a file that is broken, unsafe, over a limit, or of a kind that cannot be read; "
        "the message is the loader's. The audit ends with the exit code of that error.",
        "Export the model again; the message says what is wrong with the file.",
        needs=(),
        run=nothing,
    ),
    Check(
        "not-measured",
        "A measurement failed",
        "error",
        "The file is valid, but it could not be run under a protocol, so the checks that read that report "
        "say nothing. An audit that cannot look does not pass.",
        "Set the sizes of open inputs under `[run.input_shapes]`; the message names the node that failed, "
        "and `intrain-onnx inspect MODEL` lists the inputs.",
        needs=(),
        run=_not_measured,
    ),
    Check(
        "external-data",
        "Weights outside the file",
        "error",
        "External data is safe where the loader takes it (inside the folder, no links), but a deployment "
        "that copies one file then lacks its weights. Reported only where `allow = false`.",
        "Save the model in one file, or allow external data.",
        needs=(),
        run=_external,
        options=_ExternalData,
    ),
    Check(
        "file-warnings",
        "The loader had to overlook something",
        "warning",
        "The file is not quite what ONNX asks for: unsorted nodes, unused external files, names used "
        "twice, an IR version that is newer than the onnx package. Other runtimes may refuse it.",
        "Export with a newer exporter, or run the file through onnx.checker and repair what it says.",
        needs=(),
        run=_loader,
        options=_FileWarnings,
    ),
    Check(
        "opset-range",
        "Opset too old or too new",
        "error",
        "onnxruntime runs opset 7 and newer; below, BatchNormalization, Dropout and broadcasting mean "
        "something else. An opset that the runtime does not know yet is refused there.",
        "Convert with onnx.version_converter, or export with another opset.",
        needs=(),
        run=_opset,
        options=_OpsetRange,
    ),
    Check(
        "custom-ops",
        "Operators outside ONNX",
        "error",
        "A node of a domain that ONNX does not define needs a library that registers it: it does not run "
        "elsewhere, and such a library is code. onnxruntime's own domain is allowed by default.",
        "Replace the operator, write it as a model-local function, or allow its domain.",
        needs=(),
        run=_custom,
        options=_CustomOps,
    ),
    Check(
        "unsupported-ops",
        "Operators that cannot be audited",
        "error",
        "The operator has no handler here, so the network cannot be run. An audit that cannot look does "
        "not pass.",
        "Export with another opset, or add a handler (docs/add-an-operator.md).",
        needs=(),
        run=_unsupported,
    ),
    Check(
        "weights-not-recognised",
        "Weights that no layer has",
        "error",
        "A product with a constant operand that is taken for no layer: its weights are not measured, and the "
        "score, the gradients and the checks of layers leave them out. An audit that cannot look does not "
        "pass.",
        "Export without fusing or quantising (an onnxruntime level below EXTENDED), or write the operator as "
        "MatMul, Gemm or Conv.",
        needs=(),
        run=_not_recognised,
        options=_WeightsNotRecognised,
    ),
    Check(
        "learned-queries",
        "Weights that only make queries",
        "note",
        "An attention whose queries are learned vectors (object queries, a probe that pools): what makes "
        "them reads no input, so it has no activation that varies, and it is no layer of the score. Its "
        "numbers are checked as all weights are.",
        "Nothing; an export with constants folded holds the queries themselves.",
        needs=(),
        run=_queries,
    ),
)
