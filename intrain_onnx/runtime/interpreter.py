"""Interpreter of converted modules that passes values to observers, and can run samples in lock step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx

from intrain_onnx import memory
from intrain_onnx.errors import IntrainError, UnsupportedError
from intrain_onnx.loading import allowance
from intrain_onnx.ops.control import if_
from intrain_onnx.ops.norm import batch_normalization_of_batch
from intrain_onnx.runtime import live_memory
from intrain_onnx.runtime.convert import bind
from intrain_onnx.runtime.node_failures import Failure, failure

Observer = Callable[[list[Tensor]], "list[Tensor] | None"]
"""Takes a value as a list of tensors (one, or one for each sample), and may return others to replace it."""


_OF_OPERATORS = (
    *(RuntimeError, ValueError, IndexError, TypeError, KeyError, ArithmeticError),
    AttributeError,  # a sequence in the place of a tensor: what a loop makes has a type only when it runs
)
"""Errors that operators raise on arguments that they do not take."""


_PLAIN: Final = frozenset({fx.Node, int, float, str, bool, type(None)})
"""Types of arguments that hold no nodes, and nodes."""


_NOTHING: Final = nullcontext()


class Samples(list[Any]):
    """A value as one tensor for each call of a graph with a fixed batch size."""


class ObservedInterpreter(fx.Interpreter):
    """A ``torch.fx.Interpreter`` that calls the observers of ONNX values, by name.

    The module is not modified. An input given as :class:`Samples` makes every node that depends on it run
    once for each sample before the next node runs (lock step): statistics over all samples are then exact,
    and so are gradients.

    Subgraphs are run by interpreters of the same class. Their values are observed at each execution: in each
    iteration of a Loop, and never in the branch of an If that is not taken.
    """

    def __init__(self, module: fx.GraphModule, observers: Mapping[str, Observer]) -> None:
        super().__init__(module, garbage_collect_values=False)  # `run` drops values by the plan
        self.observers = observers
        self.in_lock_step = True
        self._attributes: dict[str, Any] = {}
        self._plan = live_memory.plan(module)

    def inside(self, module: fx.GraphModule) -> ObservedInterpreter:
        """The interpreter of a subgraph."""
        return ObservedInterpreter(module, self.observers)

    def around(self, number: int) -> AbstractContextManager[object]:
        """The block in which a piece of the plan is run."""
        return _NOTHING

    def outputs(self, *inputs: Tensor | Samples) -> list[list[Tensor]]:
        """Run the module; returns its outputs, each as a list of tensors (one, or one for each sample)."""
        self.in_lock_step = any(isinstance(x, Samples) for x in inputs)
        results = self.run(*inputs)
        return [parts(r) for r in (results if isinstance(results, tuple) else (results,))]

    def run(self, *args: Any, **_: Any) -> Any:
        """Run the module: the loop of ``fx.Interpreter`` alone, which costs more than a small operator."""
        env = self.env = {}
        self.args_iter = iter(args)
        result = None
        own, last_uses, mixed = allowance.current(), self._plan.last_uses, self._plan.mixed
        own.frames.append(env)
        try:
            for number, piece in enumerate(self._plan.pieces):
                nodes = iter(piece)
                with self.around(number):
                    if number not in mixed:
                        for node in nodes:
                            result = env[node] = self.run_node(node)
                            for dead in last_uses.get(node, ()):
                                del env[dead]
                            if own.watchful:
                                break
                        own.countdown -= len(piece)
                        if own.watchful or own.countdown < 0:
                            live_memory.look(own, node)
                    for node in nodes:
                        result = self._run_watched(node, own)
        finally:
            own.frames.pop()
        return result

    def _run_watched(self, node: fx.Node, own: allowance.Allowance) -> Any:
        """Run a node, and hold it against the limits on memory, and on what is made out of constants."""
        env, plan = self.env, self._plan
        if node in plan.constant:
            with live_memory.within_folded(own, plan.stored):
                result = env[node] = self.run_node(node)
            live_memory.count_folded(own, node, result, plan.stored, env)
        else:
            result = env[node] = self.run_node(node)
        for dead in plan.last_uses.get(node, ()):
            del env[dead]
        own.countdown -= 1
        if own.watchful or own.countdown < 0:
            live_memory.look(own, node)
        return result

    def fetch_attr(self, target: str) -> Any:
        """A parameter, buffer or subgraph of the module, looked up once."""
        if target not in self._attributes:
            self._attributes[target] = super().fetch_attr(target)
        return self._attributes[target]

    def _result(self, n: fx.Node) -> Any:
        """What a node gives. Plain arguments are taken from the environment without a tree walk."""
        if n.op == "get_attr":
            return self.get_attr(n.target, (), {})
        if n.op != "call_function" or any(type(x) not in _PLAIN for x in (*n.args, *n.kwargs.values())):
            return super().run_node(n)
        env = self.env
        args = tuple(env[x] if type(x) is fx.Node else x for x in n.args)
        kwargs = {key: env[x] if type(x) is fx.Node else x for key, x in n.kwargs.items()}
        return self.call_function(n.target, args, kwargs)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, then the observer of its output; errors name the ONNX node."""
        try:
            result = self._result(n)
        except IntrainError as error:
            if isinstance(error, NodeError):
                error.failure = error.failure.seen_from(n)
            error.at(node=n.meta.get("onnx_name"), op=n.meta.get("onnx_op"))
            raise
        except (MemoryError, *_OF_OPERATORS) as error:
            if memory.ran_out(error):
                at = n.meta.get("onnx_name"), n.meta.get("onnx_op")
                raise allowance.out_of_memory(error, *at) from error
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            count = _sample_count((args, kwargs))
            calls = (
                [(args, kwargs)]
                if count is None
                else [(_pick(args, i), _pick(kwargs, i)) for i in range(count)]
            )
            raise NodeError(n, failure(n, calls, error)) from error
        for name in n.meta.get("onnx_outputs", ()) if n.op in ("call_function", "call_module") else ():
            observer = self.observers.get(name)
            if observer is not None and _is_tensor(result):
                replaced = observer(parts(result))
                if replaced is not None:
                    result = Samples(replaced) if isinstance(result, Samples) else replaced[0]
        return result

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function; once for each sample if an argument is :class:`Samples`."""
        if target is bind:
            return Subgraph(self.inside(args[0]), args[1:])
        if target is if_ and _agree(args[0]):  # all samples take the same branch: they stay in lock step
            args = (_pick(args[0], 0),)
            return super().call_function(target, args, kwargs)
        count = _sample_count((args, kwargs)) if self.in_lock_step else None
        if count is None:
            return super().call_function(target, args, kwargs)
        if target is batch_normalization_of_batch:
            sizes = [len(part) for part in args[0]]
            whole = super().call_function(target, (torch.cat(args[0]), *args[1:]), kwargs)
            return Samples(torch.split(whole, sizes))
        results = [
            super(ObservedInterpreter, self).call_function(target, _pick(args, i), _pick(kwargs, i))
            for i in range(count)
        ]
        return Samples(results)

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a submodule; once for each sample if an argument is :class:`Samples`."""
        count = _sample_count((args, kwargs))
        if count is None:
            return super().call_module(target, args, kwargs)
        return Samples(
            super(ObservedInterpreter, self).call_module(target, _pick(args, i), _pick(kwargs, i))
            for i in range(count)
        )


