"""Checks of gradients along depth: vanishing, exploding, low health."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np

from intrain_onnx.audit.checks.base import Check, Found, Options
from intrain_onnx.audit.fields import limit
from intrain_onnx.report.rows import Parameter

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence


def effects(evidence: Evidence) -> list[tuple[Parameter, float]]:
    """Weights of measured layers in depth order, each with its effect size std(g) rms(w) n.

    Rescaling two layers against each other leaves it unchanged, and so do folded BatchNorm and the scale of
    the weights; vanishing or exploding gradients change it.
    """
    found = []
    for row in _parameters(evidence):
        weight = evidence.weights.get(row.name)
        if row.role != "weight" or row.status != "measured" or weight is None or not row.grad_std:
            continue
        size = row.grad_std * weight.rms * weight.elements
        if size > 0:  # weights of zeros have a separate check
            found.append((row, size))
    return found


def _parameters(evidence: Evidence) -> tuple[Parameter, ...]:
    return evidence.checkpoint.parameters if evidence.checkpoint is not None else ()


@dataclass(frozen=True, slots=True)
class _GradientVanishing(Options):
    min_of_median: Annotated[float, limit("least share of the median effect")] = 1e-10
    min_layers: Annotated[int, limit("fewest weights for a median", 1)] = 4


def _vanishing(evidence: Evidence, options: _GradientVanishing) -> Iterator[Found]:
    sizes = effects(evidence)
    if len(sizes) < options.min_layers:
        return
    middle = float(np.median([size for _, size in sizes]))
    for row, size in sizes:
        if size < options.min_of_median * middle:
            message = f"the effect of {row.name} is {size / middle:.2g} of the median layer's"
            yield Found(message, row.layer, "layer", size / middle, options.min_of_median)


@dataclass(frozen=True, slots=True)
class _GradientExploding(Options):
    max_effect: Annotated[float, limit("largest effect, in units of the loss if that exceeds one")] = (
        100000000.0
    )


def _exploding(evidence: Evidence, options: _GradientExploding) -> Iterator[Found]:
    losses = evidence.checkpoint.settings.losses if evidence.checkpoint is not None else ()
    unit = max(1.0, math.fsum(loss.value or 0.0 for loss in losses))  # outputs in degrees, hertz or metres
    for row, size in effects(evidence):
        if size / unit > options.max_effect:
            message = f"the effect of {row.name} on the loss is {size:.2g}"
            message += f", at a loss of {unit:.2g}" if unit > 1 else ""
            yield Found(message, row.layer, "layer", size / unit, options.max_effect)


@dataclass(frozen=True, slots=True)
class _LowHealth(Options):
    quantile: Annotated[float, limit("quantile over the weights", 0, 1)] = 0.1
    min_health: Annotated[float, limit("least health at that quantile, of the expected one")] = 0.02
    min_layers: Annotated[int, limit("fewest weights for a quantile", 1)] = 4


def _health(evidence: Evidence, options: _LowHealth) -> Iterator[Found]:
    rows = [
        (r, r.health / r.expected_health) for r in _parameters(evidence) if r.health and r.expected_health
    ]
    if len(rows) < options.min_layers:
        return
    healths = [health for _, health in rows]
    value = float(np.quantile(healths, options.quantile))
    if value < options.min_health:
        weakest, _ = rows[int(np.argmin(healths))]
        what = f"the {options.quantile:g} quantile of the gradient health is {value:.3g} of the expected"
        message = f"{what}; weakest: {weakest.name}"
        yield Found(message, weakest.layer, "layer", value, options.min_health)


CHECKS = (
    Check(
        "gradient-vanishing",
        "A layer that the gradient hardly reaches",
        "warning",
        "The effect of a weight is rms(gradient) times rms(weight) times its number of elements, which "
        "rescaling of layers does not change. A layer far below the median of the network is hardly "
        "trained.",
        "Look for a saturated activation, a tiny scale or a closed gate behind the layer.",
        needs=("checkpoint",),
        run=_vanishing,
        options=_GradientVanishing,
    ),
    Check(
        "gradient-exploding",
        "A layer with an exploding gradient",
        "error",
        "The same effect, in itself, or in units of the loss where that is above one: outputs in degrees or "
        "hertz make it large. Where activations stay near one it is of the order of the loss; trained "
        "networks were seen up to 9e4.",
        "Look for weights that grew or were never scaled; clip gradients or lower the learning rate.",
        needs=("checkpoint",),
        run=_exploding,
        options=_GradientExploding,
    ),
    Check(
        "low-health",
        "Gradients that sit in few elements",
        "warning",
        "Gradient health std(g) / max|g|, over the health that a gradient without structure has at the same "
        "rows and size: about 1 for an even gradient. The check reads a low quantile over the weights of "
        "layers, not the worst one.",
        "Look at the weights named; sparse inputs and large embeddings have this by nature.",
        needs=("checkpoint",),
        run=_health,
        options=_LowHealth,
    ),
)
