"""The probe: one forward pass for participation ratios, one backward pass for gradient statistics."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from intrain_onnx.errors import NumericalError
from intrain_onnx.measure.calibration import HINT, Calibration, Standard, observed
from intrain_onnx.measure.finiteness import (
    SCALED,
    Finder,
    NotFiniteError,
    first_non_finite_value,
    numerical,
)
from intrain_onnx.measure.prepare import Runnable
from intrain_onnx.measure.statistics import through_weights
from intrain_onnx.measure.statistics.ledger import Ledger
from intrain_onnx.measure.statistics.moments import Moments, as_rows, full, is_estimated, panels_of
from intrain_onnx.measure.statistics.projections import Projections
from intrain_onnx.measure.statistics.ratios import participation, standardised
from intrain_onnx.measure.statistics.through_weights import Input, Reader
from intrain_onnx.measure.trace import GradientStatistics, LayerTrace, Participation, PointTrace, Trace
from intrain_onnx.network.measuring_points import Point
from intrain_onnx.runtime import recomputed, streamed
from intrain_onnx.runtime.interpreter import Observer, Samples, run
from intrain_onnx.runtime.recomputed import Changes


def calibrate_and_probe(
    runnable: Runnable,
    fed: Sequence[Tensor | Samples],
    generator: torch.Generator,
    watching: Mapping[str, Observer] = MappingProxyType({}),
) -> Trace:
    """Calibrate the weights and measure, in the same forward and backward pass (see :class:`Calibration`).

    A second pass is made where the first cannot have the gradients of the calibrated network.

    Raises:
        NumericalError, UnsupportedError: see `probe`.
    """
    calibration = runnable.calibration()
    if calibration.gradients_hold:
        try:
            return _Pass(runnable, generator, calibration).run(fed, watching)
        except _CopiedWeightError:
            pass
    runnable.calibrate(fed)
    return probe(runnable, fed, generator, watching)


def probe(
    runnable: Runnable,
    fed: Sequence[Tensor | Samples],
    generator: torch.Generator,
    watching: Mapping[str, Observer] = MappingProxyType({}),
    known: Trace | None = None,
) -> Trace:
    """Measure one forward and one backward pass.

    The moments of each activation are taken when it appears; each gradient is read and freed when it is
    complete. So activations and gradients are not kept beyond what autograd keeps, but for small ones. The
    numbers are brought from the device twice: after the forward and after the backward pass.

    Args:
        runnable: the module, whose outputs the loss reads, and the values to measure.
        fed: one tensor for each input, or :class:`Samples`.
        generator: its seed keys labels and targets.
        watching: further observers, by name of the value, which change none.
        known: of a run with the same weights and inputs, whose activations are not measured again.

    Raises:
        NumericalError: an activation, the loss or a gradient is not finite; names the node where it began.
        UnsupportedError: a node fails, or no output has a gradient.
    """
    return _Pass(runnable, generator, None, known).run(fed, watching)


class _CopiedWeightError(Exception):
    """Autograd saved a copy of a weight that was calibrated afterwards."""


class _Pass:
    """One forward and one backward pass, and what was found in it."""

    def __init__(
        self,
        runnable: Runnable,
        generator: torch.Generator,
        calibration: Calibration | None,
        known: Trace | None = None,
    ) -> None:
        self.runnable = runnable
        self.generator = generator
        self.calibration = calibration
        self.ledger = Ledger()
        self.known = known
        self.layers: dict[str, LayerTrace] = {}
        self.points: dict[str, PointTrace] = {}
        if known is not None:
            self.layers |= known.layers
            self.points |= {name: replace(point, gradient=None) for name, point in known.points.items()}
        self.squares: dict[str, Tensor] = {}
        self.through: dict[str, Tensor] = {}
        count = runnable.projections
        self.projections = Projections(count, generator.initial_seed()) if count else None
        self.parameters = runnable.parameters

    def run(self, fed: Sequence[Tensor | Samples], watching: Mapping[str, Observer]) -> Trace:
        runnable, module, calibration = self.runnable, self.runnable.module, self.calibration
        observers, states = self.observers()
        first = calibration.observers if calibration is not None else {}
        changes = calibration.changes if calibration is not None else Changes()
        started = time.perf_counter()
        try:
            with torch.enable_grad(), streamed.made_again(module) as saving:
                watched = observed(first, observed(watching, observed(states, observers)))
                if runnable.segments is not None:
                    outputs = recomputed.run(module, fed, watched, runnable.segments.of, saving, changes)
                else:
                    outputs = run(module, fed, watched)
                if calibration is not None and not calibration.gradients_hold:
                    raise _CopiedWeightError
                for observer in observers.values():
                    observer.finish()
                loss, terms = runnable.loss(outputs, self.generator)
            self.ledger.settle()
            if not math.isfinite(loss.item()):
                raise NotFiniteError
        except NotFiniteError:
            hint = HINT if calibration is not None else SCALED
            raise first_non_finite_value(runnable.whole, fed, hint) from None
        forward = time.perf_counter() - started
        del outputs
        gradients = backward(runnable, loss, self.ledger)
        changes.noted.clear()  # weights as drawn, which cycles of observers would hold into the next run
        for name, square in self.squares.items():
            self.ledger.number(square, partial(self._passed, name))
        self.ledger.settle()
        bad = [name for name, statistics in gradients.items() if not math.isfinite(statistics.max_abs)]
        if bad:
            raise _first_non_finite_gradient(runnable, fed, bad[0])
        seconds = {"forward": forward, "backward": time.perf_counter() - started - forward}
        seed, samples = self.generator.initial_seed(), runnable.used.batch
        return Trace(seed, self.layers, gradients, tuple(terms), seconds, self.points, samples)

    def observers(self) -> tuple[Mapping[str, _RowsObserver], Mapping[str, Observer]]:
        """Observers of layers and points, and of states of recurrences, which are centred by step.

        Where what they would measure is known, those of the gradients of cuts alone.
        """
        runnable = self.runnable
        if self.known is not None:
            cuts = [point for point in runnable.points if point.cut]
            return {}, {cut.value: partial(_watch_gradient, self._square_of(cut)) for cut in cuts}
        main = {name for node in runnable.module.graph.nodes for name in node.meta.get("onnx_outputs", ())}
        found: dict[str, _RowsObserver] = {}
        for layer in runnable.layers.layers:
            kind = _RowsObserver if layer.output in main else _BodyObserver
            found[layer.output] = kind(self, layer.output, layer.channel_axes, layer=layer.name)
        states: dict[str, _RowsObserver] = {}
        for point in runnable.points:
            made = _RowsObserver(self, point.value, point.channel_axes, step_axis=point.step_axis)
            observer = (found if point.step_axis is None else states).setdefault(point.value, made)
            observer.points.append(point)
            if point.cut:
                observer.watch_gradient = self._square_of(point)
        if runnable.device.type == "cpu":  # elsewhere its decisions would cost more than they save
            for value, readers in runnable.readers.items():
                axes = (readers[0].axis,)
                held = [r for r in readers if r.layer.weights[0].name in self.parameters]
                observer = found.setdefault(value, _RowsObserver(self, value, axes))
                if observer.channel_axes == axes:
                    observer.readers = held
        return found, states

    def _square_of(self, cut: Point) -> Callable[[Tensor], None]:
        return partial(self._add_square, cut.value)

    def tell(self, reader: Reader, of: Input) -> None:
        """Note the moments of a layer's outputs before it runs, and calibrate it."""
        layer = reader.layer
        weight = self.parameters.get(layer.weights[0].name)
        found = of.through(weight, reader) if weight is not None else None
        if found is None:
            return
        due = self.calibration is not None and self.calibration.is_due(layer, of.rows)
        factor = found.variance.rsqrt() if due else None
        correlation = any(point.value == layer.output for point in self.runnable.points)
        self.through[layer.output] = found.moments(factor, correlation)
        if self.calibration is not None and factor is not None:
            self.calibration.before(layer, found.mean, factor)

    def taken(self, value: str, shape: tuple[int, ...]) -> Standard | None:
        """What calibration has already made of a layer's output, and need not keep any longer."""
        found = self.calibration.standardised.pop(value, None) if self.calibration is not None else None
        return found if found is not None and found.shape == shape else None

    def _add_square(self, name: str, gradient: Tensor) -> None:
        """Add the sum of squares of a gradient, or of its part, in float64 on its device."""
        square = torch.linalg.vector_norm(gradient).double().square()
        self.squares[name] = self.squares[name] + square if name in self.squares else square

    def _passed(self, name: str, square: float) -> None:
        self.points[name] = replace(self.points[name], gradient=math.sqrt(square))


