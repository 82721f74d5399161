"""Checks of the weights' values: finite, extreme, zero, low rank."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from intrain_onnx.audit.checks.base import Check, Found, Options
from intrain_onnx.audit.fields import limit

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence


def _not_finite(evidence: Evidence, options: Options) -> Iterator[Found]:
    for weight in evidence.weights.values():
        bad = weight.nan if weight.role == "constant" else weight.not_finite  # a mask may be infinite
        if bad:
            where = f" of layer {weight.layer}" if weight.layer else ""
            message = f"{bad:,} of {weight.elements:,} numbers are NaN or infinite{where}"
            yield Found(message, weight.name, "weight", bad, 0)


@dataclass(frozen=True, slots=True)
class _WeightsExtreme(Options):
    max_abs: Annotated[float, limit("largest magnitude")] = 1000000.0


def _extreme(evidence: Evidence, options: _WeightsExtreme) -> Iterator[Found]:
    for weight in evidence.weights.values():
        if weight.role == "weight" and weight.max_abs > options.max_abs:
            message = f"{weight.name} has weights up to {weight.max_abs:.3g}"
            yield Found(message, weight.layer, "layer", weight.max_abs, options.max_abs)


def _zero(evidence: Evidence, options: Options) -> Iterator[Found]:
    for weight in evidence.weights.values():
        if weight.role == "weight" and weight.channels and weight.zeros == weight.elements:
            message = f"all {weight.elements:,} weights of {weight.name} are zero"
            yield Found(message, weight.layer, "layer", 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class _WeightsRank(Options):
    min_directions: Annotated[float, limit("least participation ratio of the singular values", 1)] = 1.001
    min_side: Annotated[int, limit("smallest matrix that is looked at", 2)] = 4


def _rank(evidence: Evidence, options: _WeightsRank) -> Iterator[Found]:
    for weight in evidence.weights.values():
        ratio, limit = weight.rank_ratio, weight.rank_limit
        if ratio is not None and limit >= options.min_side and ratio < options.min_directions:
            message = f"{weight.name} maps to {ratio:.3g} directions of {limit}"
            yield Found(message, weight.layer, "layer", ratio, options.min_directions)


@dataclass(frozen=True, slots=True)
class _ZeroChannels(Options):
    max_share: Annotated[float, limit("largest share of a layer's channels", 0, 1)] = 0.25


def _zero_channels(evidence: Evidence, options: _ZeroChannels) -> Iterator[Found]:
    for weight in evidence.weights.values():
        if not weight.channels or weight.zeros == weight.elements:
            continue
        share = weight.zero_channels / weight.channels
        if share > options.max_share:
            message = f"{weight.zero_channels} of {weight.channels} output channels of {weight.name} are zero"
            yield Found(message, weight.layer, "layer", share, options.max_share)


CHECKS = (
    Check(
        "weights-not-finite",
        "NaN or infinite weights",
        "error",
        "A single NaN in a weight makes outputs NaN. It usually comes from a training that diverged, or "
        "from a conversion to float16 that overflowed.",
        "Take an earlier checkpoint, or repair the conversion.",
        needs=(),
        run=_not_finite,
    ),
    Check(
        "weights-extreme",
        "A weight that grew beyond measure",
        "error",
        "The largest magnitude of a layer's weights. It also finds what no activation shows: a layer behind "
        "a saturated gate, or in a branch that did not run. Trained layers were seen up to 55.",
        "Take an earlier checkpoint, and clip gradients.",
        needs=(),
        run=_extreme,
        options=_WeightsExtreme,
    ),
    Check(
        "weights-zero",
        "A weight that is all zero",
        "error",
        "A layer whose weight is zero gives the same output for every input: it was never initialised or "
        "loaded, or it was cleared.",
        "Load the checkpoint again and look for keys that did not match.",
        needs=(),
        run=_zero,
    ),
    Check(
        "weights-rank",
        "A weight of rank one",
        "error",
        "The participation ratio of a weight's squared singular values says how many directions it maps "
        "to. At 1 all output channels are multiples of each other. Trained layers were seen down to 1.13; "
        "depthwise convolutions are left out, whose channels may share a filter.",
        "Look whether the layer was initialised with equal rows, or collapsed in training.",
        needs=(),
        run=_rank,
        options=_WeightsRank,
    ),
    Check(
        "zero-channels",
        "Output channels with zero weights",
        "warning",
        "Channels whose weights are all zero were pruned without being removed, or died under weight "
        "decay. They cost memory and time.",
        "Remove the channels, or waive the layer if the sparsity is meant.",
        needs=(),
        run=_zero_channels,
        options=_ZeroChannels,
    ),
)
