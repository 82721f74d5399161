"""Sizes that a deployment allows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from intrain_onnx.audit.checks.base import Check, Found, Option

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence

_MB = 1e6


def _size(evidence: Evidence, options: Mapping[str, Any]) -> Iterator[Found]:
    size = evidence.file.bytes / _MB
    if options["max_mb"] is not None and size > options["max_mb"]:
        yield Found(
            f"{size:.4g} MB, allowed are {options['max_mb']:g}", None, "file", size, options["max_mb"]
        )


def _parameters(evidence: Evidence, options: Mapping[str, Any]) -> Iterator[Found]:
    count = evidence.model["parameters"]
    if options["max"] is not None and count > options["max"]:
        yield Found(
            f"{count:,} parameters, allowed are {options['max']:,}", None, "model", count, options["max"]
        )


def _macs(evidence: Evidence, options: Mapping[str, Any]) -> Iterator[Found]:
    count = evidence.model["macs"]
    if options["max"] is None:
        return
    if count is None:
        yield Found("its multiply-accumulate operations cannot be counted: shapes are unknown")
    elif count > options["max"]:
        message = f"{count:,} multiply-accumulate operations a sample, allowed are {options['max']:,}"
        yield Found(message, None, "model", count, options["max"])


CHECKS = (
    Check(
        "file-size",
        "A file that is too large",
        "error",
        "Bytes of the model and of its external data together.",
        "Quantise, prune, or store weights in float16.",
        _size,
        (Option("max_mb", float, None, "megabytes of 10^6 bytes", may_be_off=True),),
    ),
    Check(
        "parameter-count",
        "Too many parameters",
        "error",
        "Elements of all trainable initializers, each counted once however often it is used.",
        "Take a smaller network.",
        _parameters,
        (Option("max", int, None, "number of parameters", may_be_off=True),),
    ),
    Check(
        "macs",
        "Too many operations",
        "error",
        "Multiply-accumulate operations for one sample at the input sizes of the report.",
        "Take a smaller network or a smaller input.",
        _macs,
        (Option("max", int, None, "operations for one sample", may_be_off=True),),
    ),
)
