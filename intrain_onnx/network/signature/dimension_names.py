"""Names of dimensions as exporters write them: symbols, numerals, and arithmetic over other symbols.

    expression = term {("+" | "-") term}
    term       = factor {("*" | "/" | "//") factor}
    factor     = numeral | symbol | "(" expression ")" | ("floor" | "ceil") "(" expression ")"

Names come from untrusted files, so they are parsed by this grammar and never evaluated as code. A name that
does not parse is an opaque symbol.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

_LONGEST_NAME = 200
_DEEPEST = 20
_LARGEST = 2**31

_TOKEN: Final = re.compile(r"\s*(?:(\d{1,10})|([A-Za-z_][\w.]*)|(//|[-+*/()]))")
_FUNCTIONS: Final = ("floor", "ceil")


@dataclass(frozen=True, slots=True)
class Expression:
    """A size computed from symbols.

    Attributes:
        symbols: those in the expression, without duplicates, in order.
        value: the size for given sizes of the symbols; None if it is not an integer in [0, 2^31].
    """

    symbols: tuple[str, ...]
    value: Callable[[Mapping[str, int]], int | None]


def numeral(name: str) -> int | None:
    """The size for a name of digits; None for any other name."""
    return int(name) if re.fullmatch(r"[0-9]{1,10}", name) and int(name) <= _LARGEST else None


def parse(name: str) -> Expression | None:
    """Parse a name as arithmetic; None for a single symbol, and if it does not parse."""
    if len(name) > _LONGEST_NAME:
        return None
    try:
        tokens = list(_tokens(name))
        parser = _Parser(tokens)
        tree = parser.expression(0)
    except ValueError:
        return None
    if parser.position != len(tokens) or not isinstance(tree, tuple):
        return None
    symbols = tuple(
        dict.fromkeys(text for kind, text in tokens if kind == "symbol" and text not in _FUNCTIONS)
    )
    return Expression(symbols, lambda sizes: _whole(tree, sizes)) if symbols else None


_Tree = int | str | tuple["str", "_Tree", "_Tree"]


def _tokens(name: str) -> Iterator[tuple[str, str]]:
    position = 0
    text = name.rstrip()
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            raise ValueError(name)
        number, symbol, operator = found.groups()
        yield ("number", number) if number else ("symbol", symbol) if symbol else ("operator", operator)
        position = found.end()


class _Parser:
    """Recursive descent over the tokens of one name."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.position = 0

    def expression(self, depth: int) -> _Tree:
        return self._chain(("+", "-"), self._term, depth)

    def _term(self, depth: int) -> _Tree:
        return self._chain(("*", "/", "//"), self._factor, depth)

    def _chain(self, operators: tuple[str, ...], part: Callable[[int], _Tree], depth: int) -> _Tree:
        tree = part(depth)
        while self._peek() in operators:
            operator = self._take()
            tree = (operator, tree, part(depth))
        return tree

    def _factor(self, depth: int) -> _Tree:
        if depth > _DEEPEST or self.position >= len(self.tokens):
            raise ValueError
        kind, text = self.tokens[self.position]
        self.position += 1
        if kind == "number":
            return int(text)
        if kind == "symbol" and not (text in _FUNCTIONS and self._peek() == "("):
            return text
        if kind == "symbol":
            self._take()
        elif text != "(":
            raise ValueError
        tree = self.expression(depth + 1)
        if self._peek() != ")":
            raise ValueError
        self._take()
        return (text, tree, 0) if kind == "symbol" else tree

    def _peek(self) -> str | None:
        kind, text = self.tokens[self.position] if self.position < len(self.tokens) else ("", None)
        return text if kind == "operator" else None

    def _take(self) -> str:
        self.position += 1
        return self.tokens[self.position - 1][1]


def _evaluate(tree: _Tree, sizes: Mapping[str, int]) -> float:
    if isinstance(tree, int):
        return tree
    if isinstance(tree, str):
        return sizes[tree]
    operator, left, right = tree
    a, b = _evaluate(left, sizes), _evaluate(right, sizes)
    if operator == "floor":
        return a // 1
    if operator == "ceil":
        return -(-a // 1)
    if operator in ("/", "//"):
        if not b:
            raise ZeroDivisionError
        return a / b if operator == "/" else a // b
    return a + b if operator == "+" else a - b if operator == "-" else a * b


def _whole(tree: _Tree, sizes: Mapping[str, int]) -> int | None:
    try:
        value = _evaluate(tree, sizes)
    except (ArithmeticError, KeyError):
        return None
    return int(value) if 0 <= value <= _LARGEST and value == int(value) else None
