"""Checks of activations: finite, in range, equal to onnxruntime's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from intrain_onnx.audit.checks.base import Check, Found, Options
from intrain_onnx.audit.fields import limit, says

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence

FLOAT16_MAX = 65504.0


def _not_finite(evidence: Evidence, options: Options) -> Iterator[Found]:
    for failure in (evidence.failures.get("checkpoint"), evidence.failures.get("ranges")):
        if failure is not None and failure.kind == "NumericalError":
            yield Found(failure.message, failure.node, "node" if failure.node else "model")


@dataclass(frozen=True, slots=True)
class _ActivationRange(Options):
    max_abs: Annotated[float, limit("largest magnitude")] | None = 10000000.0


def _growth(evidence: Evidence, options: _ActivationRange) -> Iterator[Found]:
    for found in (evidence.ranges.values if evidence.ranges else {}).values():
        largest = found.unmasked ** (1 / found.degree)
        if options.max_abs is not None and largest > options.max_abs and found.max_abs < 1e30:
            power = "" if found.degree == 1 else f", whose root {largest:.3g} is compared"
            message = f"{found.op} gives values up to {found.max_abs:.3g}{power}"
            yield Found(message, found.node, "node", largest, options.max_abs)
            return  # what follows is large because this is


@dataclass(frozen=True, slots=True)
class _Float16Range(Options):
    headroom: Annotated[float, limit("share of 65504 that may be used", 1e-06, 1)] = 1.0


def _float16(evidence: Evidence, options: _Float16Range) -> Iterator[Found]:
    if evidence.deploy != "float16" and not evidence.file.half:
        return
    limit = FLOAT16_MAX * options.headroom
    for weight in evidence.weights.values():
        if weight.role != "constant" and weight.max_abs > limit:
            where = f" of layer {weight.layer}" if weight.layer else ""
            message = f"a weight{where} is {weight.max_abs:.3g}; float16 ends at 65504"
            yield Found(message, weight.name, "weight", weight.max_abs, limit)
    for found in (evidence.ranges.values if evidence.ranges else {}).values():
        if found.unmasked > limit and not found.not_finite:
            message = f"{found.op} gives values up to {found.max_abs:.3g}; float16 ends at 65504"
            yield Found(message, found.node, "node", found.max_abs, limit)


def _float16_constants(evidence: Evidence, options: Options) -> Iterator[Found]:
    if evidence.deploy != "float16" and not evidence.file.half:
        return
    for weight in evidence.weights.values():
        if weight.role == "constant" and weight.max_abs > FLOAT16_MAX:
            message = f"a constant is {weight.max_abs:.3g}, infinite in float16"
            yield Found(message, weight.name, "weight", weight.max_abs, FLOAT16_MAX)


@dataclass(frozen=True, slots=True)
class PrecisionCost(Options):
    """Limits of the signal to noise, and how int8 is simulated."""

    min_snr: Annotated[float, limit("least signal to noise of the outputs, dB", -200)] | None = 10.0
    min_layer_snr: Annotated[float, limit("with one layer rounded alone, dB", -200)] | None = None
    per_channel: Annotated[bool, says("int8 weights have a scale for each output channel")] = False


def _precision(evidence: Evidence, options: PrecisionCost) -> Iterator[Found]:
    facts = evidence.precision
    if facts is None:
        return
    worst = facts.worst(10)
    whole = facts.whole if facts.whole is not None else float("inf")
    if options.min_snr is not None and whole < options.min_snr:
        told = ", ".join(f"{name} {_db(snr)}" for name, snr in worst)
        message = f"all layers in {facts.dtype} leave {_db(whole)} of signal to noise at the outputs"
        partly = "" if len(facts.alone) == facts.layers else f" of {len(facts.alone)} that were tried"
        yield Found(f"{message}; alone cost most{partly}: {told}", None, "model", whole, options.min_snr)
    for name, snr in worst:
        if options.min_layer_snr is not None and snr < options.min_layer_snr:
            message = f"this layer alone in {facts.dtype} leaves {_db(snr)} of signal to noise at the outputs"
            yield Found(message, name, "layer", snr, options.min_layer_snr)


@dataclass(frozen=True, slots=True)
class _Underflow(Options):
    max_share: Annotated[float, limit("largest share of a tensor that may become zero", 0, 1)] = 0.01


def _underflow(evidence: Evidence, options: _Underflow) -> Iterator[Found]:
    facts = evidence.precision
    for name, share in facts.flushed.items() if facts is not None else ():
        if share > options.max_share and facts is not None:
            message = (
                f"{share:.1%} of its weight, input or output is not zero and becomes zero in {facts.dtype}"
            )
            yield Found(message, name, "layer", share, options.max_share)


def _db(snr: float) -> str:
    return "none, as they overflow," if snr == float("-inf") else f"{snr:.1f} dB"


def _parity(evidence: Evidence, options: Options) -> Iterator[Found]:
    parity = evidence.parity_verdict
    if parity is not None and not parity.ok:
        message = f"differs from {parity.reference}: {parity.reason}"
        yield Found(message, None, "model", parity.max_rel_diff, None)


def _parity_unknown(evidence: Evidence, options: Options) -> Iterator[Found]:
    parity = evidence.parity
    if parity is not None and parity.ok is None:
        yield Found(f"not compared with onnxruntime: {parity.reason}")


CHECKS = (
    Check(
        "not-finite",
        "Activations or gradients that are not finite",
        "error",
        "On noise of unit variance an activation, the loss or a gradient overflows or is NaN. The node "
        "where it began is named.",
        "Look at the weights of that node and before it; an overflow comes from weights that grew.",
        needs=("checkpoint", "ranges"),
        run=_not_finite,
    ),
    Check(
        "activation-range",
        "Activations of extreme size",
        "error",
        "The largest magnitude of all activations on noise of unit variance; the first node above the limit "
        "is named. Healthy networks stay far below. Masks that are added do not count, and of squares and "
        "cubes that only a norm or a bounded function reads the root does.",
        "Look for weights that grew or were never scaled, and for a normalisation that is missing.",
        needs=("ranges",),
        run=_growth,
        options=_ActivationRange,
    ),
    Check(
        "float16-range",
        "Beyond float16",
        "error",
        'float16 ends at 65504. Looked at where the policy says `deploy = "float16"`, or the file itself '
        "computes in float16: weights, and activations on noise of unit variance. Real inputs of another "
        "scale may give larger ones.",
        "Keep that layer in float32, deploy in bfloat16, or scale the weights down.",
        needs=("ranges",),
        run=_float16,
        options=_Float16Range,
    ),
    Check(
        "float16-constants",
        "Constants beyond float16",
        "note",
        "Constants that become infinite in float16. In an attention mask that is harmless as long as no "
        "row is masked whole.",
        "Take -1e4 for masks.",
        needs=(),
        run=_float16_constants,
    ),
    Check(
        "precision-cost",
        "Too much lost in the type that it is deployed in",
        "warning",
        'Where the policy says `deploy = "float16"`, `"bfloat16"` or `"int8"`: the weights of each layer, '
        "what it reads and what it gives are rounded to that type, layer by layer and all together, and the "
        "outputs, logits before a softmax, are compared with those in float32. int8 has symmetric weights "
        "and asymmetric activations, whose ranges are those of the run: give real samples with "
        "`[run.inputs]`.",
        "Keep the layers that cost most in float32, or quantise weights by channel; then "
        "`intrain-onnx diff ORIGINAL CONVERTED`.",
        needs=("precision",),
        run=_precision,
        options=PrecisionCost,
    ),
    Check(
        "precision-underflow",
        "Numbers that become zero in half precision",
        "note",
        "float16 has no numbers below 6e-8, and few below 6e-5. The largest share of a layer's weight, input "
        "or output that is not zero and becomes zero when it is rounded, in the runs of `precision-cost`.",
        "Scale these up, or keep the layer in float32; `precision-cost` says whether the outputs suffer.",
        needs=("precision",),
        run=_underflow,
        options=_Underflow,
    ),
    Check(
        "parity",
        "Another result than onnxruntime",
        "error",
        "The converted model and onnxruntime give different outputs on the same input, by more than "
        "round-off explains: what was measured here is then not the network that is deployed.",
        "Report it with the model. `intrain-onnx score MODEL --protocol checkpoint --converter onnx2torch` "
        "says whether another converter agrees with onnxruntime.",
        needs=("parity_verdict",),
        run=_parity,
    ),
    Check(
        "parity-unknown",
        "Not compared with onnxruntime",
        "note",
        "Nothing is known of their agreement: one of them could not run the model, its outputs are random, "
        "their length follows from the data, or onnxruntime or round-off alone makes them differ as much.",
        "See the reason; a missing kernel, an unknown operator and a detection network's tail are usual.",
        needs=("parity",),
        run=_parity_unknown,
    ),
)
