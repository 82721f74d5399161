"""AZ-NAS: four values of a network's blocks, for rank aggregation over a population.

Lee and Ham, AZ-NAS: Assembling Zero-Cost Proxies for Network Architecture Search, CVPR 2024. Higher is
better for each. Expressivity is the sum over blocks of the entropy of the normalised eigenvalues of the
covariance of a block's output over samples and positions; progressivity is its least increase from one
block to the next; trainability the mean over blocks of 2 - s - 1/s, s the largest singular value of the
mean over positions of the outer product of the gradient at a block's input, back-propagated from a random
sign gradient at its output, with that sign gradient; complexity is FLOPs.

Blocks end at dominators of the loss, values on every path to it (`blocks.blocks`): cells, residual blocks,
halves of a transformer layer. The authors define them for each search space. The classifier is no block, as
in their code. If a block downsamples, the gradient at its input is folded into channels (pixel unshuffle), as
in their code; a block with another relation of positions has no trainability. A non-finite value is null;
their code gives it the worst rank. Their aggregate is `aggregate.aggregate("az_nas", ...)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from intrain_onnx.proxies.blocks import Block, blocks
from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.errors import NoValueError
from intrain_onnx.runtime.random_streams import generator_for

_EPSILON = 1e-8
_SLACK = 1e-6


def compute(network: ProxyContext) -> dict[str, float]:
    """Expressivity, progressivity and trainability of the blocks, and complexity."""
    found = blocks(network.module, network.layers)
    known = {} if network.macs is None else {"az_nas_complexity": float(network.macs)}
    ends: list[_End] = []
    network.run(observers={b.output: partial(_observe, b, ends) for b in found})
    if len(ends) < 2:
        raise NoValueError("has fewer than two blocks", known)
    entropies = [_entropy(e.made.detach().flatten(0, -2).double()) for e in ends]
    values = known | {
        "az_nas_expressivity": math.fsum(entropies),
        "az_nas_progressivity": min(b - a for a, b in pairwise(entropies)),
    }
    generator = generator_for(network.seed, "az_nas signs")
    scores = [_trainability(a.leaf, b.made, generator) for a, b in pairwise(ends)]
    trainable = [s for s in scores if s is not None]
    if not trainable or network.macs is None:
        raise NoValueError("no block keeps its positions" if not trainable else "FLOPs unknown", values)
    return values | {"az_nas_trainability": math.fsum(trainable) / len(trainable)}


@dataclass(frozen=True, slots=True)
class _End:
    """The output of a block, channels last, and the detached leaf that the next block reads."""

    made: Tensor
    leaf: Tensor


def _observe(block: Block, ends: list[_End], parts: list[Tensor]) -> list[Tensor]:
    """Detach the graph here, so that the gradient of a block ends at its input."""
    made = _channels_last(torch.cat(parts), block)
    leaf = made.detach().clone().requires_grad_()
    ends.append(_End(made, leaf))
    restored = _as_it_was(leaf, parts[0], block)
    return list(torch.split(restored, [len(p) for p in parts]))


def _channel_axes(rank: int, block: Block) -> list[int]:
    axes = sorted(a % rank for a in block.layer.channel_axes if -rank <= a < rank)
    return axes if len(axes) == len(block.layer.channel_axes) else [rank - 1]


def _channels_last(x: Tensor, block: Block) -> Tensor:
    axes = _channel_axes(x.dim(), block)
    moved = x.movedim(axes, list(range(x.dim() - len(axes), x.dim())))
    return moved.flatten(x.dim() - len(axes))


def _as_it_was(x: Tensor, like: Tensor, block: Block) -> Tensor:
    axes = _channel_axes(like.dim(), block)
    channels = [like.shape[a] for a in axes]
    whole = x.unflatten(-1, channels)
    restored: Tensor = whole.movedim(list(range(whole.dim() - len(axes), whole.dim())), axes)
    return restored


def _entropy(rows: Tensor) -> float:
    """Entropy of the eigenvalues of the covariance between the columns, as shares of their sum."""
    centred = rows - rows.mean(0)
    values = torch.linalg.eigvalsh(centred.T @ centred / len(rows)).clamp(min=0)
    if not values.sum() > 0:
        raise NoValueError("the output of a block does not vary")
    shares = values / values.sum()
    return -float((shares * torch.log(shares + _EPSILON)).sum().item())


def _trainability(before: Tensor, after: Tensor, generator: torch.Generator) -> float | None:
    """2 - s - 1/s, largest if the block preserves the gradient's norm; None if positions do not match."""
    signs = torch.randint(0, 2, after.shape, generator=generator).to(after) * 2 - 1
    (gradient,) = torch.autograd.grad(after, before, signs)
    if before.dim() == after.dim() == 4 and before.shape[1:3] != after.shape[1:3]:
        stride, rest = divmod(before.shape[1], after.shape[1])
        if rest or before.shape[2] != after.shape[2] * stride:
            return None
        gradient = functional.pixel_unshuffle(gradient.movedim(-1, 1), stride).movedim(1, -1)
    if gradient.shape[:-1] != signs.shape[:-1]:
        return None
    rows = math.prod(signs.shape[:-1])
    size = float(torch.linalg.matrix_norm(gradient.flatten(0, -2).T @ signs.flatten(0, -2) / rows, 2).item())
    return 2 - size - 1 / (size + _SLACK)
