"""What to type where a node fails: sizes that were tried, or the input that only the user can choose.

Sizes of free dimensions are searched. Each run that fails names the rule that was broken (see
``node_failures``), and the next sizes follow from it; runs that came further are followed first.
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
from intrain_onnx.errors import IntrainError
from intrain_onnx.measure import inputs
from intrain_onnx.network import given_inputs
from intrain_onnx.network.input_shapes import InputSpec, Signature
from intrain_onnx.rewrites.network import Network
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.interpreter import NodeError, run
from intrain_onnx.runtime.node_failures import Cause, Failure

MAX_TRIES = 60
MAX_SECONDS = 15.0
_MOST = 2**22
"""Elements of one input that is tried."""

_LADDER = (2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)

Axis = tuple[str, int]
Sizes = tuple[int, ...]


@contextmanager
def told(network: Network, config: ScoreConfig, device: torch.device) -> Iterator[None]:
    """Give an error at a node its hint, and the names that the file has.

    Args:
        network: what failed.
        config: of the run.
        device: to try sizes on.
    """
    try:
        yield
    except NodeError as error:
        search = _Search(network, config, device)
        same = search.first()
        if same is not None:  # a protocol's graph has nodes and names of its own
            error.message, error.node, error.op, error.failure = (
                same.message,
                same.node,
                same.op,
                same.failure,
            )
        error.hint = _hint(error.failure, search)
        raise


def _hint(failure: Failure, search: _Search) -> str:
    """The next step for a user whose model failed at a node."""
    picked = _ids_to_choose(failure, search)
    if picked is not None:
        return picked
    if search.runs and failure.cause.kind != "k":
        names = ", ".join(repr(s.name) for s in _behind(failure, search.fed)[:4])
        return (
            f"One sample runs, so the values of {names} decide: try another --seed, or real data with --input"
        )
    found = search.best() if search.free else None
    if found is None:
        return _left_to_the_user(failure, search.fed, search.free)
    told = search.told(found)
    return f"Try other sizes: {' '.join(_option(spec) for spec in found.inputs if spec.name in told)}"


def _ids_to_choose(failure: Failure, search: _Search) -> str | None:
    """Where an input holds indices that are drawn, no size of it helps."""
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
    """The inputs that a failure follows from; all where none is known."""
    return [s for s in fed.inputs if s.name in failure.sources.all] or list(fed.inputs)


@dataclass(frozen=True, slots=True)
class Dimension:
    """A size that the user may set.

    Attributes:
        axes: where it stands: one axis, or all of one name.
        size: as it was fed.
    """

    axes: tuple[Axis, ...]
    size: int


def _free_dimensions(fed: Signature) -> list[Dimension]:
    """Dimensions without a number in the file that are not the batch."""
    groups: dict[object, list[Axis]] = {}
    sizes: dict[object, int] = {}
    for spec in fed.inputs:
        for axis, declared in enumerate(spec.declared):
            if isinstance(declared, int) or axis == spec.batch_axis:
                continue
            key: object = declared if declared is not None else (spec.name, axis)
            groups.setdefault(key, []).append((spec.name, axis))
            sizes[key] = spec.shape[axis]
    return [Dimension(tuple(axes), sizes[key]) for key, axes in groups.items()]


class _Search:
    """Best first over the sizes of all free dimensions, with one sample, for a bounded number of runs."""

    def __init__(self, network: Network, config: ScoreConfig, device: torch.device) -> None:
        self.model, self.fed, self.config, self.device = network.exact, network.single, config, device
        self.solved = bool(network.sizes)
        self.free = _free_dimensions(self.fed)
        self.start = tuple(d.size for d in self.free)
        self.tried: set[Sizes] = set()
        self.broken: Failure | None = None
        self.runs = False
        self.module: fx.GraphModule | None = None

    def first(self) -> NodeError | None:
        """The failure of one sample with the sizes that were chosen; None where it runs."""
        try:
            self.module = convert.convert(self.model).to(self.device)
        except IntrainError:  # what is behind the loss may lack a handler
            return None
        result = self._try(self.start)
        if isinstance(result, NodeError):
            self.broken = result.failure
            return result
        self.runs = result is not None
        return None

    def best(self) -> Signature | None:
        """The inputs of the first run that succeeds; None where none does."""
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
        """Whether one sample runs with a number in all places of an input."""
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
        """One run: its inputs where it succeeds, why it fails, or None where nothing can be learnt."""
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
        """Names of the inputs whose shapes are to be set: all free ones, where they were solved together."""
        before = {spec.name: spec.shape for spec in self.fed.inputs}
        changed = {spec.name for spec in found.inputs if spec.shape != before[spec.name]}
        return changed | ({name for d in self.free for name, _ in d.axes} if self.solved else set())

    def _signature(self, sizes: Sizes) -> Signature:
        """The inputs as the command line would make them with these sizes."""
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
        """Sizes that the broken rule asks for: of dimensions behind the node first."""
        near = [
            i for i, d in enumerate(self.free) if any(name in broken.sources.all for name, _ in d.axes)
        ] or list(range(len(self.free)))
        for changed in self._changes(sizes, broken.cause, near):
            other = tuple(changed)
            if other not in self.tried and all(size >= 1 for size in other):
                yield other

    @staticmethod
    def _changes(sizes: Sizes, cause: Cause, near: Sequence[int]) -> Iterator[list[int]]:
        """First one dimension, as the rule says; then all together; then one dimension, by powers of two."""
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
    """Sizes for one dimension, the likeliest first."""
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
    """Factors for all dimensions: what is wanted over what there is, in one or in two of them."""
    have, want = (cause.have + 1, cause.want + 1) if cause.kind == "index" else (cause.have, cause.want)
    exact = (
        [want / have, math.sqrt(want / have), have / want, math.sqrt(have / want)] if have and want else []
    )
    larger = [2.0, 4.0, 8.0, 16.0]
    ways = {"window": larger, "k": larger, "index": [0.5, 0.25]}.get(cause.kind, [2.0, 0.5, 4.0, 0.25])
    return [*exact, *ways]


def _option(spec: InputSpec) -> str:
    return f"--input-shape {shlex.quote(f'{spec.name}:' + 'x'.join(map(str, spec.shape)))}"
