"""Checks of size limits: file size, parameters, multiply-accumulate operations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from intrain_onnx.audit.checks.base import Check, Found, Options
from intrain_onnx.audit.fields import limit

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence

_MB = 1e6


@dataclass(frozen=True, slots=True)
class _FileSize(Options):
    max_mb: Annotated[float, limit("megabytes of 10^6 bytes")] | None = None


def _size(evidence: Evidence, options: _FileSize) -> Iterator[Found]:
    size = evidence.file.bytes / _MB
    if options.max_mb is not None and size > options.max_mb:
        yield Found(f"{size:.4g} MB, allowed are {options.max_mb:g}", None, "file", size, options.max_mb)


@dataclass(frozen=True, slots=True)
class _ParameterCount(Options):
    max: Annotated[int, limit("number of parameters")] | None = None


def _parameters(evidence: Evidence, options: _ParameterCount) -> Iterator[Found]:
    count = evidence.model.parameters
    if options.max is not None and count > options.max:
        yield Found(f"{count:,} parameters, allowed are {options.max:,}", None, "model", count, options.max)


@dataclass(frozen=True, slots=True)
class _Macs(Options):
    max: Annotated[int, limit("operations for one sample")] | None = None


def _macs(evidence: Evidence, options: _Macs) -> Iterator[Found]:
    count = evidence.model.macs
    if options.max is None:
        return
    if count is None:
        yield Found("its multiply-accumulate operations cannot be counted: shapes are unknown")
    elif count > options.max:
        message = f"{count:,} multiply-accumulate operations a sample, allowed are {options.max:,}"
        yield Found(message, None, "model", count, options.max)


CHECKS = (
    Check(
        "file-size",
        "A file that is too large",
        "error",
        "Bytes of the model and of its external data together.",
        "Quantise, prune, or store weights in float16.",
        needs=(),
        run=_size,
        options=_FileSize,
    ),
    Check(
        "parameter-count",
        "Too many parameters",
        "error",
        "Elements of all trainable initializers, each counted once however often it is used.",
        "Take a smaller network.",
        needs=(),
        run=_parameters,
        options=_ParameterCount,
    ),
    Check(
        "macs",
        "Too many operations",
        "error",
        "Multiply-accumulate operations for one sample at the input sizes of the report.",
        "Take a smaller network or a smaller input.",
        needs=(),
        run=_macs,
        options=_Macs,
    ),
)