@dataclass(frozen=True, slots=True)
class _Rows:
    """A measured matrix: shape of its value, its own, samples that the rows consist of, machine epsilon."""

    shape: tuple[int, ...]
    rows: int
    channels: int
    samples: int
    eps: float

    def participation(self, moments: Moments) -> Participation:
        try:
            return participation(moments, self.rows, self.channels, self.samples, self.eps)
        except ValueError:
            raise NotFiniteError from None

    def standardised(self, moments: Moments) -> float | None:
        try:
            return standardised(moments, self.rows)
        except ValueError:
            raise NotFiniteError from None

    def deviation(self, moments: Moments) -> float:
        """Root mean square over the columns of their standard deviations."""
        return math.sqrt(moments.trace / (self.rows * self.channels)) * moments.scale


class _RowsObserver:
    """Reshapes an activation to (rows, channels) once, and has its moments taken for a layer and for points.

    Attributes:
        of: the pass.
        value: name of the activation.
        channel_axes: see `as_rows`.
        layer: name of the layer whose output it is.
        step_axis: the mean of each step along it is subtracted first.
        points: those at this value.
        readers: layers whose outputs may be told from this value.
        watch_gradient: gets the gradient of the activation.
    """

    def __init__(
        self,
        of: _Pass,
        value: str,
        channel_axes: tuple[int, ...],
        *,
        layer: str | None = None,
        step_axis: int | None = None,
    ) -> None:
        self.of = of
        self.value = value
        self.channel_axes = channel_axes
        self.layer = layer
        self.step_axis = step_axis
        self.points: list[Point] = []
        self.readers: Sequence[Reader] = ()
        self.watch_gradient: Callable[[Tensor], None] | None = None

    @property
    def takes_all(self) -> bool:
        """Whether the covariance of points is wanted too."""
        return self.of.runnable.all_points

    @property
    def is_plain(self) -> bool:
        """Whether the covariance is wanted, and not only the correlation."""
        return self.layer is not None or self.takes_all

    def __call__(self, parts: list[Tensor]) -> None:
        if self.watch_gradient is not None:
            _watch_gradient(self.watch_gradient, parts)
        self.measure(parts)

    def measure(self, parts: list[Tensor]) -> None:
        """Have the moments of all rows of a value taken."""
        rows = self.rows(parts)
        if rows.rows < 2 or not rows.channels or not parts[0].is_floating_point():
            self.told(rows, None)
            return
        ledger, use = self.of.ledger, partial(self.told, rows)
        known = self.of.through.pop(self.value, None) if self.step_axis is None else None
        projections = self.of.projections
        estimated = is_estimated(projections, rows.rows, rows.channels, rows.samples)
        is_measured = self.layer is not None or bool(self.points)
        readers = through_weights.paying(
            self.readers,
            rows.rows,
            rows.samples,
            shared=is_measured and not estimated,
            projections=projections,
        )
        if known is not None and not readers:
            ledger.moments(known, use)
            return
        standard = self.of.taken(self.value, tuple(parts[0].shape)) if self.step_axis is None else None
        panels = None
        if standard is not None:
            matrix, mean, own = standard.matrix, standard.mean, True
        else:
            matrices = [as_rows(self.centred(part.detach()), self.channel_axes) for part in parts]
            matrix, mean = torch.cat(matrices) if len(matrices) > 1 else matrices[0], None
            own = matrix.untyped_storage().data_ptr() != parts[0].untyped_storage().data_ptr()
        if readers:
            level = torch.zeros_like(matrix[0]) if standard is not None else matrix.mean(0)
            if standard is None:
                matrix, mean, own = matrix - level, level, True
            panels = panels_of(matrix)
            of = Input(matrix, level, full(panels), rows.samples)
            for reader in readers:
                self.of.tell(reader, of)
        if not is_measured:
            return
        by = projections if estimated and panels is None else None
        ledger.matrix(
            matrix,
            use,
            samples=rows.samples if self.layer is not None or by is not None else 1,
            covariance=self.is_plain,
            correlation=bool(self.points),
            mean=mean,
            own=own,
            panels=panels,
            projections=by,
        )

    def rows(self, parts: list[Tensor]) -> _Rows:
        """What the matrix of a value will be like."""
        first = parts[0]
        shape = tuple(first.shape) if len(parts) == 1 else (len(parts), *first.shape)
        channels = math.prod(first.shape[axis] for axis in self.channel_axes)
        rows = sum(part.numel() for part in parts) // max(channels, 1)
        eps = torch.finfo(first.dtype).eps if first.is_floating_point() else 0.0
        return _Rows(shape, rows, channels, self.samples(parts), eps)

    def told(self, rows: _Rows, moments: Moments | None) -> None:
        """Note what was found for layer and points; None for fewer than two rows, no channel or no floats."""
        plain = rows.participation(moments) if moments is not None and self.is_plain else None
        if self.layer is not None:
            self.of.layers[self.layer] = LayerTrace(rows.shape, rows.rows, rows.channels, plain)
        for point in self.points:
            self.of.points[point.value] = PointTrace(
                rows.rows,
                rows.channels,
                standardised=rows.standardised(moments) if moments is not None else None,
                plain=plain.ratio if plain is not None and self.takes_all else None,
                scale=rows.deviation(moments) if moments is not None and point.cut else 0.0,
                error=moments.correlated_error / moments.correlated
                if moments and moments.correlated
                else 0.0,
            )

    def samples(self, parts: list[Tensor]) -> int:
        """Samples whose rows follow each other: calls in lock step, or the first axis if it holds them."""
        if len(parts) > 1:
            return len(parts) if all(p.shape == parts[0].shape for p in parts) else 1
        first = parts[0].shape[:1] == (self.of.runnable.used.batch,) and 0 not in self.channel_axes
        return self.of.runnable.used.batch if first else 1

    def centred(self, x: Tensor) -> Tensor:
        """What of x differs between samples in the same step, where steps are told apart."""
        if self.step_axis is None:
            return x
        kept = {self.step_axis, *(axis % x.dim() for axis in self.channel_axes)}
        return x - x.mean([axis for axis in range(x.dim()) if axis not in kept], keepdim=True)

    def finish(self) -> None:
        """Does nothing: a value of the main graph is observed once."""


