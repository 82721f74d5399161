"""The synthetic loss: cross-entropy with random labels, or mean squared error to noise, over all outputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.errors import UnsupportedError
from intrain_onnx.measure.trace import LossTerm
from intrain_onnx.runtime.random_streams import generator_for


def synthetic_loss(
    outputs: Sequence[list[Tensor]],
    names: Sequence[str],
    samples: int,
    generator: torch.Generator,
    *,
    channels_last: bool = False,
) -> tuple[Tensor, list[LossTerm]]:
    """Sum over the outputs of cross-entropy with random labels, or of mean squared error to noise.

    An output of shape (samples, classes), trailing axes of size 1 aside, holds logits: cross-entropy, a mean
    over samples. Every other one is compared with N(0, 1) noise of its shape, drawn channels first even if
    images are channels last: a mean over elements. Each output has a separate generator, keyed by the given
    one's seed.

    Raises:
        UnsupportedError: no output has a gradient.
    """
    total: Tensor | None = None
    terms = []
    for index, (name, parts) in enumerate(zip(names, outputs, strict=True)):
        joined = _join(parts)
        if joined is None or not joined.requires_grad or not joined.numel():
            continue
        own = generator_for(generator.initial_seed(), f"target {index}")
        loss, kind = _term(joined, samples, own, channels_last)
        terms.append(LossTerm(name, kind, tuple(joined.shape), loss.detach().item()))
        total = loss if total is None else total + loss
    if total is None:
        raise UnsupportedError(
            "no output passes a gradient to a parameter",
            hint="A model without trainable weights has no score",
        )
    return total, terms


def _join(parts: list[Tensor]) -> Tensor | None:
    if not all(isinstance(p, Tensor) and p.is_floating_point() for p in parts):
        return None
    if len(parts) == 1:
        return parts[0]
    if parts[0].dim() < 2 and all(p.shape == parts[0].shape for p in parts):
        return torch.stack(parts)
    if any(p.shape[1:] != parts[0].shape[1:] for p in parts):
        return torch.cat([p.reshape(-1) for p in parts])
    return torch.cat(parts)


def _term(
    output: Tensor, samples: int, generator: torch.Generator, channels_last: bool
) -> tuple[Tensor, str]:
    shape = output.shape
    if len(shape) >= 2 and shape[0] == samples and shape[1] > 1 and output.numel() == samples * shape[1]:
        logits = output.reshape(samples, shape[1])
        labels = balanced_labels(samples, shape[1], generator)
        return functional.cross_entropy(logits, labels.to(output.device)), "cross_entropy"
    if channels_last and len(shape) == 4:
        n, h, w, c = shape
        target = torch.randn(n, c, h, w, generator=generator).permute(0, 2, 3, 1).to(output)
    else:
        target = torch.randn(shape, generator=generator).to(output)
    return functional.mse_loss(output, target), "mean_squared_error"


def balanced_labels(samples: int, classes: int, generator: torch.Generator) -> Tensor:
    """Random balanced labels: the counts of two classes differ by at most one.

    Independent labels of few samples omit classes by chance, which adds variance over seeds that does not
    depend on the network.
    """
    order = torch.randperm(classes, generator=generator)
    return order[torch.arange(samples) % classes][torch.randperm(samples, generator=generator)]
