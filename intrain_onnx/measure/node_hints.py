"""Hints for node errors: sizes found by search, or the input whose values only the user can choose."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.measure.search_sizes import Axis, Dimension, Search, Sizes, of_input
from intrain_onnx.measure.trial import Trial
from intrain_onnx.network import given_inputs
from intrain_onnx.network.input_shapes import InputSpec, Signature, shape_options
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.solve_sizes import solve_sizes
from intrain_onnx.runtime.interpreter import NodeError
from intrain_onnx.runtime.node_failures import Failure


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
        hints = _Hints(network, config, device)
        same = hints.search.first if hints.search is not None else None
        if same is not None:  # a protocol's graph has other nodes and names than the file
            error.message, error.node, error.op, error.failure = (
                same.message,
                same.node,
                same.op,
                same.failure,
            )
        error.hint = hints.of(error.failure)
        raise


class _Hints:
    """The next step for the user, by the cause of a failure.

    Attributes:
        search: over the sizes that the user may set; None if the whole model cannot be converted.
    """

    def __init__(self, network: Network, config: ScoreConfig, device: torch.device) -> None:
        self.model, self.fed, self.config = network.exact, network.single, config
        self.free = _settable(self.fed)
        self.trial = Trial(self.model, device)
        self.search: Search | None = None
        try:
            _ = self.trial.module
        except IntrainError:  # what is behind the loss may lack a handler
            return
        self.search = Search(self.trial, self.free, self._signature, config.seed)

    def of(self, failure: Failure) -> str:
        """The hint for a failure."""
        picked = self._ids_to_choose(failure)
        if picked is not None:
            return picked
        if self.search is not None and self.search.runs and failure.cause.kind != "k":
            names = ", ".join(repr(s.name) for s in _behind(failure, self.fed)[:4])
            return (
                f"One sample runs, so the values of {names} decide: try another --seed, or real data with "
                "--input"
            )
        found = self.search.best() if self.search is not None and self.free else None
        if found is None:
            return _left_to_the_user(failure, self.fed, self.free)
        told = self._to_tell(found[1])
        shapes = {spec.name: spec.shape for spec in found[1].inputs if spec.name in told}
        return f"Try other sizes: {shape_options(shapes)}"

    def _ids_to_choose(self, failure: Failure) -> str | None:
        """Hint if one input's drawn values are used as indices out of range: no size helps."""
        spec, want = of_input(failure, self.fed), failure.cause.want
        if spec is None:
            return None
        value = next((v for v in (max(want, 0), 1, 0) if self._runs_with(spec.name, v)), "@FILE.npy")
        option = shlex.quote(f"{spec.name}={value}")
        ask = f"Input {spec.name!r} must lead to indices of at most {want}"
        return f"{ask}: set its values, such as --input {option}"

    def _runs_with(self, name: str, value: int) -> bool:
        """Whether one sample runs with an input filled with a constant."""
        config = replace(self.config, inputs={**self.config.inputs, name: value})
        try:
            self.trial.run(given_inputs.resolve(self.model, config, batch=1), self.config.seed)
        except IntrainError:
            return False
        return True

    def _to_tell(self, found: Signature) -> set[str]:
        """Inputs whose shapes must be set: those changed if the rest follows, else all with a free size."""
        shapes = {spec.name: spec.shape for spec in found.inputs}
        changed = {spec.name for spec in self.fed.inputs if spec.shape != shapes[spec.name]}
        few = replace(
            self.config, input_shapes={**self.config.input_shapes, **{n: shapes[n] for n in changed}}
        )
        try:
            sizes = solve_sizes(self.model.clone(), given_inputs.sized(self.model, few)).sizes
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
    shapes = {s.name: s.shape for s in some}
    return f"No sizes were found that run; set those of the inputs behind it: {shape_options(shapes)}"


def _behind(failure: Failure, fed: Signature) -> list[InputSpec]:
    """The inputs that a failure depends on; all inputs if unknown."""
    return [s for s in fed.inputs if s.name in failure.sources.all] or list(fed.inputs)


def _follows(declared: str | None) -> bool:
    """Whether a declared size is arithmetic over others, as exporters name it."""
    return declared is not None and any(sign in declared for sign in "+-*/")


def _settable(fed: Signature) -> list[Dimension]:
    """Dimensions that the file leaves open, without the batch."""
    groups: dict[str, list[Axis]] = {}
    sizes: dict[str, int] = {}
    for spec in fed.inputs:
        for axis, declared in enumerate(spec.declared):
            if isinstance(declared, int) or axis == spec.batch_axis or _follows(declared):
                continue
            key = declared if declared is not None else f"{spec.name}[{axis}]"
            groups.setdefault(key, []).append((spec.name, axis))
            sizes[key] = spec.shape[axis]
    return [Dimension(key, tuple(axes), sizes[key]) for key, axes in groups.items()]
