"""What another element type costs: each layer alone in that type, and the whole network, by simulation.

Weights and activations are rounded in float32 (fake quantisation). float16 and bfloat16 round each number;
int8 takes symmetric weights, by tensor or by output channel, and asymmetric activations whose range is that
of a run without rounding, with zero in it, as onnxruntime's static quantiser does by default.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from intrain_onnx.audit.activation_ranges import values_of
from intrain_onnx.audit.facts import PrecisionFacts
from intrain_onnx.config import ScoreConfig
from intrain_onnx.diff.follow import affine_after
from intrain_onnx.diff.statistics import Sums
from intrain_onnx.loading import allowance
from intrain_onnx.measure import initialise
from intrain_onnx.measure.prepare import Runnable
from intrain_onnx.network.recognise import Layer, Weight
from intrain_onnx.opset.traits import is_op
from intrain_onnx.runtime.arrays import to_numpy
from intrain_onnx.runtime.interpreter import Observer, Samples, run
from intrain_onnx.runtime.machine import machine_for

Range = tuple[float, float]

_HALF = {"float16": torch.float16, "bfloat16": torch.bfloat16}
_SECONDS = 120.0
"""Time after which no further layer is tried alone: the facts say how many were."""


def precision_facts(
    runnable: Runnable, config: ScoreConfig, dtype: str, *, per_channel: bool
) -> PrecisionFacts:
    """Signal to noise at the outputs, dB, with one layer rounded, and with all of them.

    Args:
        runnable: a checkpoint's converted network; its weights are as before afterwards.
        config: its seed draws the inputs.
        dtype: ``float16``, ``bfloat16`` or ``int8``.
        per_channel: int8 weights have a scale for each output channel.

    Raises:
        IntrainError: a node cannot be run.
    """
    with machine_for(config), torch.no_grad():
        fed = runnable.feed(torch.Generator().manual_seed(config.seed))
        trial = _Trial(runnable, fed, dtype, per_channel)
        began, layers = time.perf_counter(), runnable.layers.layers
        whole, lost = trial.cost(layers)
        alone: dict[str, float | None] = {}
        flushed: dict[str, float] = {}
        for layer in layers:
            allowance.current().check_time()
            if time.perf_counter() - began > _SECONDS:
                break
            trial.flushed = 0.0
            alone[layer.name] = trial.cost([layer])[0]
            if trial.flushed:
                flushed[layer.name] = trial.flushed
    return PrecisionFacts(dtype, whole, lost, alone, len(layers), flushed)


class _Trial:
    """Runs a network with some layers rounded.

    Attributes:
        flushed: largest share of a tensor that was not zero and became zero in half precision.
    """

    def __init__(
        self, runnable: Runnable, fed: Sequence[Tensor | Samples], dtype: str, per_channel: bool
    ) -> None:
        self.runnable, self.fed, self.dtype, self.per_channel = runnable, fed, dtype, per_channel
        self.values = values_of(runnable)
        self.ranges: dict[str, Range] = {}
        self.flushed = 0.0
        names = {name for layer in runnable.layers.layers for name in self._ends(layer)}
        watch = {name: partial(self._see, name) for name in names}
        self.expected = self._outputs(watch)

    def _see(self, name: str, parts: list[Tensor]) -> None:
        for part in parts:
            if part.is_floating_point() and part.numel():
                low, high = (v.item() for v in torch.aminmax(part))
                known = self.ranges.get(name, (0.0, 0.0))
                self.ranges[name] = min(known[0], low), max(known[1], high)

    def _ends(self, layer: Layer) -> list[str]:
        """The values that are rounded: what the layer reads, and its output, behind a ReLU if one follows."""
        value = self.values.get(layer.node_output)
        node = value.producer() if value is not None else None
        weights = {w.name for w in layer.weights}
        read = [v for v in node.inputs[:2] if v is not None and v.name not in weights] if node else []
        end = affine_after(layer, self.values.get(layer.output)).end
        users = [use.node for use in end.uses()] if end is not None else []
        if len(users) == 1 and is_op(users[0], "Relu", "Clip"):
            end = users[0].outputs[0]
        return [v.name for v in (*read[:1], end) if v is not None and v.name and v.const_value is None]

    def _outputs(self, observers: Mapping[str, Observer]) -> list[Tensor]:
        made = run(self.runnable.whole, self.fed, observers)
        return [part for parts in made for part in parts if part.is_floating_point()]

    def cost(self, layers: Sequence[Layer]) -> tuple[float | None, int]:
        """Signal to noise with these layers rounded, and the number of outputs that are not finite.

        None where nothing differs.
        """
        names = {name for layer in layers for name in self._ends(layer)}
        observers = {name: partial(self._rounded, name) for name in names if name in self.ranges}
        with self._weights_rounded(layers):
            found = self._outputs(observers)
        sums = Sums()
        for a, b in zip(self.expected, found, strict=True):
            sums.add(to_numpy(a), to_numpy(b))
        row = sums.row()
        return (float("-inf") if row.not_finite else row.snr_db), row.not_finite

    def _rounded(self, name: str, parts: list[Tensor]) -> list[Tensor]:
        return [self._round(part, self.ranges[name]) if part.is_floating_point() else part for part in parts]

    def _round(self, x: Tensor, of: Range) -> Tensor:
        if self.dtype in _HALF:
            return self._half(x)
        scale = (of[1] - of[0]) / 255
        if not scale:
            return x
        zero = round(-of[0] / scale)
        return ((x / scale).round().add(zero).clamp(0, 255) - zero) * scale

    def _half(self, x: Tensor) -> Tensor:
        rounded = x.to(_HALF[self.dtype]).to(x.dtype)
        lost = int(((x != 0) & (rounded == 0)).sum())
        self.flushed = max(self.flushed, lost / max(x.numel(), 1))
        return rounded

    @contextmanager
    def _weights_rounded(self, layers: Sequence[Layer]) -> Iterator[None]:
        parameters = self.runnable.parameters
        held = [(x, w, parameters[w.name]) for x in layers for w in x.weights if w.name in parameters]
        before = {w.name: parameter.detach().clone() for _, w, parameter in held}
        try:
            for layer, weight, parameter in held:
                parameter.copy_(self._weight(layer, weight, before[weight.name]))
            yield
        finally:
            for _, weight, parameter in held:
                parameter.copy_(before[weight.name])

    def _weight(self, layer: Layer, weight: Weight, x: Tensor) -> Tensor:
        """The weight, rounded as a quantiser has it: with BatchNorm folded in."""
        if self.dtype in _HALF:
            return self._half(x)
        rows = initialise.to_canonical(x, weight.steps)
        folded = torch.from_numpy(self._folded(layer)).to(rows) if len(rows) == layer.channels else None
        if folded is not None and layer.kind != "embedding":
            factor = torch.where(folded != 0, folded, 1.0).reshape(-1, *[1] * (rows.dim() - 1))
            rows = self._int8(rows * factor) / factor
        else:
            rows = self._int8(rows)
        return initialise.to_file_layout(rows, tuple(x.shape), weight.steps)

    def _folded(self, layer: Layer) -> np.ndarray[Any, Any]:
        return affine_after(layer, self.values.get(layer.output)).scale

    def _int8(self, rows: Tensor) -> Tensor:
        each = rows.flatten(1).abs().amax(1) if self.per_channel else rows.abs().amax().expand(len(rows))
        scale = each.reshape(-1, *[1] * (rows.dim() - 1)) / 127
        scale = torch.where(scale > 0, scale, 1.0)
        return (rows / scale).round().clamp(-127, 127) * scale
