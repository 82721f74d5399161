"""Body of an Einsum that contracts two operands: Transpose, Reshape and a batched MatMul.

Indices are batch (in both operands and the result), contracted (in both operands only), or free (in one
operand and the result). The left operand becomes (free but one, batch, last free, contracted), the right one
(batch, contracted, free): MatMul broadcasts over the leading axes, and no free dimension must be known.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import onnx_ir as ir

from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import name_of
from intrain_onnx.rewrites.contrib_bodies.call import Call, Later, body

_MAX_AXES = 16
_FIRST_SIGN = 0x2460
"""First code point of the indices of an ellipsis: no letter, so an equation cannot contain it."""


_BIASED = "intrain_onnx.einsum"
"""Private domain of an Einsum fused with the Add of its bias."""


@body("Einsum", "a b", domain="", exact=True)
def _einsum(call: Call) -> str | None:
    plan = _plan(call)
    return None if plan is None else plan.text(call, "y")


@body("Einsum", "a b bias", domain=_BIASED)
def _biased_einsum(call: Call) -> str:
    """A bias along the free axes of the weight is added to the product before the final Reshape."""
    try:
        plan = _plan(call)
    except Later:
        if not call.guess:
            raise
        plan = None
    fits = plan is not None and plan.fits(call)
    text = plan.text(call, "y" if fits else "h", bias=fits) if plan is not None else None
    if text is not None and fits:
        return text
    text = text or f"h = Einsum {call.passed(equation='string')} (a, b)"
    return f"{text} y = Add (h, bias)"


def join_biases(model: ir.Model) -> None:
    """Fuse each Einsum of two operands with the constant that only an Add adds to it, in place."""
    for node in list(every_node(model.graph)):
        if node.op_type != "Einsum" or node.domain or len(node.inputs) != 2 or len(node.outputs) != 1:
            continue
        uses = list(node.outputs[0].uses())
        if len(uses) != 1 or node.outputs[0].is_graph_output():
            continue
        adder = uses[0].node
        if adder.op_type != "Add" or adder.domain or adder.graph is not node.graph or len(adder.inputs) != 2:
            continue
        bias = adder.inputs[1 - uses[0].idx]
        if bias is not None and (bias.is_initializer() or _is_literal(bias)):
            _join(node, adder, bias)


def _is_literal(value: ir.Value) -> bool:
    maker = value.producer()
    return maker is not None and maker.op_type == "Constant" and not maker.domain


def _join(node: ir.Node, adder: ir.Node, bias: ir.Value) -> None:
    adder.domain, adder.op_type, adder.name = _BIASED, "Einsum", name_of(node)
    for name, attribute in node.attributes.items():
        adder.attributes[name] = attribute
    adder.resize_inputs(3)
    for index, value in enumerate((*node.inputs, bias)):
        adder.replace_input_with(index, value)
    assert node.graph is not None
    node.graph.remove(node, safe=True)


def _plan(call: Call) -> _Plan | None:
    letters = _letters(call, call.word("equation").replace(" ", ""))
    return None if letters is None else _Plan.of(call, *letters)


def _letters(call: Call, equation: str) -> tuple[str, str, str] | None:
    """Indices of both operands and the result, ellipses expanded; None for a repeated index (diagonal)."""
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
    """The indices of an operand with its ellipsis expanded, and those of the ellipsis alone."""
    dots = "..." in part
    rank = call.rank(name) if dots else call.known_rank(name)
    hidden = 0 if rank is None else rank - len(part.replace("...", ""))
    if not 0 <= hidden <= (_MAX_AXES if dots else 0):
        call.fail(f"an operand of {rank} axes for {part!r}")
    signs = "".join(map(chr, range(_FIRST_SIGN, _FIRST_SIGN + hidden)))[::-1]
    return part.replace("...", signs), signs


@dataclass(frozen=True, slots=True)
class _Plan:
    """The order of the operands, and the classes and sizes of the indices."""

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

    @property
    def columns(self) -> str:
        """Free indices of the right operand, in the order of the result."""
        return "".join(c for c in self.out if c in self.right[1] and c not in self.batch)

    def fits(self, call: Call) -> bool:
        """Whether the bias has exactly the axes of the columns."""
        bias = call.constant("bias")
        shape = () if bias is None else bias.shape
        places = dict(zip(reversed(self.out), reversed(shape), strict=False))
        along = all(places.get(c) == self.sizes[c] for c in self.columns)
        return bool(self.columns) and along and all(n == 1 or c in self.columns for c, n in places.items())

    def text(self, call: Call, y: str, *, bias: bool = False) -> str | None:
        """The nodes that compute ``y``, ``bias`` added to the product; None if a needed size is unknown."""
        free = [c for c in self.left[1] if c not in self.batch + self.contracted]
        ahead, row = "".join(free[:-1]), "".join(free[-1:])
        columns = self.columns
        if not row and self.batch:
            row = "1"
        first = self._operand_left(call, ahead + self.batch + row)
        second = self._operand_right(call, columns)
        made = self._result(call, ahead + self.batch + row, columns, y)
        if second is None or made is None:
            return None
        product = "product = MatMul (left, right)"
        if bias:
            flat = f"vector = Reshape (bias, {call.ints(-1)})"
            product = f"bare = MatMul (left, right) {flat} product = Add (bare, vector)"
        return f"{first} {second} {product} {made}"

    def _operand_left(self, call: Call, rows: str) -> str:
        name, part = self.left
        text = _transposed(name, part, rows.replace("1", "") + self.contracted, "left_turned")
        if "1" not in rows and len(self.contracted) == 1:
            return f"{text} left = Identity (left_turned)"
        target = [1 if c == "1" else 0 for c in rows]
        return f"{text} left = Reshape (left_turned, {call.ints(*target, -1)})"

    def _operand_right(self, call: Call, columns: str) -> str | None:
        """``right`` of shape (batch, contracted, columns), the last two flattened to one axis each."""
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

    def _result(self, call: Call, rows: str, columns: str, y: str) -> str | None:
        """``y``: the product, reshaped and transposed to the order of the result."""
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
        return f"{text} {_transposed(made, rows.replace('1', '') + columns, self.out, y)}"

    def _product(self, letters: str) -> int | None:
        sizes = [self.sizes[c] for c in letters]
        known = [s for s in sizes if s is not None]
        return math.prod(known) if len(known) == len(sizes) else None


def _first_free(out: str, a: str, b: str) -> str | None:
    """The operand with the first free index of the result: its free indices become the rows."""
    return next(("a" if c in a else "b" for c in out if (c in a) != (c in b)), None)


def _transposed(x: str, part: str, order: str, y: str) -> str:
    if part == order:
        return f"{y} = Identity ({x})"
    return f"{y} = Transpose <perm: ints = {[part.index(c) for c in order]}> ({x})"
