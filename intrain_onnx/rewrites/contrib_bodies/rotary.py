"""Bodies of RotaryEmbedding, of com.microsoft and ai.onnx."""

from __future__ import annotations

from intrain_onnx.rewrites.contrib_bodies.call import Call, body


@body("RotaryEmbedding", "x places cos_table sin_table")
def _rotary_embedding(call: Call) -> str | None:
    """A one-dimensional ``places`` is the position of the first token of every sample."""
    if call.real("scale", 1.0) != 1.0:
        return None
    call.ignore("is_packed_batching")
    heads, size = call.integer("num_heads", 0), call.integer("rotary_embedding_dim", 0)
    text, places = "", "places"
    packed = call.rank("x") == 3
    if call.rank("places") == 1:
        text = f"""{call.positions("x", 1 if packed else 2, "place_row")}
            place_all = Add (places, place_row)
            place_first = {call.unsqueeze("place_all", 0)}"""
        places = "place_first"
    text += f" cos = Gather (cos_table, {places}) sin = Gather (sin_table, {places})"
    return f"{text} {_embedded(call, packed, heads, size)}"


@body("RotaryEmbedding", "x cos_table sin_table places?", domain="")
def _rotary_embedding_of_onnx(call: Call) -> str | None:
    heads, size = call.integer("num_heads", 0), call.integer("rotary_embedding_dim", 0)
    if call.has("places"):
        text = "cos = Gather (cos_table, places) sin = Gather (sin_table, places)"
    else:
        text = "cos = Identity (cos_table) sin = Identity (sin_table)"
    return f"{text} {_embedded(call, call.rank('x') == 3, heads, size)}"


def _embedded(call: Call, packed: bool, heads: int, size: int) -> str:
    """``y``: ``x`` rotated by ``cos`` and ``sin`` of shape (batch, time, size / 2)."""
    if not 0 <= heads < 2**16 or size < 0 or size % 2:
        call.fail(f"{heads} heads, of which {size} features are turned")
    if not packed:
        return rotated(call, "x", "y", axis=1, size=size)
    table = call.size("cos_table", -1)
    if heads:
        target = call.ints(0, 0, heads, -1)
    elif table is not None:
        target = call.ints(0, 0, -1, 2 * table)
    else:
        call.refuse("rotary embedding of a table and heads of unknown sizes", "Give num_heads")
    return f"""apart = Reshape (x, {target})
        {rotated(call, "apart", "turned", axis=2, size=size)}
        y = Reshape (turned, {call.ints(0, 0, -1)})"""


def rotated(call: Call, x: str, y: str, *, axis: int, size: int) -> str:
    """``y``: ``x`` with pairs of its first ``size`` features rotated by ``cos`` and ``sin``.

    Args:
        call: its operator has the attribute ``interleaved`` or ``rotary_interleaved``.
        x: name of a value of rank 4.
        y: name of the result.
        axis: axis of the heads in ``x``, inserted into ``cos`` and ``sin``.
        size: number of rotated features; 0 for all.
    """
    name = "interleaved" if "interleaved" in call.node.attributes else "rotary_interleaved"
    interleaved = call.flag(name)
    part = f"{y}_first" if size else x
    text = ""
    if size:
        text = f"""{y}_first = {call.slice(x, 0, size)}
            {y}_rest = {call.slice(x, size, 2**31 - 1)}"""
    turn = _pairs if interleaved else _halves
    made = f"{y}_new" if size else y
    text += f"""
        {y}_cos = {call.unsqueeze("cos", axis)}
        {y}_sin = {call.unsqueeze("sin", axis)}
        {turn(call, part, made, y)}"""
    return f"{text} {y} = Concat <axis: int = -1> ({made}, {y}_rest)" if size else text


def _halves(call: Call, x: str, y: str, table: str) -> str:
    """``y = x cos + (-second half, first half) sin``, pairs (i, i + size / 2): the usual decomposition."""
    return f"""
        {call.equal_parts(x, [f"{y}_left", f"{y}_right"])}
        {y}_minus = Neg ({y}_right)
        {y}_swapped = Concat <axis: int = -1> ({y}_minus, {y}_left)
        {y}_cosines = Concat <axis: int = -1> ({table}_cos, {table}_cos)
        {y}_sines = Concat <axis: int = -1> ({table}_sin, {table}_sin)
        {y}_straight = Mul ({x}, {y}_cosines)
        {y}_across = Mul ({y}_swapped, {y}_sines)
        {y} = Add ({y}_straight, {y}_across)"""


def _pairs(call: Call, x: str, y: str, table: str) -> str:
    return f"""
        {y}_paired = Reshape ({x}, {call.ints(0, 0, 0, -1, 2)})
        {y}_left = Gather <axis: int = -1> ({y}_paired, {call.index(0)})
        {y}_right = Gather <axis: int = -1> ({y}_paired, {call.index(1)})
        {y}_ca = Mul ({table}_cos, {y}_left)
        {y}_sb = Mul ({table}_sin, {y}_right)
        {y}_sa = Mul ({table}_sin, {y}_left)
        {y}_cb = Mul ({table}_cos, {y}_right)
        {y}_even = Sub ({y}_ca, {y}_sb)
        {y}_odd = Add ({y}_sa, {y}_cb)
        {y}_even_last = {call.unsqueeze(f"{y}_even", 4)}
        {y}_odd_last = {call.unsqueeze(f"{y}_odd", 4)}
        {y}_both = Concat <axis: int = -1> ({y}_even_last, {y}_odd_last)
        {y} = Reshape ({y}_both, {call.ints(0, 0, 0, -1)})"""
