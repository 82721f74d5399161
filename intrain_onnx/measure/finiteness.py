"""Locates where activations or gradients become non-finite, and why, in a slow re-run after a failed run."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from intrain_onnx.errors import NumericalError
from intrain_onnx.runtime.interpreter import ObservedInterpreter, Samples
from intrain_onnx.runtime.node_failures import sources_of

SCALED = "Try --protocol architecture, which scales every layer"


class NotFiniteError(Exception):
    """A measurement is not finite; its origin is found afterwards."""


class Finder(ObservedInterpreter):
    """Finds the node where values, or gradients in backward order, become non-finite. Slow: for diagnosis."""

    def __init__(
        self,
        module: fx.GraphModule,
        of: Literal["value", "gradient"],
        found: list[tuple[fx.Node, str]] | None = None,
    ) -> None:
        super().__init__(module, {})
        self.of = of
        self.finite: dict[fx.Node, bool] = {}
        self.numbers: dict[fx.Node, bool] = {}
        self.found = [] if found is None else found
        self.weight: str | None = None

    @property
    def culprit(self) -> fx.Node | None:
        """The first such node; None if not found."""
        return self.found[0][0] if self.found else None

    @property
    def why(self) -> str:
        """The argument values for which that node's operator is undefined; empty if it is defined."""
        return self.found[0][1] if self.found else ""

    def inside(self, module: fx.GraphModule) -> ObservedInterpreter:
        """Search subgraphs too."""
        return Finder(module, self.of, self.found)

    def run_node(self, n: fx.Node) -> Any:
        """Run one node and check its output."""
        result = super().run_node(n)
        parts = result if isinstance(result, (Samples, tuple)) else [result]
        tensors = [p for p in parts if isinstance(p, Tensor) and p.is_floating_point()]
        if self.of == "gradient":
            for part in tensors:
                if part.requires_grad and n.op == "call_function":
                    part.register_hook(partial(self._note_gradient, n))
        else:
            self._look(n, tensors)
        return result

    def _look(self, n: fx.Node, tensors: Sequence[Tensor]) -> None:
        self.finite[n] = all(bool(torch.isfinite(t).all()) for t in tensors)
        self.numbers[n] = self.finite[n] or not any(bool(torch.isnan(t).any()) for t in tensors)
        if n.op == "get_attr" and not self.finite[n] and any(isinstance(t, nn.Parameter) for t in tensors):
            self.weight = self.weight or n.meta.get("onnx_name")
        # Infinite constants of the graph, such as an attention mask, are no failure; a softmax over only
        # those is one, unless the graph tests for it with IsNaN.
        before = n.all_input_nodes
        overflows = not self.finite[n] and all(self.finite[source] for source in before)
        undefined = not self.numbers[n] and all(self.numbers[source] for source in before)
        guarded = any(user.meta.get("onnx_op") == "IsNaN" for user in n.users)
        if (overflows or undefined) and n.op == "call_function" and not guarded:
            self.found.append((n, self._domain(n)))

    def _domain(self, n: fx.Node) -> str:
        """Argument values for which the operator is undefined; empty if none."""
        rule = _DOMAINS.get(n.meta.get("onnx_op") or "")
        args, _ = self.fetch_args_kwargs_from_env(n)
        samples = next((a for a in args if isinstance(a, Samples)), [None])
        calls = [[a[i] if isinstance(a, Samples) else a for a in args] for i in range(len(samples))]
        return next((said for call in calls if rule and (said := rule(*call))), "")

    def _note_gradient(self, node: fx.Node, gradient: Tensor) -> None:
        if not self.found and not bool(torch.isfinite(gradient).all()):
            self.found.append((node, ""))


def _not_positive(x: Tensor, *_: Any) -> str:
    least = x.min().item()
    return f"of values that are not positive (the least is {least:.3g})" if least <= 0 else ""


def _negative(x: Tensor, *_: Any) -> str:
    least = x.min().item()
    return f"of negative values (the least is {least:.3g})" if least < 0 else ""


def _zero(x: Tensor, *_: Any) -> str:
    return "of zero" if bool((x == 0).any()) else ""


def _beyond_one(x: Tensor, *_: Any) -> str:
    most = x.abs().max().item()
    return f"of values beyond -1 and 1 (the largest is {most:.3g})" if most >= 1 else ""


def _divided(_: Tensor, by: Tensor, *__: Any) -> str:
    return "by zero" if bool((by == 0).any()) else ""


def _power(x: Tensor, exponent: Tensor, *_: Any) -> str:
    if bool(((x < 0) & (exponent != exponent.round())).any()):
        return f"of negative values (the least is {x.min().item():.3g}) with a fraction for an exponent"
    return "of zero with a negative exponent" if bool(((x == 0) & (exponent < 0)).any()) else ""


def _masked(x: Tensor, *_: Any) -> str:
    return "of rows in which all is masked" if bool((x == -torch.inf).any()) else ""


_DOMAINS: Mapping[str, Callable[..., str]] = {
    "Acos": _beyond_one,
    "Asin": _beyond_one,
    "Atanh": _beyond_one,
    "Div": _divided,
    "Log": _not_positive,
    "LogSoftmax": _masked,
    "Pow": _power,
    "Reciprocal": _zero,
    "Softmax": _masked,
    "Sqrt": _negative,
}


def first_non_finite_value(
    module: fx.GraphModule, fed: Sequence[Tensor | Samples], hint: str | None = SCALED
) -> NumericalError:
    """The error that locates where activations become non-finite: at a node, or in a weight of the file.

    Args:
        module: what was run.
        fed: its inputs.
        hint: the next step, unless the inputs are the cause.
    """
    finder = Finder(module, "value")
    with torch.no_grad():
        finder.run(*fed)
    if finder.culprit is None and finder.weight is not None:
        return NumericalError(
            f"the weight {finder.weight!r} holds values that are not finite",
            hint="Repair the checkpoint, or score it with --protocol architecture",
        )
    if finder.culprit is not None and finder.why:
        node = finder.culprit
        why = f"{node.meta.get('onnx_op')} {finder.why}"
        return numerical(f"an activation is not finite: {why}; it began", node, _suited(finder, fed))
    return numerical("an activation overflows or is not a number; it began", finder.culprit, hint)


def _suited(finder: Finder, fed: Sequence[Tensor | Samples]) -> str | None:
    """Hint that names the inputs behind undefined arguments or a mask of everything; None if unknown."""
    node = finder.culprit
    while node is not None:
        first = node
        before = [
            s for s in node.all_input_nodes if s.op == "call_function" and not finder.finite.get(s, True)
        ]
        node = before[0] if before else None
    names = sorted(sources_of(first).values)
    given = [n.meta.get("onnx_name") for n in first.graph.nodes if n.op == "placeholder"]
    if not names or first.graph is not finder.graph:
        return None
    value = fed[given.index(names[0])]
    part = value[0] if isinstance(value, Samples) else value
    other = "1.0" if part.is_floating_point() else str(int(not bool((part != 0).all())))
    several = ", ".join(map(repr, names[:6]))
    option = shlex.quote(f"{names[0]}={other}")
    return f"It follows from {several}: feed values that suit the model, such as --input {option}"


def numerical(message: str, node: fx.Node | None, hint: str | None = SCALED) -> NumericalError:
    """An error at a node, if known; the message ends in ``; it began``."""
    meta = node.meta if node is not None else {}
    return NumericalError(
        f"{message} here" if node is not None else message.rpartition(";")[0],
        node=meta.get("onnx_name"),
        op=meta.get("onnx_op"),
        hint=hint,
    )
