"""Hints for node errors: sizes found by search, or the input whose values only the user can choose.

Best-first search over sizes of free dimensions: each failed run names the violated rule (see
``node_failures``), from which the next sizes are derived; runs that got further are expanded first.
"""

from __future__ import annotations

import heapq
import itertools
import math
import shlex
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import fx

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError, SettingsError
from intrain_onnx.measure import inputs
from intrain_onnx.network import given_inputs
from intrain_onnx.network.input_shapes import InputSpec, Signature
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.solve_sizes import solve_sizes
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.interpreter import NodeError, run
from intrain_onnx.runtime.node_failures import Cause, Failure

MAX_TRIES = 60
MAX_SECONDS = 15.0
_MOST = 2**22
"""Most elements of an input in a trial."""

_LADDER = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

Axis = tuple[str, int]
Sizes = tuple[int, ...]


@contextmanager
def told(network: Network, config: ScoreConfig, device: torch.device) -> Iterator[None]:
    """Add a hint to an error at a node, and names from the file.

    Args:
        network: the network that failed.
        config: settings of the run.
        device: on which sizes are tried.
    """
    try:
        yield
    except NodeError as error:
        search = _Search(network, config, device)
        same = search.first()
        if same is not None:  # a protocol's graph has other nodes and names than the file
            error.message, error.node, error.op, error.failure = (
                same.message,
                same.node,
                same.op,
                same.failure,
            )
        error.hint = _hint(error.failure, search)
        raise


def _hint(failure: Failure, search: _Search) -> str:
    """The next step for the user when a node fails."""
    picked = _ids_to_choose(failure, search)
    if picked is not None:
        return picked
    if search.runs and failure.cause.kind != "k":
        names = ", ".join(repr(s.name) for s in _behind(failure, search.fed)[:4])
        return (
            f"One sample runs, so the values of {names} decide: try another --seed, or real data with --input"
        )
    if search.contradiction:
        return search.contradiction
    found = search.best() if search.free else None
    if found is None:
        return _left_to_the_user(failure, search.fed, search.free)
    told = search.told(found)
    return f"Try other sizes: {' '.join(_option(spec) for spec in found.inputs if spec.name in told)}"


def _ids_to_choose(failure: Failure, search: _Search) -> str | None:
    """Hint if one input's drawn values are used as indices out of range: no size helps."""
    cause = failure.cause
    specs = [s for s in search.fed.inputs if s.name in failure.sources.values]
    if cause.kind != "index" or len(specs) != 1 or specs[0].kind == "positions":
        return None
    name = specs[0].name
    value = next((v for v in (max(cause.want, 0), 1, 0) if search.runs_with(name, v)), "@FILE.npy")
    option = shlex.quote(f"{name}={value}")
    ask = f"Input {name!r} must lead to indices of at most {cause.want}"
    return f"{ask}: set its values, such as --input {option}"


def _left_to_the_user(failure: Failure, fed: Signature, free: Sequence[Dimension]) -> str:
    behind = _behind(failure, fed)
    names = ", ".join(repr(s.name) for s in behind[:4])
    cause = failure.cause
    if cause.kind == "k":
        data = shlex.quote(f"{behind[0].name}=@FILE.npy") if behind else ""
        return (
            f"The graph wants {cause.want} of what is left, which follows from {names}: "
            f"real data may leave more (--input {data}), or cut the model before this node"
        )
    touched = {axis[0] for d in free for axis in d.axes}
    some = [s for s in behind if s.name in touched] or [s for s in fed.inputs if s.name in touched]
    if not some:
        return f"All sizes of {names} are fixed in the file, so it contradicts itself here: export it again"
    return f"No sizes were found that run; set those of the inputs behind it: {' '.join(map(_option, some))}"


def _behind(failure: Failure, fed: Signature) -> list[InputSpec]:
    """The inputs that a failure depends on; all inputs if unknown."""
    return [s for s in fed.inputs if s.name in failure.sources.all] or list(fed.inputs)


def _follows(declared: str | None) -> bool:
    """Whether a declared size is arithmetic over others, as exporters name it."""
    return declared is not None and any(sign in declared for sign in "+-*/")


@dataclass(frozen=True, slots=True)
class Dimension:
    """A free size, which the user may set.

    Attributes:
        axes: its axes, as input and axis: one, or all with the same symbol.
        size: in the failed run.
    """

    axes: tuple[Axis, ...]
    size: int


def _free_dimensions(fed: Signature) -> list[Dimension]:
    """Free dimensions of the inputs, without the batch."""
    groups: dict[object, list[Axis]] = {}
    sizes: dict[object, int] = {}
    for spec in fed.inputs:
        for axis, declared in enumerate(spec.declared):
            if isinstance(declared, int) or axis == spec.batch_axis or _follows(declared):
                continue
            key: object = declared if declared is not None else (spec.name, axis)
            groups.setdefault(key, []).append((spec.name, axis))
            sizes[key] = spec.shape[axis]
    return [Dimension(tuple(axes), sizes[key]) for key, axes in groups.items()]


