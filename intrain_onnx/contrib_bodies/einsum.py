"""Body of an Einsum of two operands that contracts something: a matrix product between views.

Letters are those of a batch (in both operands and the result), contracted (in both operands alone), and free
ones of either operand. The left operand is brought to (free but one, batch, last free, contracted), the right
one to (batch, contracted, free), so that MatMul's broadcasting does the rest and no open size is needed.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from intrain_onnx.contrib_bodies.call import Call, body

_MAX_AXES = 16
_FIRST_SIGN = 0x2460
"""No letter: an equation cannot hold it."""


@body("Einsum", "a b", domain="", exact=True)
def _einsum(call: Call) -> str | None:
    equation = call.word("equation").replace(" ", "")
    letters = _letters(call, equation)
    if letters is None:
        return None
    a, b, out = letters
    plan = _Plan.of(call, a, b, out)
    return None if plan is None else plan.text(call)


def _letters(call: Call, equation: str) -> tuple[str, str, str] | None:
    """Letters of both operands and the result, the axes of an ellipsis among them; None for a diagonal."""
    terms, arrow, out = equation.partition("->")
    parts = terms.split(",")
    if len(parts) != 2:
        call.fail(f"the equation {equation!r} for two operands")
    if not all(part.replace("...", "", 1).isalpha() or part in ("", "...") for part in (*parts, out)):
        call.fail(f"the equation {equation!r}")
    if not arrow:
        counts = Counter("".join(parts).replace(".", ""))
        out = ("..." if "..." in terms else "") + "".join(sorted(c for c, n in counts.items() if n == 1))
    spread = [_spread(call, name, part) for name, part in zip("ab", parts, strict=True)]
    whole = max((dots for _, dots in spread), key=len)
    operands = [part for part, _ in spread]
    out = out.replace("...", whole)
    if any(len(set(p)) < len(p) for p in (*operands, out)) or not set(out) <= set("".join(operands)):
        return None
    return operands[0], operands[1], out


def _spread(call: Call, name: str, part: str) -> tuple[str, str]:
    """The letters of an operand, signs for the axes of its ellipsis, from the last; and these alone."""
    dots = "..." in part
    rank = call.rank(name) if dots else call.known_rank(name)
    hidden = 0 if rank is None else rank - len(part.replace("...", ""))
    if not 0 <= hidden <= (_MAX_AXES if dots else 0):
        call.fail(f"an operand of {rank} axes for {part!r}")
    signs = "".join(map(chr, range(_FIRST_SIGN, _FIRST_SIGN + hidden)))[::-1]
    return part.replace("...", signs), signs


@dataclass(frozen=True, slots=True)
class _Plan:
    """Which operand goes left, and what each letter is."""

    left: tuple[str, str]
    right: tuple[str, str]
    out: str
    batch: str
    contracted: str
    sizes: dict[str, int | None]

    @classmethod
    def of(cls, call: Call, a: str, b: str, out: str) -> _Plan | None:
        batch = "".join(c for c in out if c in a and c in b)
        contracted = "".join(c for c in a if c in b and c not in out)
        summed = [c for c in a + b if (c in a) != (c in b) and c not in out]
        if not contracted or summed:
            return None
        sides = ("a", a), ("b", b)
        if call.is_fixed("a") or (not call.is_fixed("b") and _first_free(out, a, b) == "b"):
            sides = sides[1], sides[0]
        sizes: dict[str, int | None] = {}
        for name, part in sides:
            for axis, c in enumerate(part):
                sizes[c] = sizes.get(c) or call.size(name, axis)
        return cls(*sides, out, batch, contracted, sizes)

    def text(self, call: Call) -> str | None:
        free = [c for c in self.left[1] if c not in self.batch + self.contracted]
        ahead, row = "".join(free[:-1]), "".join(free[-1:])
        columns = "".join(c for c in self.right[1] if c not in self.batch + self.contracted)
        if not row and self.batch:
            row = "1"
        first = self._operand_left(call, ahead + self.batch + row)
        second = self._operand_right(call, columns)
        made = self._result(call, ahead + self.batch + row, columns)
        if second is None or made is None:
            return None
        return f"{first} {second} product = MatMul (left, right) {made}"

    def _operand_left(self, call: Call, rows: str) -> str:
        name, part = self.left
        text = _transposed(name, part, rows.replace("1", "") + self.contracted, "left_turned")
        if "1" not in rows and len(self.contracted) == 1:
            return f"{text} left = Identity (left_turned)"
        target = [1 if c == "1" else 0 for c in rows]
        return f"{text} left = Reshape (left_turned, {call.ints(*target, -1)})"

    def _operand_right(self, call: Call, columns: str) -> str | None:
        """(batch, contracted, columns), the last two each one axis."""
        name, part = self.right
        keep = [0] * len(self.batch)
        if len(self.contracted) > 1 and len(columns) == 1:
            text = _transposed(name, part, self.batch + columns + self.contracted, "right_turned")
            count = len(keep)
            back = [*range(count), count + 1, count]
            return f"""{text} right_flat = Reshape (right_turned, {call.ints(*keep, 0, -1)})
                right = Transpose <perm: ints = {back}> (right_flat)"""
        text = _transposed(name, part, self.batch + self.contracted + columns, "right_turned")
        if len(self.contracted) == len(columns) == 1:
            return f"{text} right = Identity (right_turned)"
        if len(self.contracted) == 1:
            target = [*keep, 0, -1 if columns else 1]
        else:
            width = self._product(columns)
            height = self._product(self.contracted)
            if width is None and height is None:
                return None
            target = [*keep, -1, width] if width is not None else [*keep, height or 0, -1]
        return f"{text} right = Reshape (right_turned, {call.ints(*target)})"

    def _result(self, call: Call, rows: str, columns: str) -> str | None:
        """The product's axes in the order of the result."""
        text, made = "", "product"
        if len(columns) != 1 or "1" in rows:
            kept = [0] * len(rows.replace("1", ""))
            sizes = [self.sizes[c] for c in columns]
            if sizes.count(None) > 1:
                return None
            target = [*kept, *(-1 if s is None else s for s in sizes)]
            if not target:
                return None
            text, made = f"product_apart = Reshape (product, {call.ints(*target)})", "product_apart"
        return f"{text} {_transposed(made, rows.replace('1', '') + columns, self.out, 'y')}"

    def _product(self, letters: str) -> int | None:
        sizes = [self.sizes[c] for c in letters]
        known = [s for s in sizes if s is not None]
        return math.prod(known) if len(known) == len(sizes) else None


def _first_free(out: str, a: str, b: str) -> str | None:
    """The operand that has the first letter of the result that the other lacks: rows come before columns."""
    return next(("a" if c in a else "b" for c in out if (c in a) != (c in b)), None)


def _transposed(x: str, part: str, order: str, y: str) -> str:
    if part == order:
        return f"{y} = Identity ({x})"
    return f"{y} = Transpose <perm: ints = {[part.index(c) for c in order]}> ({x})"
