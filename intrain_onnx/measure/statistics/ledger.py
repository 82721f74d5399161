"""Collects what is measured in a pass, and hands out the numbers once it is over."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import torch
from torch import Tensor

from intrain_onnx.measure.statistics.moments import Moments, gradient_moments, second_moments
from intrain_onnx.measure.statistics.projections import Projections
from intrain_onnx.measure.trace import GradientStatistics

_SMALL: Final = 8192
"""Elements up to which calls cost more than their arithmetic."""

_GATHERED: Final = 1 << 20
"""Elements of one shape that are kept before they are measured."""

_Use = Callable[[list[float]], None]


@dataclass(frozen=True, slots=True)
class _Kind:
    """What small tensors share that are measured by one call."""

    function: Callable[..., Tensor]
    shape: tuple[int, ...]
    like: tuple[Any, ...]
    samples: int = 1
    covariance: bool = True
    correlation: bool = False
    centred: bool = False


@dataclass(slots=True)
class _Group:
    tensors: list[Tensor] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)
    uses: list[_Use] = field(default_factory=list)


class Ledger:
    """Measures tensors, small ones of one shape together, and brings all numbers from the device at once."""

    def __init__(self) -> None:
        self._groups: defaultdict[_Kind, _Group] = defaultdict(_Group)
        self._found: list[tuple[Tensor, list[_Use]]] = []

    def matrix(
        self,
        x: Tensor,
        use: Callable[[Moments], None],
        *,
        samples: int = 1,
        covariance: bool = True,
        correlation: bool = False,
        mean: Tensor | None = None,
        own: bool = False,
        panels: list[Tensor] | None = None,
        projections: Projections | None = None,
    ) -> None:
        """Measure a matrix (see ``second_moments``); nobody may change it afterwards."""

        def told(numbers: list[float]) -> None:
            use(Moments(*numbers))

        if x.numel() > _SMALL or panels is not None:
            means = None if mean is None else mean[None, None]
            found = second_moments(
                x[None],
                samples,
                covariance=covariance,
                correlation=correlation,
                mean=means,
                own=own,
                panels=panels,
                projections=projections,
            )
            self._found.append((found, [told]))
            return
        like = (x.dtype, x.device)
        kind = _Kind(second_moments, tuple(x.shape), like, samples, covariance, correlation, mean is not None)
        self._gather(kind, x, told, mean)

    def moments(self, found: Tensor, use: Callable[[Moments], None]) -> None:
        """Take moments, (1, 7), that were found in another way."""
        self._found.append((found, [lambda numbers: use(Moments(*numbers))]))

    def gradient(self, gradient: Tensor, use: Callable[[GradientStatistics], None]) -> None:
        """Measure a gradient (see ``gradient_moments``); nobody may change it afterwards."""
        size = gradient.numel()

        def told(numbers: list[float]) -> None:
            use(GradientStatistics(numbers[0], numbers[1], size))

        flat = gradient.reshape(-1)
        if size > _SMALL:
            self._found.append((gradient_moments(flat[None]), [told]))
        else:
            self._gather(_Kind(gradient_moments, (size,), (flat.dtype, flat.device)), flat, told)

    def number(self, x: Tensor, use: Callable[[float], None]) -> None:
        """Take a number of no dimension."""
        self._found.append((x.double().reshape(1, 1), [lambda numbers: use(numbers[0])]))

    def settle(self) -> None:
        """Give out all numbers.

        Raises:
            ValueError: whatever the receivers raise.
        """
        for kind in list(self._groups):
            self._measure(kind)
        found, self._found = self._found, []
        if not found:
            return
        numbers = iter(torch.cat([x.reshape(-1) for x, _ in found]).tolist())
        for x, uses in found:
            for use in uses:
                use([next(numbers) for _ in range(x.shape[1])])

    def _gather(self, kind: _Kind, x: Tensor, use: _Use, mean: Tensor | None = None) -> None:
        group = self._groups[kind]
        group.tensors.append(x)
        group.uses.append(use)
        if mean is not None:
            group.means.append(mean)
        if len(group.tensors) * max(x.numel(), x.shape[-1] ** 2 if x.dim() > 1 else 0) > _GATHERED:
            self._measure(kind)

    def _measure(self, kind: _Kind) -> None:
        group = self._groups.pop(kind)
        stacked = torch.stack(group.tensors)
        if kind.function is gradient_moments:
            self._found.append((gradient_moments(stacked), group.uses))
            return
        mean = torch.stack(group.means)[:, None] if kind.centred else None
        found = second_moments(
            stacked,
            kind.samples,
            covariance=kind.covariance,
            correlation=kind.correlation,
            mean=mean,
            own=not kind.centred,
        )
        self._found.append((found, group.uses))
