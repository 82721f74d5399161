"""Activation functions x g(x) written out: GELU, its tanh approximation, SiLU and HardSwish.

Each is found by the node that computes its gate z = f(p), p a polynomial in x; then the product y must be a
given polynomial in x and z, however its factors are ordered and grouped.

    GELU        z = erf(x / sqrt 2)                                  y = x / 2 + x z / 2
    by tanh     z = tanh(sqrt(2 / pi) (x + 0.044715 x^3))            y = x / 2 + x z / 2
    SiLU        z = sigmoid(x)                                       y = x z
    HardSwish   z = clip(h (x / 6 + 1 / 2), 0, h)                    y = x z / h

A hard sigmoid of p is clip(a p + b, 0, 1); erf and tanh are odd, so that their argument may have the other
sign.

It declines where a constant is another one, beyond the rounding of the type, where a bound or a coefficient
is trained, and in half precision, which ONNX rounds after each node.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from torch import fx
from torch.nn import functional

from intrain_onnx.runtime.fuse.form import Found, View, followers, is_op, precision, rank
from intrain_onnx.runtime.fuse.polynomial import Expansion, Polynomial, equals, scaled

_X: Polynomial = {(1, 0): 1.0}
_HALVES: Polynomial = {(1, 0): 0.5, (1, 1): 0.5}
_PRODUCT: Polynomial = {(1, 1): 1.0}
_ROOT = math.sqrt(2 / math.pi)

_SMOOTH: dict[str, tuple[Polynomial, Polynomial, str, dict[str, Any]]] = {
    "Erf": ({(1, 0): math.sqrt(0.5)}, _HALVES, "Gelu", {}),
    "Tanh": ({(1, 0): _ROOT, (3, 0): _ROOT * 0.044715}, _HALVES, "Gelu", {"approximate": "tanh"}),
    "Sigmoid": (_X, _PRODUCT, "Swish", {}),
}
"""Gate: its argument, the product, the ONNX operator and its attributes."""

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Gelu": functional.gelu,
    "Swish": functional.silu,
    "HardSwish": functional.hardswish,
}

_ULPS = 16
"""Rounding errors by which a product of rounded constants may differ from the exact one."""

_LONGEST = 4
"""Nodes between a gate and the product."""


def find(view: View, gate: fx.Node) -> Found | None:
    """The activation function whose gate a node computes; None if it is none."""
    eps = precision(gate)
    gated = _gated(view, gate) if eps is not None and view.may_go(gate) else None
    if eps is None or gated is None:
        return None
    for x in _candidates(gated.argument):
        inner = Expansion(view, {x: (1, 0)}, rank(gate))
        p = inner.of(gated.argument)
        sign = next((s for s in gated.signs if equals(p, scaled(gated.p, s), eps * _ULPS)), None)
        if sign is None:
            continue
        y = {(i, j): c * sign**j for (i, j), c in gated.y.items()}
        for root in followers(gate, _LONGEST):
            outer = Expansion(view, {x: (1, 0), gate: (0, 1)}, rank(gate))
            if equals(outer.of(root), y, eps * _ULPS):
                inside = dict.fromkeys((*inner.inside, *outer.inside, *gated.inside, gate))
                inside.pop(root)
                return Found(root, tuple(inside), _FUNCTIONS[gated.op], (x,), gated.attributes, gated.op)
    return None


def _candidates(argument: Any) -> Iterator[fx.Node]:
    """Values that the argument of a gate may be a polynomial of, the nearest first; constants are none."""
    waiting, seen = [argument], set[fx.Node]()
    while waiting and len(seen) < _LONGEST * 2:
        node = waiting.pop(0)
        if isinstance(node, fx.Node) and node.op != "get_attr" and node not in seen:
            seen.add(node)
            yield node
            if is_op(node, "Add", "Sub", "Mul", "Div", "Neg", "Pow"):
                waiting += node.args


@dataclass(frozen=True, slots=True)
class _Gate:
    """What a gate has to be for an activation function.

    Attributes:
        argument: the node whose value the gate is a function of.
        p: what that has to be, in x.
        y: what the product has to be, in x and the gate.
        op: the ONNX operator.
        attributes: of it.
        signs: of the argument that will do: an odd function has both.
        inside: nodes between argument and gate.
    """

    argument: Any
    p: Polynomial
    y: Polynomial
    op: str
    attributes: dict[str, Any] = field(default_factory=dict)
    signs: tuple[int, ...] = (1,)
    inside: tuple[fx.Node, ...] = ()


def _gated(view: View, gate: fx.Node) -> _Gate | None:
    """What is expected of a gate; None for a node that is none."""
    if is_op(gate, *_SMOOTH):
        p, y, op, attributes = _SMOOTH[gate.meta["onnx_op"]]
        signs = (1,) if op == "Swish" else (1, -1)
        return _Gate(gate.args[0], p, y, op, attributes, signs)
    if is_op(gate, "HardSigmoid"):
        attribute: Mapping[str, Any] = gate.kwargs
        a, b = attribute.get("alpha", 0.2), attribute.get("beta", 0.5)
        p = {(1, 0): 1 / (6 * a), (0, 0): (0.5 - b) / a} if a else {}
        return _Gate(gate.args[0], {k: v for k, v in p.items() if v}, _PRODUCT, "HardSwish")
    clipped = _clipped(view, gate)
    if clipped is None:
        return None
    argument, low, high, inside = clipped
    if low != 0 or not high or high <= 0:
        return None
    p, y = {(1, 0): high / 6, (0, 0): high / 2}, {(1, 1): 1 / high}
    return _Gate(argument, p, y, "HardSwish", inside=inside)


def _clipped(view: View, gate: fx.Node) -> tuple[Any, float | None, float | None, tuple[fx.Node, ...]] | None:
    """What a node limits, its bounds, and the nodes between: a Clip, or a Min of a Max or a Relu."""
    number, attribute = partial(view.number, rank=rank(gate)), dict[str, Any](gate.kwargs)
    if is_op(gate, "Clip") and len(gate.args) == 1:
        return gate.args[0], attribute.get("min"), attribute.get("max"), ()
    if is_op(gate, "Clip") and len(gate.args) == 3:
        return gate.args[0], number(gate.args[1]), number(gate.args[2]), ()
    inner: Any = gate.args[0] if is_op(gate, "Min") and len(gate.args) == 2 else None
    if is_op(inner, "Relu"):
        return inner.args[0], 0.0, number(gate.args[1]), (inner,)
    if is_op(inner, "Max") and len(inner.args) == 2:
        return inner.args[0], number(inner.args[1]), number(gate.args[1]), (inner,)
    return None
