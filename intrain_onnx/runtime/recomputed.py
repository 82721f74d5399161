"""Activations that autograd does not keep: those of a segment are made again when one of them is read.

Between segments the values are kept. There is one graph of gradients, as without: what is saved in it is
exchanged alone, so hooks, gradients of weights and their order are the same.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, NamedTuple, cast

import torch
from torch import Tensor, fx
from torch.autograd.graph import saved_tensors_hooks

from intrain_onnx.loading import allowance
from intrain_onnx.runtime import streamed
from intrain_onnx.runtime.interpreter import ObservedInterpreter, Observer, Samples, Subgraph
from intrain_onnx.runtime.streamed import Saving

_PIECE: Final = 32
"""Nodes that are run before the memory of values is looked at."""


@dataclass(frozen=True, slots=True)
class Change:
    """What an observer did to weights and to the value that it was called with.

    Attributes:
        value: name of the value.
        undo: gives the weights what they were.
        redo: does the same again.
    """

    value: str
    undo: Callable[[], None]
    redo: Callable[[list[Tensor]], None]


@dataclass
class Changes:
    """The changes of a run in order.

    Attributes:
        wanted: one that is made now has to be noted.
    """

    noted: list[Change] = field(default_factory=list)
    wanted: bool = False


def run(
    module: fx.GraphModule,
    inputs: Sequence[Tensor | Samples],
    observers: Mapping[str, Observer],
    numbers: Mapping[str, int],
    saving: Saving,
    changes: Changes,
) -> list[list[Tensor]]:
    """Run a module as ``interpreter.run`` does, with the activations of all segments but the last not kept.

    Args:
        module: the module.
        inputs: its inputs.
        observers: are called in this run, and not when a segment is run again.
        numbers: of the segments, by name of the values that they make.
        saving: what autograd keeps of tensors that stay.
        changes: what observers do to values and weights, noted by them. It is done again in a second run, so
            that what this makes is the same in every bit.

    Raises:
        NodeError, LimitError: see ``interpreter.run``.
    """
    quiet = {name: _without_gradient(observer) for name, observer in observers.items()}
    interpreter = _Interpreter(module, quiet, numbers, saving, changes)
    with allowance.one_run():
        return interpreter.outputs(*inputs)


def _without_gradient(observer: Observer) -> Observer:
    """The observer, for which autograd saves nothing: a second run without it has to save the same."""

    def called(parts: list[Tensor]) -> list[Tensor] | None:
        with torch.no_grad():
            return observer(parts)

    return called


class _Dropped(NamedTuple):
    """What is kept of a saved tensor: how many the segment had saved before."""

    segment: _Segment
    number: int


@dataclass(eq=False)
class _Segment:
    """Nodes that are run again together.

    Attributes:
        nodes: in order.
        reads: nodes outside whose values they need.
        run: runs them again on values of ``reads``, within hooks.
        values: of ``reads``, from when the segment begins.
        first: changes before it.
        last: changes before the next one.
        saved: how many tensors autograd has asked to save.
        dropped: numbers and shapes of those that are not kept.
        again: tensors that were made again, until they are read.
    """

    nodes: tuple[fx.Node, ...]
    reads: tuple[fx.Node, ...]
    run: Callable[[_Segment, Callable[[Tensor], Any]], None]
    values: dict[fx.Node, Any] = field(default_factory=dict)
    first: int = 0
    last: int | None = None
    saved: int = 0
    dropped: dict[int, torch.Size] = field(default_factory=dict)
    again: dict[int, Tensor] = field(default_factory=dict)

    def drop(self, tensor: Tensor) -> _Dropped:
        """Note a tensor that is to be made again."""
        self.dropped[self.saved] = tensor.shape
        return _Dropped(self, self.saved)

    def make(self, number: int) -> Tensor:
        """A saved tensor: the first that is asked for has all of them made."""
        if number not in self.again:
            self.again.clear()
            count = 0

            def collect(tensor: Tensor) -> None:
                nonlocal count
                if count in self.dropped:
                    assert tensor.shape == self.dropped[count], "the second run saves what the first did"
                    self.again[count] = tensor.detach()
                count += 1

            self.run(self, collect)
            assert count == self.saved, "the second run saves what the first did"
        return self.again.pop(number)


class _Interpreter(ObservedInterpreter):
    """Runs segments within hooks that drop what autograd would save of them."""

    def __init__(
        self,
        module: fx.GraphModule,
        observers: Mapping[str, Observer],
        numbers: Mapping[str, int],
        saving: Saving,
        changes: Changes,
    ) -> None:
        super().__init__(module, observers)
        self.saving = saving
        self.changes = changes
        self.current: _Segment | None = None
        self.context = contextvars.copy_context()  # the backward pass may be in another thread
        tensors = (*module.parameters(), *module.buffers())
        self.held = {tensor.untyped_storage().data_ptr() for tensor in tensors}
        self.pieces: list[_Segment | None] = []
        nodes: list[tuple[fx.Node, ...]] = []
        segments = list(_in_segments(module.graph, numbers))
        for number, whole in enumerate(segments):
            # The values that are fed stay, and the backward pass begins with the last segment.
            kept = number == 0 or number == len(segments) - 1
            segment = None if kept else _Segment(whole, _read_by(whole), self.run_again)
            parts = [whole[i : i + _PIECE] for i in range(0, len(whole), _PIECE)]
            nodes += parts
            self.pieces += [segment] * len(parts)
        mixed = frozenset(i for i, piece in enumerate(nodes) if not self._plan.constant.isdisjoint(piece))
        self._plan = replace(self._plan, pieces=tuple(nodes), mixed=mixed)

    def around(self, number: int) -> AbstractContextManager[object]:
        """The block in which autograd keeps nothing of a segment."""
        segment = self.pieces[number]
        if segment is not self.current:
            self._begin(segment)
        if segment is None:
            return nullcontext()

        def pack(tensor: Tensor) -> Any:
            kept = self.saving.pack(tensor)
            stays = kept is not tensor or tensor.untyped_storage().data_ptr() in self.held
            packed = kept if stays else segment.drop(tensor)
            segment.saved += 1
            return packed

        return saved_tensors_hooks(pack, self._unpack)

    def _begin(self, segment: _Segment | None) -> None:
        place = len(self.changes.noted)
        if self.current is not None:
            self.current.last = place
        if segment is not None:
            segment.first = place
            segment.values = {node: _apart(self.env[node]) for node in segment.reads}
        self.current = segment
        self.changes.wanted = segment is not None

    def _unpack(self, kept: Any) -> Tensor:
        return kept.segment.make(kept.number) if isinstance(kept, _Dropped) else self.saving.unpack(kept)

    def run_again(self, segment: _Segment, collect: Callable[[Tensor], Any]) -> None:
        """Run a segment a second time, and hand over what autograd would save."""
        self.context.copy().run(self._run_again, segment, collect)

    def _run_again(self, segment: _Segment, collect: Callable[[Tensor], Any]) -> None:
        module = cast(fx.GraphModule, self.module)
        changes = self.changes.noted[segment.first : segment.last]
        due = {change.value: change for change in changes}

        def redo(value: str, parts: list[Tensor]) -> None:
            change = due.pop(value, None)  # in a loop, only the first time
            if change is not None:
                change.redo(parts)

        for change in changes:
            change.undo()
        again = ObservedInterpreter(module, {name: partial(redo, name) for name in due})
        again.in_lock_step = self.in_lock_step
        env = again.env = dict(segment.values)
        with (
            torch.enable_grad(),
            allowance.one_run(),
            streamed.made_again(module),
            saved_tensors_hooks(collect, _not_read),
        ):
            for node in segment.nodes:
                for source in node.all_input_nodes:
                    if source not in env:
                        env[source] = again.run_node(source)
                env[node] = again.run_node(node)
                for dead in self._plan.last_uses.get(node, ()):
                    env.pop(dead, None)


def _not_read(_: Any) -> Tensor:
    raise AssertionError("nobody asks for gradients of the second run")


def _in_segments(graph: fx.Graph, numbers: Mapping[str, int]) -> Iterator[tuple[fx.Node, ...]]:
    """The nodes in order: placeholders, then those of each segment."""
    part: list[fx.Node] = []
    current = -1
    for node in graph.nodes:
        made = [numbers.get(name, 0) for name in node.meta.get("onnx_outputs", ())]
        number = -1 if node.op == "placeholder" else max([current, 0, *made])
        if part and number > current:
            yield tuple(part)
            part = []
        part.append(node)
        current = number
    yield tuple(part)


def _read_by(nodes: Sequence[fx.Node]) -> tuple[fx.Node, ...]:
    """The values that nodes read of others, without those of weights: these are there at any time."""
    own = set(nodes)
    outside = (source for node in nodes for source in node.all_input_nodes if source not in own)
    return tuple(dict.fromkeys(s for s in outside if s.op in ("placeholder", "call_function")))


def _apart(value: Any) -> Any:
    """A value, whose tensors share their elements and have no history."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(value.requires_grad)
    if isinstance(value, Subgraph):
        quiet = ObservedInterpreter(cast(fx.GraphModule, value.interpreter.module), {})
        return Subgraph(quiet, tuple(map(_apart, value.captured)))
    if isinstance(value, Samples):
        return Samples(map(_apart, value))
    return type(value)(map(_apart, value)) if isinstance(value, (list, tuple)) else value
