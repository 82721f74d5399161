"""The context that proxies share: a network with weights and inputs, and memoised passes through it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx, nn

from intrain_onnx.measure.prepare import Runnable
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.recognise import Layer
from intrain_onnx.proxies.errors import NoValueError
from intrain_onnx.proxies.modified_interpreter import ModifiedInterpreter, Norms
from intrain_onnx.runtime.interpreter import Observer, Samples
from intrain_onnx.runtime.random_streams import generator_for

if TYPE_CHECKING:
    from intrain_onnx.config import ScoreConfig

Fed = Sequence[Tensor | Samples]


@dataclass(frozen=True, slots=True)
class Pass:
    """Results of one backward pass.

    Attributes:
        gradients: of the layers' weights that the loss depends on, by name.
        saliency: of each layer, z dL/dz summed over all axes but samples and channels: (samples, channels).
        seconds: wall-clock time.
    """

    gradients: Mapping[str, Tensor]
    saliency: Mapping[str, Tensor]
    seconds: float


@dataclass
class ProxyContext:
    """A converted network, as the proxies measure it.

    Attributes:
        runnable: the module and its inputs.
        config: the settings.
        parameter_count: trainable elements in the file, before the protocol's rewrites.
        macs: multiply-accumulate operations for one sample; None if all are unknown.
    """

    runnable: Runnable
    config: ScoreConfig
    parameter_count: int
    macs: int | None
    _drawn: dict[int, Fed] = field(default_factory=dict, init=False)
    _passes: dict[int, Pass] = field(default_factory=dict, init=False)
    _made: set[int] = field(default_factory=set, init=False)
    _found: set[int] = field(default_factory=set, init=False)
    _fresh: dict[str, Tensor] = field(default_factory=dict, init=False)

    @property
    def module(self) -> fx.GraphModule:
        """The network in torch, whose outputs the loss reads."""
        return self.runnable.whole

    @property
    def layers(self) -> LayerMap:
        """The static analysis of the same graph."""
        return self.runnable.layers

    @property
    def used(self) -> Signature:
        """Shapes of the inputs of one batch."""
        return self.runnable.used

    @property
    def samples(self) -> int:
        """Number of samples in a batch."""
        return self.used.batch

    @property
    def seed(self) -> int:
        """The seed of weights, inputs and labels."""
        return self.config.seed

    @property
    def weights(self) -> dict[str, nn.Parameter]:
        """Weights of the layers by name; a tied one once."""
        known = self.runnable.parameters
        return {w.name: known[w.name] for x in self.layers.layers for w in x.weights if w.name in known}

    def feed(self, batch: int = 0) -> Fed:
        """The inputs of a batch, memoised; batch 0 is that of the score's first run."""
        if batch not in self._drawn:
            seed = self.seed if batch == 0 else generator_for(self.seed, f"batch {batch}").initial_seed()
            generator = torch.Generator().manual_seed(seed)
            self._drawn[batch] = self.runnable.feed(generator)
        return self._drawn[batch]

    @contextmanager
    def borrowed(self) -> Iterator[None]:
        """Initialise and calibrate the module as for a score; restore it on exit."""
        state = {name: (t, t.detach().clone()) for name, t in _tensors(self.module).items()}
        grads = {name: p.grad for name, p in self.module.named_parameters()}
        required = {name: p.requires_grad for name, p in self.module.named_parameters()}
        try:
            self._start_afresh()
            yield
        finally:
            with torch.no_grad():
                for tensor, value in state.values():
                    tensor.copy_(value)
            for name, parameter in self.module.named_parameters():
                parameter.grad = grads[name]
                parameter.requires_grad_(required[name])
            self._drawn.clear()
            self._passes.clear()
            self._fresh.clear()

    def _start_afresh(self) -> None:
        for parameter in self.module.parameters():
            parameter.grad = None
            parameter.requires_grad_(parameter.is_floating_point())
        if self.config.weights == "reinitialise":
            self.draw_weights()
        if self.config.calibrate:
            self.runnable.calibrate(self.feed())
        self._fresh = {name: t.detach().clone() for name, t in _tensors(self.module).items()}

    def begin(self) -> None:
        """Note from here on which passes another proxy uses."""
        self._made.clear()
        self._found.clear()

    @property
    def seconds_found(self) -> float:
        """Wall-clock time of the passes used since `begin` that had been made before."""
        return math.fsum(self._passes[batch].seconds for batch in self._found)

    def draw_weights(self) -> None:
        """Re-initialise the weights without calibration; does nothing if the protocol keeps the file's."""
        if self.config.weights == "reinitialise":
            self.runnable.redraw(self.seed)

    @contextmanager
    def scratch(self) -> Iterator[None]:
        """Restore the weights of `borrowed` on exit, so that they may be changed."""
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in _tensors(self.module).items():
                    tensor.copy_(self._fresh[name])

    def run(
        self,
        fed: Fed | None = None,
        observers: Mapping[str, Observer] | None = None,
        *,
        norms: Norms = "as_is",
        attribute: Callable[[Tensor], Tensor] | None = None,
        activation: Callable[[list[Tensor]], None] | None = None,
        batch_norm: Callable[[list[Tensor]], None] | None = None,
    ) -> list[list[Tensor]]:
        """The outputs of one forward pass, each as a list of tensors; see ``ModifiedInterpreter``."""
        interpreter = ModifiedInterpreter(
            self.module,
            observers,
            norms=norms,
            attribute=attribute,
            activation=activation,
            batch_norm=batch_norm,
        )
        return interpreter.outputs(*(self.feed() if fed is None else fed))

    def loss(self, outputs: Sequence[list[Tensor]], batch: int = 0) -> Tensor:
        """The synthetic loss of the score, with separate labels for each batch."""
        seed = self.seed if batch == 0 else generator_for(self.seed, f"labels {batch}").initial_seed()
        generator = torch.Generator().manual_seed(seed)
        loss, _ = self.runnable.loss(outputs, generator)
        return loss

    def backward(self, batch: int = 0) -> Pass:
        """One backward pass of a batch, memoised.

        Raises:
            NoValueError: the loss depends on no weight of a layer.
        """
        if batch not in self._passes:
            self._passes[batch] = self._backward(batch)
            self._made.add(batch)
        elif batch not in self._made:
            self._found.add(batch)
        return self._passes[batch]

    def _backward(self, batch: int) -> Pass:
        started = time.perf_counter()
        saliency: dict[str, Tensor] = {}
        observers = {x.output: partial(self._watch, x, saliency) for x in self.layers.layers}
        loss = self.loss(self.run(self.feed(batch), observers), batch)
        weights = self.weights
        found = torch.autograd.grad(loss, list(weights.values()), allow_unused=True)
        gradients = {n: g for n, g in zip(weights, found, strict=True) if g is not None}
        if not gradients:
            raise NoValueError("the loss reaches no weight of a layer")
        if self.runnable.device.type == "cuda":
            torch.cuda.synchronize(self.runnable.device)
        return Pass(gradients, saliency, time.perf_counter() - started)

    def _watch(self, layer: Layer, found: dict[str, Tensor], parts: list[Tensor]) -> None:
        for index, part in enumerate(parts):
            if part.requires_grad:
                part.register_hook(partial(self._note, layer, found, (index, len(parts)), part.detach()))

    def _note(
        self, layer: Layer, found: dict[str, Tensor], which: tuple[int, int], z: Tensor, grad: Tensor
    ) -> None:
        index, count = which
        size = self.samples // count
        rows = self.by_sample(z * grad, layer.channel_axes, size).sum(1)
        if layer.name not in found:
            found[layer.name] = rows.new_zeros(self.samples, rows.shape[1])
        found[layer.name][index * size : (index + 1) * size] += rows  # a layer in a Loop runs many times

    def by_sample(self, x: Tensor, channel_axes: Sequence[int], samples: int) -> Tensor:
        """A value as (samples, positions, channels).

        Raises:
            NoValueError: no axis has the length of the batch.
        """
        channels = [a % x.dim() for a in channel_axes]
        others = [a for a in range(x.dim()) if a not in channels]
        fitting = [a for a in others if x.shape[a] == samples]
        time_first = tuple(channel_axes) == (1, 3)  # a recurrence: steps, directions, samples, channels
        lead = fitting[-1 if time_first else 0] if fitting else None
        if lead is None and others and others[0] == 0 and x.shape[0] % samples == 0:
            lead = 0  # samples and positions share the first axis
        if lead is None:
            raise NoValueError("samples cannot be told apart")
        order = [lead, *(a for a in others if a != lead), *channels]
        return x.permute(order).reshape(samples, -1, math.prod(x.shape[a] for a in channels))

    def continuous(
        self, change: Callable[[Tensor], Tensor], fed: Fed | None = None
    ) -> tuple[list[Tensor | Samples], dict[str, Observer]]:
        """Apply a function to every float input; without one, to the outputs of the embeddings.

        Returns:
            The inputs, and the observers to run with.

        Raises:
            NoValueError: the network has neither.
        """
        given = list(self.feed() if fed is None else fed)
        fixed = {name for name, value in self.used.given.items() if value.source == "value"}  # controls
        found = [
            i
            for i, spec in enumerate(self.used.inputs)
            if spec.kind == "noise" and spec.batch_axis is not None and spec.number >= 0
            if spec.name not in fixed
        ]
        for index in found:
            value = given[index]
            changed = [change(p) for p in value] if isinstance(value, Samples) else change(value)
            given[index] = Samples(changed) if isinstance(changed, list) else changed
        if found:
            return given, {}
        embeddings = [x for x in self.layers.layers if x.kind == "embedding"]
        if not embeddings:
            raise NoValueError("needs a continuous input")
        return given, {x.node_output: lambda parts: [change(p) for p in parts] for x in embeddings}


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}
