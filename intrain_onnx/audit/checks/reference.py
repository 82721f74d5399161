"""Checks against another file of the same network: what a conversion, or a later checkpoint, has changed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from intrain_onnx.audit.checks.base import Check, Found, Options, Place
from intrain_onnx.audit.fields import limit
from intrain_onnx.diff import thresholds

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence
    from intrain_onnx.diff.rows import Rule

_Usual = Literal["usual"]
"""As healthy conversions of the same precision have it."""


@dataclass(frozen=True, slots=True)
class _Weights(Options):
    weight_snr: Annotated[float, limit("least signal to noise, dB", -200)] | _Usual = "usual"
    weight_correlation: Annotated[float, limit("least correlation", -1, 1)] | _Usual = "usual"
    bias_correlation: Annotated[float, limit("least correlation of biases and scales", -1, 1)] | _Usual = (
        "usual"
    )
    zeros: Annotated[float, limit("most that the share of zeros may grow by", 0, 1)] | _Usual = "usual"
    levels: Annotated[float, limit("distinct values that are too few")] | _Usual = "usual"


@dataclass(frozen=True, slots=True)
class _Activations(Options):
    activation_correlation: Annotated[float, limit("least correlation", -1, 1)] | _Usual = "usual"
    activation_snr: Annotated[float, limit("dB above which correlation is not looked at", -200)] | _Usual = (
        "usual"
    )


@dataclass(frozen=True, slots=True)
class _Outputs(Options):
    output_snr: Annotated[float, limit("least signal to noise, dB", -200)] | _Usual = "usual"
    agreement: Annotated[float, limit("least share of the same top class", 0, 1)] | _Usual = "usual"


def _structure(evidence: Evidence, options: Options) -> Iterator[Found]:
    yield from _of(evidence, options, ("structure", "operators"), "layer")


def _weights(evidence: Evidence, options: _Weights) -> Iterator[Found]:
    yield from _of(evidence, options, ("weights", "order", "levels", "zeros"), "layer")


def _activations(evidence: Evidence, options: _Activations) -> Iterator[Found]:
    yield from _of(evidence, options, ("activations",), "layer")


def _outputs(evidence: Evidence, options: _Outputs) -> Iterator[Found]:
    yield from _of(evidence, options, ("outputs", "agreement", "not-finite"), "layer")


def _of(evidence: Evidence, options: Options, rules: tuple[Rule, ...], kind: Place) -> Iterator[Found]:
    found = evidence.reference
    if found is None:
        return
    changed = {name: float(value) for name, value in asdict(options).items() if value != "usual"}
    names = {x.first: x.second for x in found.layers if x.first is not None and x.second is not None}
    noise = not found.inputs.given
    limits = thresholds.chosen(found.expected, (found.first, found.second), changed, noise=noise)
    operators = found.operators if found.expected == "checkpoint" else ()
    for row in thresholds.findings(limits, found.layers, found.parameters, found.outputs, operators):
        if row.rule in rules:
            place = names.get(row.place, row.place) if row.place is not None else None
            shown = kind if place is not None else "model"
            yield Found(row.message, place, shown, row.measured, row.threshold)


_REMEDY = "Look where they part: `intrain-onnx diff REFERENCE MODEL`."

CHECKS = (
    Check(
        "reference-structure",
        "Other layers than the reference's",
        "error",
        "Layers are matched by their structural keys, whoever wrote either file. A layer that one of both "
        "lacks, or that has another shape, is named; between checkpoints of one training, operators of "
        "another number or with other attributes are, too.",
        "If the change is meant, take another reference; else `intrain-onnx diff REFERENCE MODEL --all`.",
        needs=("reference",),
        run=_structure,
    ),
    Check(
        "reference-weights",
        "Weights that are not the reference's",
        "error",
        "Weights of matched layers, BatchNorm folded in and dequantised: signal to noise, correlation, the "
        "same values in another order, few distinct values or many zeros where there were not. How much may "
        "differ follows from the precision, and from `expect`: a later checkpoint has other weights, which "
        "resemble those before.",
        _REMEDY,
        needs=("reference",),
        run=_weights,
        options=_Weights,
    ),
    Check(
        "reference-activations",
        "Layers that compute something else than the reference's",
        "error",
        "The output of each matched layer, behind normalisation and activation function, on the same inputs "
        "in both files: the correlation of all its elements. Quantised and half-precision files are run as "
        "such.",
        _REMEDY,
        needs=("reference",),
        run=_activations,
        options=_Activations,
    ),
    Check(
        "reference-outputs",
        "Outputs that are not the reference's",
        "error",
        "Outputs on the same inputs: signal to noise, the share of rows with the same top class, and values "
        "that are finite in the reference alone. Without real samples (`[run.inputs]`) the inputs are noise.",
        _REMEDY,
        needs=("reference",),
        run=_outputs,
        options=_Outputs,
    ),
)
