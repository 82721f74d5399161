"""Ranges and channel statistics of all activations of a checkpoint, from one forward pass."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import onnx_ir as ir
import torch
from torch import Tensor, fx

from intrain_onnx.audit.facts import ChannelFacts, RangeFacts, ValueFacts
from intrain_onnx.audit.flow.magnitudes import degrees, masks
from intrain_onnx.config import ScoreConfig
from intrain_onnx.diff.follow import last_of_channels
from intrain_onnx.measure.prepare import Runnable
from intrain_onnx.network.recognise import Layer
from intrain_onnx.network.values import name_of
from intrain_onnx.runtime.interpreter import Observer, run
from intrain_onnx.runtime.machine import machine_for

_FLAT = 1e-6
"""A channel whose span is below this share of its magnitude is constant up to float32 round-off."""


class Watch:
    """Observes the probe of a checkpoint: a score calls it with the network that it converted.

    Attributes:
        runnable: that network; None before.
    """

    def __init__(self) -> None:
        self.runnable: Runnable | None = None
        self._watched: dict[str, ValueRange] = {}

    def __call__(self, runnable: Runnable) -> Mapping[str, Observer]:
        """Observers of all its values."""
        self.runnable = runnable
        self._watched = _watched(runnable)
        return self._watched

    def facts(self) -> RangeFacts:
        """Minimum, maximum and channel statistics of every activation that was observed."""
        assert self.runnable is not None
        return _facts(self._watched, self.runnable)

    def run_again(self, config: ScoreConfig) -> RangeFacts:
        """The same after a score that failed, from a forward pass of the network that it converted.

        Raises:
            IntrainError: the model cannot be run.
        """
        assert self.runnable is not None
        with machine_for(config), torch.no_grad():
            fed = self.runnable.feed(torch.Generator().manual_seed(config.seed))
            run(self.runnable.module, fed, self(self.runnable))
            return self.facts()

    def of_layers(self, names: Collection[str]) -> dict[str, ValueRange]:
        """Observers for another run, of the ends of some layers alone."""
        return {
            name: ValueRange(found.channel_axes, found.layer)
            for name, found in self._watched.items()
            if found.layer is not None and found.layer.name in names
        }

    def varies(self, other: ValueRange) -> bool:
        """Whether a channel of a layer varies within another run, or between it and the first."""
        first = next(found for found in self._watched.values() if found.layer is other.layer)
        return other.is_finite and not bool(_flat(*_joined(first, other)).all())


def values_of(runnable: Runnable) -> dict[str, ir.Value]:
    """The values of the graph, subgraphs included, by name."""
    return {v.name: v for node in runnable.probed.model.graph.all_nodes() for v in node.outputs if v.name}


@dataclass
class ValueRange:
    """Running statistics of a value over calls: one in a loop body occurs once per iteration."""

    channel_axes: tuple[int, ...] | None = None
    layer: Layer | None = None
    low: float = math.inf
    high: float = -math.inf
    not_finite: bool = False
    zeros: int = 0
    elements: int = 0
    channel_low: Tensor | None = None
    channel_high: Tensor | None = None
    rows: int = 0

    @property
    def is_finite(self) -> bool:
        """Whether channels were seen, all of them finite."""
        return self.channel_low is not None and not self.not_finite

    @property
    def is_silent(self) -> bool:
        """Whether all channels are zero."""
        return self.low == self.high == 0

    def __call__(self, parts: list[Tensor]) -> None:
        """Take in a value: one tensor, or one for each sample."""
        for part in parts:
            if part.is_floating_point() and part.numel():
                self._add(part.detach())

    def _add(self, part: Tensor) -> None:
        low, high = (v.item() for v in torch.aminmax(part))
        if not (math.isfinite(low) and math.isfinite(high)):
            self.not_finite = True
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.elements += part.numel()
        self.zeros += part.numel() - int(torch.count_nonzero(part))
        if self.channel_axes is not None:
            self._add_channels(part, self.channel_axes)

    def _add_channels(self, part: Tensor, channel_axes: tuple[int, ...]) -> None:
        axes = [a % part.dim() for a in channel_axes]
        others = [a for a in range(part.dim()) if a not in axes]
        low, high = (part.amin(others), part.amax(others)) if others else (part, part)
        same = self.channel_low is not None and self.channel_low.shape == low.shape
        self.channel_low = torch.minimum(self.channel_low, low) if same else low  # type: ignore[arg-type]
        self.channel_high = torch.maximum(self.channel_high, high) if same else high  # type: ignore[arg-type]
        self.rows += math.prod(part.shape[a] for a in others)


def _watched(runnable: Runnable) -> dict[str, ValueRange]:
    values = values_of(runnable)
    graphs = [m.graph for m in runnable.module.modules() if isinstance(m, fx.GraphModule)]
    names = [name for g in graphs for n in g.nodes for name in n.meta.get("onnx_outputs", ()) if name]
    watched = {name: ValueRange() for name in dict.fromkeys(names)}
    for layer in runnable.layers.layers:
        end = last_of_channels(values.get(layer.output))
        if end is not None and end.name in watched:
            watched[end.name].layer = layer
            watched[end.name].channel_axes = layer.channel_axes
    return watched


def _facts(watched: dict[str, ValueRange], runnable: Runnable) -> RangeFacts:
    ranges: dict[str, ValueFacts] = {}
    channels: dict[str, ChannelFacts] = {}
    graph, values = runnable.probed.model.graph, values_of(runnable)
    largest = {name: max(abs(r.low), abs(r.high)) for name, r in watched.items() if r.elements}
    added, powers = masks(graph, runnable.layers.slots, largest), degrees(graph)
    for name, found in watched.items():
        value = values.get(name)
        node = value.producer() if value is not None else None
        if not found.elements or value is None or node is None:
            continue
        zeros = found.zeros / found.elements
        ranges[name] = ValueFacts(
            name, name_of(node), node.op_type, largest[name], found.not_finite, zeros,
            added.get(value, 0.0), powers.get(value, 1),
        )  # fmt: skip
        if found.layer is not None and found.channel_low is not None and found.channel_high is not None:
            channels[found.layer.name] = _channel_facts(found, found.layer, node.op_type)
    return RangeFacts(ranges, channels)


def _channel_facts(found: ValueRange, layer: Layer, after: str) -> ChannelFacts:
    low, high = found.channel_low, found.channel_high
    assert low is not None
    assert high is not None
    constant = _flat(low, high)
    zero = constant & (low == 0) & (high == 0)
    return ChannelFacts(layer.name, after, low.numel(), int(constant.sum()), int(zero.sum()), found.rows)


def _joined(a: ValueRange, b: ValueRange) -> tuple[Tensor, Tensor]:
    """Least and largest value of each channel in two runs; in the second if their channels differ."""
    assert b.channel_low is not None
    assert b.channel_high is not None
    if a.channel_low is None or a.channel_high is None or a.channel_low.shape != b.channel_low.shape:
        return b.channel_low, b.channel_high
    return torch.minimum(a.channel_low, b.channel_low), torch.maximum(a.channel_high, b.channel_high)


def _flat(low: Tensor, high: Tensor) -> Tensor:
    """Which channels are constant, up to round-off."""
    return (high - low) <= _FLAT * torch.maximum(low.abs(), high.abs())
