"""The probe: one forward pass for participation ratios, one backward pass for gradient statistics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import TypeVar

import torch
from torch import Tensor, fx
from torch.utils.hooks import RemovableHandle

from intrain_onnx.errors import NumericalError
from intrain_onnx.measure.finiteness import Finder, NotFiniteError, first_non_finite_value, numerical
from intrain_onnx.measure.initialise import parameters
from intrain_onnx.measure.prepare import Runnable
from intrain_onnx.measure.statistics import gradient_statistics, participation_ratio, standardised_ratio
from intrain_onnx.measure.streamed import made_again
from intrain_onnx.measure.streamed import weights as streamed_weights
from intrain_onnx.measure.trace import GradientStatistics, LayerTrace, Participation, PointTrace, Trace
from intrain_onnx.network.measuring_points import Point
from intrain_onnx.runtime.interpreter import Observer, Samples, run


def probe(
    runnable: Runnable,
    fed: Sequence[Tensor | Samples],
    generator: torch.Generator,
    watching: Mapping[str, Observer] = MappingProxyType({}),
) -> Trace:
    """Measure one forward and one backward pass.

    Participation ratios are computed when each activation appears; each gradient is read and freed when it
    is complete. So activations and gradients are not kept beyond what autograd keeps.

    Args:
        runnable: the module, whose outputs the loss reads, and the values to measure.
        fed: one tensor for each input, or :class:`Samples`.
        generator: its seed keys labels and targets.
        watching: further observers, by name of the value, which change none.

    Raises:
        NumericalError: an activation, the loss or a gradient is not finite; names the node where it began.
        UnsupportedError: a node fails, or no output has a gradient.
    """
    module = runnable.module
    found: dict[str, LayerTrace] = {}
    between: dict[str, PointTrace] = {}
    squares: dict[str, Tensor] = {}
    main = {name for node in module.graph.nodes for name in node.meta.get("onnx_outputs", ())}
    observers: dict[str, _RowsObserver] = {
        layer.output: (_RowsObserver if layer.output in main else _BodyObserver)(
            layer.channel_axes, [_LayerReader(layer.name, found)], runnable.used.batch
        )
        for layer in runnable.layers.layers
    }
    states: dict[str, _RowsObserver] = {}
    for point in runnable.points:
        made = _RowsObserver(point.channel_axes, [], runnable.used.batch, point.step_axis)
        shared = observers if point.step_axis is None else states
        observer = shared.setdefault(point.value, made)
        observer.readers.append(_PointReader(point, runnable.all_points, between))
        if point.cut:
            observer.watch_gradient = partial(_add_square, squares, point.value)
    started = time.perf_counter()
    try:
        with torch.enable_grad(), made_again(module):
            outputs = run(module, fed, _joined(watching, _joined(states, observers)))
            for observer in observers.values():
                observer.finish()
            loss, terms = runnable.loss(outputs, generator)
        if not math.isfinite(loss.item()):
            raise NotFiniteError
    except NotFiniteError:
        raise first_non_finite_value(module, fed) from None
    forward = time.perf_counter() - started
    del outputs
    gradients = backward(module, loss)
    bad = [name for name, statistics in gradients.items() if not math.isfinite(statistics.max_abs)]
    if bad:
        raise _first_non_finite_gradient(runnable, fed, bad[0])
    between |= {n: replace(between[n], gradient=math.sqrt(s.item())) for n, s in squares.items()}
    seconds = {"forward": forward, "backward": time.perf_counter() - started - forward}
    samples = runnable.used.batch
    return Trace(generator.initial_seed(), found, gradients, tuple(terms), seconds, between, samples)


def _add_square(squares: dict[str, Tensor], name: str, gradient: Tensor) -> None:
    """Add the sum of squares of a gradient, or of its part, in float64 on its device."""
    square = torch.linalg.vector_norm(gradient).double().square()
    squares[name] = squares[name] + square if name in squares else square


def _joined(some: Mapping[str, Observer], others: Mapping[str, Observer]) -> Mapping[str, Observer]:
    """Both observers of the values that have two."""

    def both(name: str, parts: list[Tensor]) -> None:
        some[name](parts)
        others[name](parts)

    return {**some, **others, **{name: partial(both, name) for name in some.keys() & others.keys()}}


_T = TypeVar("_T")

Rows = tuple[int, ...]
"""The shape of an activation; in lock step the number of calls comes first."""


@dataclass(frozen=True, slots=True)
class _LayerReader:
    name: str
    found: dict[str, LayerTrace]

    def __call__(self, matrix: Tensor, shape: Rows, samples: int) -> None:
        rows, channels = matrix.shape
        self.found[self.name] = LayerTrace(shape, rows, channels, _participation(matrix, samples))


@dataclass(frozen=True, slots=True)
class _PointReader:
    point: Point
    plain: bool
    found: dict[str, PointTrace]

    def __call__(self, matrix: Tensor, shape: Rows, samples: int) -> None:
        standardised = _finite(standardised_ratio, matrix)
        plain = _participation(matrix, samples) if self.plain else None
        rows, channels = matrix.shape
        self.found[self.point.value] = PointTrace(
            rows,
            channels,
            standardised=standardised,
            plain=plain.ratio if plain else None,
            scale=_scale(matrix) if self.point.cut else 0.0,
        )


def _scale(matrix: Tensor) -> float:
    """Root mean square over the columns of their standard deviations; 0 for fewer than two rows."""
    return torch.var(matrix, 0, correction=0).mean().sqrt().item() if len(matrix) > 1 else 0.0


def _participation(matrix: Tensor, samples: int) -> Participation | None:
    return _finite(partial(participation_ratio, samples=samples), matrix)


def _finite(statistic: Callable[[Tensor], _T], matrix: Tensor) -> _T | None:
    """A statistic of a matrix; None for fewer than two rows or no channel."""
    rows, channels = matrix.shape
    if rows < 2 or not channels:
        return None
    try:
        return statistic(matrix)
    except ValueError:
        raise NotFiniteError from None


@dataclass(slots=True)
class _RowsObserver:
    """Reshapes an activation to (rows, channels) once, and passes it to each reader.

    Attributes:
        channel_axes: see `as_rows`.
        readers: get the matrix, the activation's shape, and the samples that the rows consist of in order.
        batch: samples of a run.
        step_axis: the mean of each step along it is subtracted first.
        watch_gradient: gets the gradient of the activation.
    """

    channel_axes: tuple[int, ...]
    readers: list[Callable[[Tensor, Rows, int], None]]
    batch: int
    step_axis: int | None = None
    watch_gradient: Callable[[Tensor], None] | None = None

    def __call__(self, parts: list[Tensor]) -> None:
        if self.watch_gradient is not None:
            for part in parts:
                if part.requires_grad:
                    part.register_hook(self.watch_gradient)
        self.measure(parts)

    def measure(self, parts: list[Tensor]) -> None:
        """Pass all rows of a value to the readers."""
        matrices = [as_rows(self.centred(part.detach()), self.channel_axes) for part in parts]
        matrix = torch.cat(matrices) if len(matrices) > 1 else matrices[0]
        shape = tuple(parts[0].shape) if len(parts) == 1 else (len(parts), *parts[0].shape)
        for reader in self.readers:
            reader(matrix, shape, self.samples(parts))

    def samples(self, parts: list[Tensor]) -> int:
        """Samples whose rows follow each other: calls in lock step, or the first axis if it holds them."""
        if len(parts) > 1:
            return len(parts) if all(p.shape == parts[0].shape for p in parts) else 1
        first = parts[0].shape[:1] == (self.batch,) and 0 not in self.channel_axes
        return self.batch if first else 1

    def centred(self, x: Tensor) -> Tensor:
        """What of x differs between samples in the same step, where steps are told apart."""
        if self.step_axis is None:
            return x
        kept = {self.step_axis, *(axis % x.dim() for axis in self.channel_axes)}
        return x - x.mean([axis for axis in range(x.dim()) if axis not in kept], keepdim=True)

    def finish(self) -> None:
        """Does nothing: a value of the main graph is observed once."""


class _BodyObserver(_RowsObserver):
    """Collects the outputs of a layer in a subgraph over all executions, and measures them together."""

    __slots__ = ("parts",)

    def __init__(
        self,
        channel_axes: tuple[int, ...],
        readers: list[Callable[[Tensor, Rows, int], None]],
        batch: int,
    ) -> None:
        super().__init__(channel_axes, readers, batch)
        self.parts: list[Tensor] = []

    def __call__(self, parts: list[Tensor]) -> None:
        self.parts += [part.detach() for part in parts]

    def samples(self, parts: list[Tensor]) -> int:
        """1: the parts are steps, which are not independent."""
        return 1

    def finish(self) -> None:
        """Measure the rows of all executions."""
        if self.parts:
            self.measure(self.parts)
            self.parts = []


def as_rows(x: Tensor, channel_axes: tuple[int, ...]) -> Tensor:
    """Reshape an activation to (rows, channels): the channel axes last, all others flattened."""
    axes = [a % x.dim() for a in channel_axes]
    order = [a for a in range(x.dim()) if a not in axes]
    channels = math.prod(x.shape[a] for a in axes)
    if order == list(range(x.dim() - len(axes))):
        return x.reshape(-1, channels)
    # Channels outermost in memory, so that the copy and sums over rows access contiguous memory.
    return x.permute(*axes, *order).reshape(channels, -1).T


def backward(module: fx.GraphModule, loss: Tensor) -> dict[str, GradientStatistics]:
    """Run the backward pass; returns statistics of each gradient, which is freed once it is complete."""
    found: dict[str, GradientStatistics] = {}
    handles: list[RemovableHandle] = []
    for name, parameter in parameters(module).items():
        parameter.grad = None
        handles.append(parameter.register_post_accumulate_grad_hook(_Reader(name, found)))
    streamed = streamed_weights(module)
    for name, weight in streamed.items():
        weight.read = partial(_note, found, name)
    try:
        loss.backward()
    finally:
        for handle in handles:
            handle.remove()
        for weight in streamed.values():
            weight.read = None
    return found


def _note(found: dict[str, GradientStatistics], name: str, gradient: Tensor) -> None:
    found[name] = gradient_statistics(gradient)


@dataclass(frozen=True, slots=True)
class _Reader:
    name: str
    found: dict[str, GradientStatistics]

    def __call__(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        _note(self.found, self.name, parameter.grad)
        parameter.grad = None


def _first_non_finite_gradient(
    runnable: Runnable, fed: Sequence[Tensor | Samples], parameter: str
) -> NumericalError:
    finder = Finder(runnable.module, "gradient")
    loss, _ = runnable.loss(finder.outputs(*fed), torch.Generator().manual_seed(0))
    loss.backward()
    for p in runnable.module.parameters():
        p.grad = None
    # The gradient of the culprit's output is bad: its only reader, if there is one, computed it.
    culprit = finder.culprit
    if culprit is not None and len(culprit.users) == 1:
        reader = next(iter(culprit.users))
        culprit = reader if reader.op == "call_function" else culprit
    return numerical(f"the gradient of {parameter!r} is not finite; it began", culprit)
