"""Best-first search over sizes of free dimensions, by running one sample.

Each failed run names the violated rule (see ``node_failures``), from which the next sizes are derived; runs
that got further are expanded first.
"""

from __future__ import annotations

import heapq
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from intrain_onnx.errors import IntrainError
from intrain_onnx.loading.allowance import raise_spent
from intrain_onnx.measure.trial import Trial
from intrain_onnx.network.input_shapes import InputSpec, Signature
from intrain_onnx.runtime.interpreter import NodeError
from intrain_onnx.runtime.node_failures import Cause, Failure

MAX_TRIES = 60
MAX_SECONDS = 60.0
"""A backstop: sizes that fail do so early in most graphs."""

_MOST = 2**22
"""Most elements of an input in a trial."""

_LADDER = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_LARGEST_OF_FILE = 4096
_MOST_OF_FILE = 8

_OF_SHAPE = ("ones", "zeros", "positions", "offsets", "length")
"""Kinds of inputs whose contents follow from their shape."""

Axis = tuple[str, int]
Sizes = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Dimension:
    """A free size.

    Attributes:
        key: as in ``Signature.free``.
        axes: its axes, as input and axis: one, or all with the same symbol.
        size: to start from.
    """

    key: str
    axes: tuple[Axis, ...]
    size: int


def of_input(failure: Failure, fed: Signature) -> InputSpec | None:
    """The one input whose values are used as indices out of range, so that no size helps; else None."""
    specs = [spec for spec in fed.inputs if spec.name in failure.sources.values]
    if failure.cause.kind != "index" or len(specs) != 1 or specs[0].kind in _OF_SHAPE:
        return None
    return specs[0]


class Search:
    """A search from given sizes; trials are bounded.

    Args:
        trial: runs the model.
        free: dimensions that may change.
        resolve: computes the inputs of one sample from sizes of ``free``, in order.
        seed: of the inputs.

    Attributes:
        first: the error of the first run; None if it succeeded or was inconclusive.
        runs: the first run succeeded.
    """

    def __init__(
        self, trial: Trial, free: Sequence[Dimension], resolve: Callable[[Sizes], Signature], seed: int = 0
    ) -> None:
        self.trial, self.free, self.resolve, self.seed = trial, free, resolve, seed
        self.tried: set[Sizes] = set()
        start = tuple(d.size for d in free)
        result = self._try(start)
        self.runs = isinstance(result, Signature)
        self.first = result if isinstance(result, NodeError) else None
        self._start = start

    def best(self) -> tuple[Sizes, Signature] | None:
        """The sizes and inputs of the first run that succeeds; None if none does."""
        if self.first is None:
            return None
        until = time.monotonic() + MAX_SECONDS
        order = itertools.count()
        queue = [(-self.first.failure.position, next(order), self._start, self.first.failure)]
        while queue:
            _, _, sizes, broken = heapq.heappop(queue)
            for other in self._next(sizes, broken):
                if len(self.tried) > MAX_TRIES or time.monotonic() > until:
                    return None
                result = self._try(other)
                if isinstance(result, Signature):
                    return other, result
                if result is not None:
                    heapq.heappush(queue, (-result.failure.position, next(order), other, result.failure))
        return None

    def _try(self, sizes: Sizes) -> Signature | NodeError | None:
        """One run: its inputs if it succeeds, its error if a node fails, None if it is inconclusive."""
        self.tried.add(sizes)
        try:
            fed = self.resolve(sizes)
            if any(math.prod(spec.shape) > _MOST for spec in fed.inputs) and len(self.tried) > 1:
                return None
            self.trial.run(fed, self.seed)
        except NodeError as error:
            return error
        except IntrainError as error:
            if len(self.tried) == 1:
                raise_spent(error)
            return None
        return fed

    def _next(self, sizes: Sizes, broken: Failure) -> Iterator[Sizes]:
        """Untried sizes derived from the violated rule, first for dimensions that the node depends on."""
        near = [
            i for i, d in enumerate(self.free) if any(name in broken.sources.all for name, _ in d.axes)
        ] or list(range(len(self.free)))
        for changed in self._changes(sizes, broken.cause, near):
            other = tuple(changed)
            if other not in self.tried and all(size >= 1 for size in other):
                yield other

    def _changes(self, sizes: Sizes, cause: Cause, near: Sequence[int]) -> Iterator[list[int]]:
        """Change one dimension as the rule suggests, then all by a factor, then one to other sizes."""
        for i in near:
            for size in _instead(sizes[i], cause, sizes):
                yield [size if j == i else s for j, s in enumerate(sizes)]
        if len(near) > 1:
            for scale in _scales(cause):
                yield [max(1, round(s * scale)) if j in near else s for j, s in enumerate(sizes)]
        for i in near:
            for size in _of_file(self.trial.model, sizes[i]):
                yield [size if j == i else s for j, s in enumerate(sizes)]
        for size in _LADDER:
            for i in near:
                yield [size if j == i else s for j, s in enumerate(sizes)]


def _instead(size: int, cause: Cause, sizes: Sizes) -> Iterator[int]:
    """Candidate sizes for one dimension, most likely first."""
    have, want = cause.have, cause.want
    if cause.kind == "fit":
        for a, b in ((have, want), (want, have)):
            yield from ([b] if size == a else [])
            yield size + b - a
            yield from ([size * b // a] if a and size * b % a == 0 else [])
        yield from (s for s in sizes if s != size)
    elif cause.kind == "index":
        yield from (want + 1, size * (want + 1) // (abs(have) + 1))
    elif cause.kind == "window":
        yield from (max(size, want), *(math.ceil(size * s) for s in _scales(cause)))
    else:
        yield from (max(1, round(size * s)) for s in _scales(cause))


def _scales(cause: Cause) -> list[float]:
    """Factors for all dimensions: the ratio of wanted and present size, or its root for two dimensions."""
    have, want = (cause.have + 1, cause.want + 1) if cause.kind == "index" else (cause.have, cause.want)
    exact = (
        [want / have, math.sqrt(want / have), have / want, math.sqrt(have / want)]
        if have > 0 and want > 0
        else []
    )
    larger = [2.0, 4.0, 8.0, 16.0]
    ways = {"window": larger, "k": larger, "index": [0.5, 0.25]}.get(cause.kind, [2.0, 0.5, 4.0, 0.25])
    return [*exact, *ways]


def _of_file(model: ir.Model, usual: int) -> list[int]:
    """Sizes in the shapes of the initializers: from the usual one downward, then upward."""
    tensors = (v.const_value for v in model.graph.initializers.values())
    found = {d for t in tensors if t is not None for d in t.shape.numpy() if 1 < d <= _LARGEST_OF_FILE}
    below = sorted((d for d in found if d < usual), reverse=True)
    return [*below, *sorted(d for d in found if d > usual)][:_MOST_OF_FILE]