def _watch_gradient(watch: Callable[[Tensor], None], parts: list[Tensor]) -> None:
    for part in parts:
        if part.requires_grad:
            part.register_hook(watch)


class _BodyObserver(_RowsObserver):
    """Collects the outputs of a layer in a subgraph over all executions, and measures them together."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
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


def backward(runnable: Runnable, loss: Tensor, ledger: Ledger) -> dict[str, GradientStatistics]:
    """Run the backward pass; each gradient is measured and freed once it is complete.

    Returns:
        Their statistics, which are there when the ledger is settled.
    """
    found: dict[str, GradientStatistics] = {}
    handles: list[RemovableHandle] = []
    for name, parameter in runnable.parameters.items():
        parameter.grad = None
        handles.append(parameter.register_post_accumulate_grad_hook(_Reader(name, found, ledger)))
    not_held = streamed.weights(runnable.module)
    for name, weight in not_held.items():
        weight.read = partial(ledger.gradient, use=partial(found.__setitem__, name))
    try:
        loss.backward()
    finally:
        for weight in not_held.values():
            weight.read = None
        for handle in handles:
            handle.remove()
    return found


@dataclass(frozen=True, slots=True)
class _Reader:
    name: str
    found: dict[str, GradientStatistics]
    ledger: Ledger

    def __call__(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.ledger.gradient(parameter.grad, partial(self.found.__setitem__, self.name))
        parameter.grad = None


def _first_non_finite_gradient(
    runnable: Runnable, fed: Sequence[Tensor | Samples], parameter: str
) -> NumericalError:
    finder = Finder(runnable.whole, "gradient")
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
