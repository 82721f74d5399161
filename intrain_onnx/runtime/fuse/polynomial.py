"""Expansion of arithmetic with constant numbers to a polynomial: the order of operands does not matter.

A polynomial in the values x and z is a mapping of exponents (i, j) to the coefficient of x^i z^j.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import fx

from intrain_onnx.runtime.fuse.form import View, is_op

Exponents = tuple[int, int]
Polynomial = Mapping[Exponents, float]

_HIGHEST = 3
"""Of the exponents that a form has."""

_DEEPEST = 12
"""Nodes on a path of one expression."""


class Expansion:
    """Expands nodes in terms of given values, and remembers which nodes it went through.

    Attributes:
        inside: the nodes of the expressions that were expanded.
    """

    def __init__(self, view: View, atoms: Mapping[fx.Node, Exponents], rank: int | None) -> None:
        self.view = view
        self.atoms = atoms
        self.rank = rank
        self.inside: dict[fx.Node, None] = {}

    def of(self, node: Any, depth: int = _DEEPEST) -> Polynomial | None:
        """The polynomial that a node computes; None if it is none in these values."""
        if node in self.atoms:
            return {self.atoms[node]: 1.0}
        number = self.view.number(node, self.rank)
        if number is not None:
            return {(0, 0): number}
        if not depth or not is_op(node, "Add", "Sub", "Mul", "Div", "Neg", "Pow"):
            return None
        self.inside[node] = None
        terms = [self.of(a, depth - 1) for a in node.args]
        if any(t is None for t in terms):
            return None
        return _combine(node.meta["onnx_op"], [t for t in terms if t is not None])


def _combine(op: str, terms: list[Polynomial]) -> Polynomial | None:
    first, second = terms[0], terms[-1]
    if op == "Neg":
        return scaled(first, -1.0)
    if op == "Add":
        return _sum(first, second)
    if op == "Sub":
        return _sum(first, scaled(second, -1.0))
    if op == "Mul":
        return _product(first, second)
    number = second.get((0, 0), 0.0) if second.keys() <= {(0, 0)} else 0.0
    if op == "Div":
        return scaled(first, 1 / number) if number else None
    return _power(first, number)


def _power(base: Polynomial, exponent: float) -> Polynomial | None:
    if exponent not in range(1, _HIGHEST + 1):
        return None
    result: Polynomial | None = base
    for _ in range(int(exponent) - 1):
        result = _product(result, base) if result is not None else None
    return result


def scaled(p: Polynomial, factor: float) -> Polynomial:
    """A polynomial times a number."""
    return {k: v * factor for k, v in p.items()}


def _sum(p: Polynomial, q: Polynomial) -> Polynomial:
    return {k: p.get(k, 0.0) + q.get(k, 0.0) for k in {**p, **q}}


def _product(p: Polynomial, q: Polynomial) -> Polynomial | None:
    result: dict[Exponents, float] = {}
    for (a, b), v in p.items():
        for (c, d), w in q.items():
            result[a + c, b + d] = result.get((a + c, b + d), 0.0) + v * w
    return result if all(max(k) <= _HIGHEST for k in result) else None


def equals(p: Polynomial | None, q: Polynomial, tolerance: float) -> bool:
    """Whether two polynomials have the same coefficients, up to a relative error."""
    if p is None:
        return False
    keys = {k for k, v in p.items() if v} | set(q)
    return all(math.isclose(p.get(k, 0.0), q.get(k, 0.0), rel_tol=tolerance) for k in keys)