@dataclass(frozen=True, slots=True)
class Subgraph:
    """The closure of a subgraph: a function of its formal inputs, with the captured outer values bound."""

    interpreter: ObservedInterpreter
    captured: tuple[Any, ...]

    def __call__(self, *formal: Any) -> tuple[Any, ...]:
        """Run the subgraph."""
        return tuple(self.interpreter.run(*formal, *self.captured))


class NodeError(UnsupportedError):
    """A node failed on the values that reached it; ``failure`` says why, and what they follow from."""

    def __init__(self, node: fx.Node, why: Failure) -> None:
        self.failure = why
        super().__init__(
            f"the node cannot run on these inputs: {why.cause.text}",
            node=node.meta.get("onnx_name"),
            op=node.meta.get("onnx_op"),
        )


def parts(value: Any) -> list[Tensor]:
    """A value as a list of tensors: one, or one for each sample."""
    return list(value) if isinstance(value, Samples) else [value]


def _agree(condition: Any) -> bool:
    """Whether a condition is the same for all samples."""
    return not isinstance(condition, Samples) or len({bool(c) for c in condition}) == 1


def _is_tensor(value: Any) -> bool:
    """Whether a value is a tensor, or one for each sample, and not a tuple of outputs."""
    return isinstance(value[0] if isinstance(value, Samples) else value, Tensor)


def _sample_count(value: Any) -> int | None:
    if isinstance(value, Samples):
        return len(value)
    if isinstance(value, Subgraph):
        value = value.captured
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return None
    return next((n for v in value if (n := _sample_count(v)) is not None), None)


def _pick(value: Any, index: int) -> Any:
    if isinstance(value, Samples):
        return value[index]
    if isinstance(value, Subgraph):
        return Subgraph(value.interpreter, _pick(value.captured, index))
    if isinstance(value, dict):
        return {k: _pick(v, index) for k, v in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_pick(v, index) for v in value)
    return value


def run(
    module: fx.GraphModule,
    inputs: Sequence[Tensor | Samples],
    observers: Mapping[str, Observer] | None = None,
) -> list[list[Tensor]]:
    """Run a module; returns its outputs, each as a list of tensors (one, or one for each sample).

    Raises:
        NodeError: a node failed; names it.
        LimitError: over the limit on memory, time, loop rounds or what is made out of constants; names the
            node.
    """
    with allowance.one_run():
        return ObservedInterpreter(module, observers or {}).outputs(*inputs)
