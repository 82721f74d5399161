"""Activation functions x g(x) written out: GELU, its tanh approximation, SiLU and HardSwish.

Each is found by the node that computes its gate z = f(p), p a polynomial in x; then the product y must be a
given polynomial in x and z, however its factors are ordered and grouped.

    GELU        z = erf(x / sqrt 2)                                  y = x / 2 + x z / 2
    by tanh     z = tanh(sqrt(2 / pi) (x + 0.044715 x^3))            y = x / 2 + x z / 2
    SiLU        z = sigmoid(x)                                       y = x z
    HardSwish   z = clip(p, 0, h), or hard sigmoid, which is clip(a p + b, 0, 1)
                                                                     y = c x z, c h = 1, c p = x / 6 + 1 / 2

It declines where a constant is another one, beyond the rounding of the type, where a bound or a coefficient is
trained, and in half precision, which ONNX rounds after each node.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import fx
from torch.nn import functional

from intrain_onnx.runtime.fuse.form import Found, View, followers, is_op, precision, rank
from intrain_onnx.runtime.fuse.polynomial import Expansion, Polynomial, equals

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

_FUNCTIONS = {"Gelu": functional.gelu, "Swish": functional.silu, "HardSwish": functional.hardswish}

_ULPS = 16
"""Rounding errors by which a product of rounded constants may differ from the exact one."""

_LONGEST = 4
"""Nodes between a gate and the product."""


def find(view: View, gate: fx.Node) -> Found | None:
    """The activation function whose gate a node computes; None if it is none."""
    eps = precision(gate)
    if eps is None or not is_op(gate, *_SMOOTH, "HardSigmoid", "Clip") or not view.may_go(gate):
        return None
    for x in _candidates(gate.args[0]):
        argument = Expansion(view, {x: (1, 0)}, rank(gate))
        p = argument.of(gate.args[0])
        wanted = _wanted(view, gate, p, eps * _ULPS) if p is not None else None
        if wanted is None:
            continue
        y, op, attributes = wanted
        for root in followers(gate, _LONGEST):
            product = Expansion(view, {x: (1, 0), gate: (0, 1)}, rank(gate))
            if equals(product.of(root), y, eps * _ULPS):
                inside = {**argument.inside, **product.inside, gate: None}
                inside.pop(root)
                return Found(root, tuple(inside), _FUNCTIONS[op], (x,), attributes, op)
    return None


def _candidates(argument: Any) -> Iterator[fx.Node]:
    """Values that the argument of a gate may be a polynomial of, the nearest first; constants are none."""
    waiting, seen = [argument], set()
    while waiting and len(seen) < _LONGEST * 2:
        node = waiting.pop(0)
        if isinstance(node, fx.Node) and node.op != "get_attr" and node not in seen:
            seen.add(node)
            yield node
            if is_op(node, "Add", "Sub", "Mul", "Div", "Pow"):
                waiting += node.args


def _wanted(
    view: View, gate: fx.Node, p: Polynomial, tolerance: float
) -> tuple[Polynomial, str, dict[str, Any]] | None:
    """What the product has to be, the operator and its attributes; None for another argument of the gate."""
    op = gate.meta["onnx_op"]
    if op in _SMOOTH:
        argument, y, name, attributes = _SMOOTH[op]
        return (y, name, attributes) if equals(p, argument, tolerance) else None
    high = _clipped(view, gate)
    if op == "HardSigmoid":
        a, b = gate.kwargs.get("alpha", 0.2), gate.kwargs.get("beta", 0.5)
        p, high = {k: a * v for k, v in p.items()}, 1.0
        p[0, 0] = p.get((0, 0), 0.0) + b
    if high is None or not equals(p, {(1, 0): high / 6, (0, 0): high / 2}, tolerance):
        return None
    return {(1, 1): 1 / high}, "HardSwish", {}


def _clipped(view: View, gate: fx.Node) -> float | None:
    """The upper bound of a Clip from zero; None for other bounds."""
    if gate.meta["onnx_op"] != "Clip":
        return None
    number = partial(view.number, rank=rank(gate))
    low, high = (
        (gate.kwargs.get("min"), gate.kwargs.get("max"))
        if len(gate.args) == 1
        else (number(a) for a in (*gate.args[1:], None)[:2])
    )
    return high if low == 0 and high else None
