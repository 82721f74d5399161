"""Negative log-likelihood and softmax cross-entropy losses."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.ops.registry import op

_NO_LABEL = -(2**31)  # torch always ignores one label: one that no class can have


@op("NegativeLogLikelihoodLoss", 12, 13, 22)
def negative_log_likelihood_loss(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Negative log-probability of the target class; the mean is weighted by the class weights."""
    ignored = _NO_LABEL if ignore_index is None else ignore_index
    return functional.nll_loss(x, target.long(), weight, ignore_index=ignored, reduction=reduction)


@op("SoftmaxCrossEntropyLoss", 12, 13)
def softmax_cross_entropy_loss(
    scores: Tensor,
    labels: Tensor,
    weights: Tensor | None = None,
    *,
    n_outputs: int,
    ignore_index: int | None = None,
    reduction: str = "mean",
) -> tuple[Tensor, ...]:
    """Cross-entropy of the softmax of logits, and the log-probabilities."""
    log_prob = torch.log_softmax(scores, 1)
    loss = negative_log_likelihood_loss(
        log_prob, labels, weights, ignore_index=ignore_index, reduction=reduction
    )
    return loss, log_prob
