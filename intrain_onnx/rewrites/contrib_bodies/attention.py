"""Bodies of com.microsoft's Attention and MultiHeadAttention: softmax(scale q k' + bias) v of each head."""

from __future__ import annotations

import math

import numpy as np

from intrain_onnx.rewrites.contrib_bodies.call import Call, Later, body

_MAX_HEADS = 2**16


def head_count(call: Call, name: str = "num_heads") -> int:
    """A number-of-heads attribute, 1 to 65,536."""
    heads = call.count(name)
    if heads > _MAX_HEADS:
        call.fail(f"the attribute '{name}' is {heads}")
    return heads


def split_heads(call: Call, x: str, heads: int, y: str) -> str:
    """(batch, time, heads * size) -> (batch, heads, time, size)."""
    return f"""{y}_apart = Reshape ({x}, {call.ints(0, 0, heads, -1)})
        {y} = Transpose <perm: ints = [0, 2, 1, 3]> ({y}_apart)"""


def merge_heads(call: Call, x: str, y: str) -> str:
    """(batch, heads, time, size) -> (batch, time, heads * size)."""
    return f"""{y}_apart = Transpose <perm: ints = [0, 2, 1, 3]> ({x})
        {y} = Reshape ({y}_apart, {call.ints(0, 0, -1)})"""


@body("Attention", "x weights bias? mask? past? added? past_length?", "y present")
def _attention(call: Call) -> str | None:
    """Self-attention with a packed projection: one product for query, key and value, then a Split."""
    given = call.integers("qkv_hidden_sizes")
    return packed_attention(call, projected(call, given), given)


def projected(call: Call, sizes: list[int]) -> str:
    """``projected = x W + b``; the three sizes must sum to the columns of W."""
    width = call.size("weights", 1)
    if sizes and (len(sizes) != 3 or min(sizes) < 1 or sum(sizes) != (width or sum(sizes))):
        call.fail(f"the attribute 'qkv_hidden_sizes' is {sizes}, for a weight of {width} columns")
    if call.has("bias"):
        return "product = MatMul (x, weights) projected = Add (product, bias)"
    return "projected = MatMul (x, weights)"