class _Search:
    """Best-first search over sizes of free dimensions, running one sample; trials and time are bounded."""

    def __init__(self, network: Network, config: ScoreConfig, device: torch.device) -> None:
        self.model, self.fed, self.config, self.device = network.exact, network.single, config, device
        self.free = _free_dimensions(self.fed)
        self.start = tuple(d.size for d in self.free)
        self.tried: set[Sizes] = set()
        self.broken: Failure | None = None
        self.runs = False
        self.contradiction = ""
        self.module: fx.GraphModule | None = None

    def first(self) -> NodeError | None:
        """The failure of one sample with the original sizes; None if it runs or cannot be converted."""
        try:
            self.module = convert.convert(self.model).to(self.device)
        except IntrainError:  # what is behind the loss may lack a handler
            return None
        try:
            self._signature(self.start)
        except SettingsError as error:  # a shape that was set conflicts with an arithmetic name
            self.contradiction = f"{error.message[:1].upper()}{error.message[1:]}. {error.hint or ''}".strip()
        result = self._try(self.start)
        if isinstance(result, NodeError):
            self.broken = result.failure
            return result
        self.runs = result is not None
        return None

    def best(self) -> Signature | None:
        """The inputs of the first run that succeeds; None if none does."""
        if self.broken is None:
            return None
        until = time.monotonic() + MAX_SECONDS
        order = itertools.count()
        queue = [(-self.broken.position, next(order), self.start, self.broken)]
        while queue:
            _, _, sizes, broken = heapq.heappop(queue)
            for other in self._next(sizes, broken):
                if len(self.tried) > MAX_TRIES or time.monotonic() > until:
                    return None
                result = self._try(other)
                if isinstance(result, Signature):
                    return result
                if result is not None:
                    heapq.heappush(queue, (-result.failure.position, next(order), other, result.failure))
        return None

    def runs_with(self, name: str, value: int) -> bool:
        """Whether one sample runs with an input filled with a constant."""
        if self.module is None:
            return False
        config = replace(self.config, inputs={**self.config.inputs, name: value})
        try:
            self._run(self.module, given_inputs.resolve(self.model, config, batch=1))
        except IntrainError:
            return False
        return True

    def _run(self, module: fx.GraphModule, fed: Signature) -> None:
        drawn = inputs.draw(fed, torch.Generator().manual_seed(self.config.seed), self.device)
        with torch.no_grad():
            run(module, drawn)

    def _try(self, sizes: Sizes) -> Signature | NodeError | None:
        """One run: its inputs if it succeeds, its error if a node fails, None if it is inconclusive."""
        assert self.module is not None
        self.tried.add(sizes)
        try:
            fed = self._signature(sizes)
            if any(math.prod(spec.shape) > _MOST for spec in fed.inputs):
                return None
            self._run(self.module, fed)
        except NodeError as error:
            return error
        except IntrainError:
            return None
        return fed

    def told(self, found: Signature) -> set[str]:
        """Inputs whose shapes must be set: those changed if the rest follows, else all with a free size."""
        shapes = {spec.name: spec.shape for spec in found.inputs}
        changed = {spec.name for spec in self.fed.inputs if spec.shape != shapes[spec.name]}
        few = replace(
            self.config, input_shapes={**self.config.input_shapes, **{n: shapes[n] for n in changed}}
        )
        try:
            sizes = solve_sizes(self.model.clone(), given_inputs.sized(self.model, few))
            follows = given_inputs.resolve(self.model, few, batch=1, sizes=sizes)
        except IntrainError:
            return {name for d in self.free for name, _ in d.axes}
        if all(spec.shape == shapes[spec.name] for spec in follows.inputs):
            return changed
        return {name for d in self.free for name, _ in d.axes}

    def _signature(self, sizes: Sizes) -> Signature:
        """The inputs as the command line would resolve them for these sizes."""
        shapes = {name: self._shape(name, sizes) for d in self.free for name, _ in d.axes}
        config = replace(self.config, input_shapes={**self.config.input_shapes, **shapes})
        return given_inputs.resolve(self.model, config, batch=1)

    def _shape(self, name: str, sizes: Sizes) -> tuple[int, ...]:
        shape = list(next(spec.shape for spec in self.fed.inputs if spec.name == name))
        for dimension, size in zip(self.free, sizes, strict=True):
            for of, axis in dimension.axes:
                if of == name:
                    shape[axis] = size
        return tuple(shape)

    def _next(self, sizes: Sizes, broken: Failure) -> Iterator[Sizes]:
        """Untried sizes derived from the violated rule, first for dimensions that the node depends on."""
        near = [
            i for i, d in enumerate(self.free) if any(name in broken.sources.all for name, _ in d.axes)
        ] or list(range(len(self.free)))
        for changed in self._changes(sizes, broken.cause, near):
            other = tuple(changed)
            if other not in self.tried and all(size >= 1 for size in other):
                yield other

    @staticmethod
    def _changes(sizes: Sizes, cause: Cause, near: Sequence[int]) -> Iterator[list[int]]:
        """Change one dimension as the rule suggests, then all by a factor, then one to sizes of `_LADDER`."""
        for i in near:
            for size in _instead(sizes[i], cause, sizes):
                yield [size if j == i else s for j, s in enumerate(sizes)]
        if len(near) > 1:
            for scale in _scales(cause):
                yield [max(1, round(s * scale)) if j in near else s for j, s in enumerate(sizes)]
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
        [want / have, math.sqrt(want / have), have / want, math.sqrt(have / want)] if have and want else []
    )
    larger = [2.0, 4.0, 8.0, 16.0]
    ways = {"window": larger, "k": larger, "index": [0.5, 0.25]}.get(cause.kind, [2.0, 0.5, 4.0, 0.25])
    return [*exact, *ways]


def _option(spec: InputSpec) -> str:
    return f"--input-shape {shlex.quote(f'{spec.name}:' + 'x'.join(map(str, spec.shape)))}"