def packed_attention(call: Call, text: str, sizes: list[int]) -> str | None:
    """Self-attention on ``projected``, the concatenation of queries, keys and values on the last axis.

    Args:
        call: its operator has the inputs ``mask`` and ``past``, and may have ``added``.
        text: the nodes that compute ``projected``.
        sizes: features of query, key and value; empty for three equal parts.
    """
    heads = head_count(call)
    width = call.size("weights", 1)
    if call.integer("do_rotary", 0) or call.integer("past_present_share_buffer", 0):
        return None
    call.ignore("rotary_embedding_dim")
    if not sizes and width is not None:
        if width % 3:
            call.fail(f"a weight of {width} columns for query, key and value")
        sizes = [width // 3] * 3
    if any(size % heads for size in sizes):
        call.fail(f"{heads} heads for query, key and value of {sizes}")
    names = ["query", "key", "value"]
    text += call.split("projected", sizes, names) if sizes else call.equal_parts("projected", names)
    text += "".join(split_heads(call, n, heads, n[0]) for n in names)
    k, v = "k", "v"
    if call.has("past"):
        text += f"""
            past_k = Gather <axis: int = 0> (past, {call.index(0)})
            past_v = Gather <axis: int = 0> (past, {call.index(1)})
            all_k = Concat <axis: int = 2> (past_k, k)
            all_v = Concat <axis: int = 2> (past_v, v)"""
        k, v = "all_k", "all_v"
    size = sizes[0] // heads if sizes else None
    text += _attend(call, ("q", k, v), size, "added" if "added" in call.body.inputs else None)
    text += merge_heads(call, "attended", "y")
    return f"""{text}
        first_k = {call.unsqueeze(k, 0)}
        first_v = {call.unsqueeze(v, 0)}
        present = Concat <axis: int = 0> (first_k, first_v)"""


def _attend(call: Call, parts: tuple[str, str, str], size: int | None, added: str | None) -> str:
    """``attended = softmax(scale q k' + bias) v`` of split heads; ``qk``, the argument of the softmax.

    Args:
        call: its operator has the input ``mask``.
        parts: names of queries, keys and values.
        size: features of a head; None if unknown.
        added: name of the input that is added to the scores; None if the operator has none.
    """
    q, k, v = parts
    text = scaled_scores(call, q, k, size)
    scores = "scores"
    if added is not None and call.has(added):
        text += f" with_added = Add ({scores}, {added})"
        scores = "with_added"
    if call.has("mask"):
        text += f"""{_hidden(call, q, k)}
            shut = Where (hidden, {call.number(call.real("mask_filter_value", -10000.0))}, {call.number(0.0)})
            masked = Add ({scores}, shut)"""
        scores = "masked"
    else:
        call.ignore("mask_filter_value")
    if call.flag("unidirectional"):
        text += f"""{_places(call, q, k)}
            future = Less (query_place, key_place)
            causal = Where (future, {call.number(-math.inf)}, {scores})"""
        scores = "causal"
    return f"""{text}
        qk = Identity ({scores})
        soft = Softmax <axis: int = -1> ({scores})
        attended = MatMul (soft, {v})"""


def scaled_scores(call: Call, q: str, k: str, size: int | None) -> str:
    """``scores = scale q k'``; by default scale = 1 / sqrt(features of a head)."""
    scale = call.optional_real("scale")
    text = f"""
        k_turned = Transpose <perm: ints = [0, 1, 3, 2]> ({k})
        plain = MatMul ({q}, k_turned)"""
    if scale is not None or size is not None:
        return f"{text} scores = Mul (plain, {call.number(scale or 1 / math.sqrt(size or 1))})"
    return f"""{text}{call.length(q, 3, "size")}
        float_size = Cast <to: int = {int(call.float_type())}> (size)
        root = Sqrt (float_size)
        scores = Div (plain, root)"""


def _places(call: Call, q: str, k: str) -> str:
    """``query_place`` (column), ``key_place`` (row): positions in time, aligned at the last."""
    return f"""
        {call.length(q, 2, "queries")}
        {call.length(k, 2, "keys")}
        before = Sub (keys, queries)
        own_place = Range ({call.index(0)}, queries, {call.index(1)})
        row_place = Add (own_place, before)
        query_place = {call.unsqueeze("row_place", 1)}
        key_place = Range ({call.index(0)}, keys, {call.index(1)})"""


def _hidden(call: Call, q: str, k: str) -> str:
    """``hidden``: boolean, true for masked keys, broadcasting to (batch, heads, queries, keys)."""
    rank = call.rank("mask")
    zero = call.literal(np.zeros((), call.type_of("mask").numpy()))
    if rank == 1:
        return _hidden_by_ends(call, q, k)
    if rank == 2:
        return f" hidden_row = Equal (mask, {zero}) hidden = Reshape (hidden_row, {call.ints(0, 1, 1, -1)})"
    if rank == 3:
        return f" hidden_each = Equal (mask, {zero}) hidden = {call.unsqueeze('hidden_each', 1)}"
    if rank != 4:
        call.fail(f"a mask of {rank} axes")
    return f"""
        {call.length(q, 2, "mask_queries")}
        {call.length(k, 2, "mask_keys")}
        mask_before = Sub (mask_keys, mask_queries)
        mask_start = {call.unsqueeze("mask_before", 0)}
        mask_end = {call.unsqueeze("mask_keys", 0)}
        mask_rows = Slice (mask, mask_start, mask_end, {call.ints(2)})
        mask_part = Slice (mask_rows, {call.ints(0)}, mask_end, {call.ints(3)})
        hidden = Equal (mask_part, {zero})"""


def _hidden_by_ends(call: Call, q: str, k: str) -> str:
    """``hidden`` from the end of each sample's keys, shape (batch), or from ends, then starts, (2 batch)."""
    return f"""
        {call.length(k, 2, "mask_keys")}
        place_long = Range ({call.index(0)}, mask_keys, {call.index(1)})
        place = Cast <to: int = {int(call.type_of("mask"))}> (place_long)
        q_shape = Shape ({q})
        batch = Slice (q_shape, {call.ints(0)}, {call.ints(1)})
        twice = Add (batch, batch)
        ends_shape = Shape (mask)
        no_starts = Expand ({call.literal(np.zeros(1, call.type_of("mask").numpy()))}, ends_shape)
        ends_starts = Concat <axis: int = 0> (mask, no_starts)
        ends = Slice (ends_starts, {call.ints(0)}, batch, {call.ints(0)})
        starts = Slice (ends_starts, batch, twice, {call.ints(0)})
        end_column = {call.unsqueeze("ends", 1)}
        start_column = {call.unsqueeze("starts", 1)}
        inside = Less (place, end_column)
        early = Less (place, start_column)
        late = Not (inside)
        outside = Or (late, early)
        hidden = Reshape (outside, {call.ints(0, 1, 1, -1)})"""


@body(
    "MultiHeadAttention",
    "query key? value? bias? mask? added? past_key? past_value? past_length? indirection?",
    "y present_key present_value qk",
)
def _multi_head_attention(call: Call) -> str | None:
    if call.has("past_length") or call.has("indirection"):
        return None
    heads = head_count(call)
    text = _query_key_value(call, heads)
    keys, values = "k", "v"
    if call.has("past_key") and call.has("past_value"):
        text += """ present_key = Concat <axis: int = 2> (past_key, k)
            present_value = Concat <axis: int = 2> (past_value, v)"""
        keys, values = "present_key", "present_value"
    else:
        text += " present_key = Identity (k) present_value = Identity (v)"
    width = call.size("query", -1)
    size = width if call.rank("query") == 5 else width // heads if width is not None else None
    return f"{text} {_attend(call, ('q', keys, values), size, 'added')} {merge_heads(call, 'attended', 'y')}"


def _query_key_value(call: Call, heads: int) -> str:
    """``q``, ``k`` and ``v`` with split heads and bias, from any of the packed layouts."""
    if call.rank("query") == 5:  # (batch, time, heads, 3, size)
        return _packed(call, "query", ["query", "key", "value"], heads)
    text = _biased_heads(call, "query", heads, None)
    if not call.has("key"):
        call.fail("the input 'key' is left out")
    if call.rank("key") == 5:  # (batch, time, heads, 2, size)
        return text + _packed(call, "key", ["key", "value"], heads)
    if not call.has("value"):
        call.fail("the input 'value' is left out")
    for name in ("key", "value"):
        text += (
            f" {name[0]} = Identity ({name})"
            if call.rank(name) == 4
            else _biased_heads(call, name, heads, None)
        )
    return text


def _packed(call: Call, x: str, names: list[str], heads: int) -> str:
    text = ""
    for index, name in enumerate(names):
        text += f" {name}_part = Gather <axis: int = 3> ({x}, {call.index(index)})"
        merged = f" {name}_flat = Reshape ({name}_part, {call.ints(0, 0, -1)})" if call.has("bias") else ""
        if merged:
            text += merged + _biased_heads(call, name, heads, f"{name}_flat")
        else:
            text += f" {name[0]} = Transpose <perm: ints = [0, 2, 1, 3]> ({name}_part)"
    return text


def _biased_heads(call: Call, name: str, heads: int, flat: str | None) -> str:
    """Query, key or value plus its part of the bias, split into heads."""
    x = flat or name
    if not call.has("bias"):
        return split_heads(call, x, heads, name[0])
    text, bias = _bias_part(call, name, heads)
    return f"{text} {name}_biased = Add ({x}, {bias}) {split_heads(call, f'{name}_biased', heads, name[0])}"


def _bias_part(call: Call, name: str, heads: int) -> tuple[str, str]:
    """The slice of the packed bias for one projection: (nodes, name)."""
    bias = call.constant("bias")
    size = call.size("bias", 0) if bias is None else bias.size
    width = call.size("query", -1)
    if width is not None and call.rank("query") == 5:
        width *= heads
    if width is None and size is not None:
        width = size // 3
    if width is None:
        raise Later
    start = {"query": 0, "key": width, "value": 2 * width}[name]
    end = start + width if name != "value" else size or 2**31 - 1
    if size is not None and not 0 < end - start <= size - start:
        call.fail(f"a bias of {size} for projections of {width}")
    if bias is None:
        return f"{name}_bias = {call.slice('bias', start, end, 0)}", f"{name}_bias"
    return "", call.part("bias", bias[start:end], name)
