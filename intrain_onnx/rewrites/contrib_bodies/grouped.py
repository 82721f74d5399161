"""Body of com.microsoft's GroupQueryAttention: shared key heads, KV cache, local window, rotary embedding."""

from __future__ import annotations

import math

import onnx_ir as ir

from intrain_onnx.rewrites.contrib_bodies.attention import head_count, merge_heads, scaled_scores, split_heads
from intrain_onnx.rewrites.contrib_bodies.call import Call, Later, body
from intrain_onnx.rewrites.contrib_bodies.rotary import rotated

_LONG = f"Cast <to: int = {int(ir.DataType.INT64)}>"


@body(
    "GroupQueryAttention",
    "query key? value? past_key? past_value? lengths total cos_table? sin_table? places? added? sink? "
    "k_scale? v_scale?",
    "y present_key present_value",
)
def _group_query_attention(call: Call) -> str | None:
    """Causal attention; new keys and values are appended after each sample's length in the KV cache."""
    heads, groups = head_count(call), head_count(call, "kv_num_heads")
    if heads % groups:
        call.fail(f"{heads} heads for {groups} of keys")
    if call.has("k_scale") or call.has("v_scale") or call.opset < 11:
        return None
    for name in ("qk_output", "kv_cache_bit_width", "sliding_window_cache"):
        if call.integer(name, 0):
            return None
    parts, size = _query_key_value(call, heads, groups)
    turned = _turned(call, size)
    if turned is None:
        return None
    text = f"{parts} {_places(call)} {turned} {_cached(call, 'k', 'key')} {_cached(call, 'v', 'value')}"
    repeat = [i // (heads // groups) for i in range(heads)]
    for name, seen in (("key", "keys"), ("value", "values")):
        text += f"""
            {seen}_part = Slice (present_{name}, {call.ints(0)}, total_vector, {call.ints(2)})
            {seen} = {
            f"Gather <axis: int = 1> ({seen}_part, {call.ints(*repeat)})"
            if heads > groups
            else f"Identity ({seen}_part)"
        }"""
    text += f"{scaled_scores(call, 'q_turned', 'keys', size)} {_softmax(call, heads)}"
    return f"{text} attended = MatMul (soft, values) {merge_heads(call, 'attended', 'y')}"


def _query_key_value(call: Call, heads: int, groups: int) -> tuple[str, int | None]:
    """``q``, ``k`` and ``v`` with split heads, and the features of a head (None if unknown)."""
    width = call.size("query", -1)
    if call.has("key") and call.has("value"):
        text = split_heads(call, "query", heads, "q")
        text += split_heads(call, "key", groups, "k") + split_heads(call, "value", groups, "v")
        return text, None if width is None else width // heads
    if width is None:
        raise Later
    size = width // (heads + 2 * groups)
    if size < 1 or width % size:
        call.fail(f"{width} features for {heads} heads and {groups} of keys and values")
    sizes = [heads * size, groups * size, groups * size]
    text = call.split("query", sizes, ["own_query", "own_key", "own_value"])
    text += split_heads(call, "own_query", heads, "q")
    return text + split_heads(call, "own_key", groups, "k") + split_heads(
        call, "own_value", groups, "v"
    ), size


def _places(call: Call) -> str:
    """``place`` (batch, time): positions of the new tokens; ``total_vector``: the longest total length."""
    zero, one = call.index(0), call.index(1)
    return f"""
        total_long = {_LONG} (total)
        total_vector = Reshape (total_long, {call.ints(-1)})
        total_scalar = Reshape (total_long, {call.ints()})
        lengths_long = {_LONG} (lengths)
        lengths_flat = Reshape (lengths_long, {call.ints(-1)})
        all_lengths = Add (lengths_flat, {one})
        {call.length("q", 2, "time")}
        known = Sub (all_lengths, time)
        prompt = Equal (total_scalar, time)
        before = Where (prompt, {zero}, known)
        before_column = {call.unsqueeze("before", 1)}
        step = Range ({zero}, time, {one})
        place = Add (before_column, step)"""


def _turned(call: Call, size: int | None) -> str | None:
    """``q_turned`` and ``k_turned_new``, rotary if ``do_rotary``; None for a table of unknown size."""
    if not (call.flag("do_rotary") and call.has("cos_table") and call.has("sin_table")):
        call.ignore("rotary_interleaved")
        return "q_turned = Identity (q) k_turned_new = Identity (k)"
    table = call.size("cos_table", -1)
    if table is None:
        return None
    part = 0 if size == 2 * table else 2 * table
    places = "places_long" if call.has("places") else "place"
    text = f" places_long = {_LONG} (places)" if call.has("places") else ""
    return f"""{text}
        cos = Gather (cos_table, {places})
        sin = Gather (sin_table, {places})
        {rotated(call, "q", "q_turned", axis=1, size=part)}
        {rotated(call, "k", "k_turned_new", axis=1, size=part)}"""


def _cached(call: Call, part: str, name: str) -> str:
    """``present_key`` or ``present_value``: the past, with the new entries scattered to their positions."""
    new = "k_turned_new" if part == "k" else "v"
    if not call.has(f"past_{name}"):
        return f"present_{name} = Identity ({new})"
    last = 2**31 - 1
    return f"""
        {call.length(f"past_{name}", 2, f"{part}_past")}
        {part}_missing = Sub (total_scalar, {part}_past)
        {part}_enough = Less ({part}_missing, {call.index(0)})
        {part}_more = Where ({part}_enough, {call.index(0)}, {part}_missing)
        {part}_fill = {call.unsqueeze(f"{part}_more", 0)}
        {part}_sizes = Shape ({new})
        {part}_ahead = {call.slice(f"{part}_sizes", 0, 2, 0)}
        {part}_behind = {call.slice(f"{part}_sizes", 3, last, 0)}
        {part}_filler_shape = Concat <axis: int = 0> ({part}_ahead, {part}_fill, {part}_behind)
        {part}_filler = Expand ({call.number(0.0)}, {part}_filler_shape)
        {part}_base = Concat <axis: int = 2> (past_{name}, {part}_filler)
        {part}_place_heads = {call.unsqueeze("place", 1)}
        {part}_place_each = {call.unsqueeze(f"{part}_place_heads", 3)}
        {part}_place = Expand ({part}_place_each, {part}_sizes)
        present_{name} = ScatterElements <axis: int = 2> ({part}_base, {part}_place, {new})"""


def _softmax(call: Call, heads: int) -> str:
    """``soft``: softmax of ``scores`` after soft capping, bias and mask, with an attention sink if given."""
    cap, made, text = call.real("softcap", 0.0), "scores", ""
    if cap:
        factor = call.number(cap)
        text += f" tamed = Div (scores, {factor}) bent = Tanh (tamed) capped = Mul (bent, {factor})"
        made = "capped"
    if call.has("added"):
        text += f"""
            added_part = Slice (added, {call.ints(0)}, total_vector, {call.ints(-1)})
            with_added = Add ({made}, added_part)"""
        made = "with_added"
    text += f"{_hidden(call)} shown = Where (hidden, {call.number(-math.inf)}, {made})"
    if not call.has("sink") and call.integer("smooth_softmax", -1) <= 0:
        return f"{text} soft = Softmax <axis: int = -1> (shown)"
    call.ignore("smooth_softmax")
    sink = "sink" if call.has("sink") else call.number(0.0)
    column = f"Reshape (sink, {call.ints(1, heads, 1, 1)})" if call.has("sink") else f"Identity ({sink})"
    return f"""{text}
        shown_sizes = Shape (shown)
        shown_rows = {call.slice("shown_sizes", 0, 3, 0)}
        sink_shape = Concat <axis: int = 0> (shown_rows, {call.ints(1)})
        sink_column = {column}
        sinks = Expand (sink_column, sink_shape)
        longer = Concat <axis: int = -1> (shown, sinks)
        longer_soft = Softmax <axis: int = -1> (longer)
        soft = {call.slice("longer_soft", 0, -1)}"""


def _hidden(call: Call) -> str:
    """``hidden``: mask of later keys (causal), of keys before the window, and of keys past a sample's end."""
    window = call.integer("local_window_size", -1)
    text = f"""
        place_heads = {call.unsqueeze("place", 1)}
        query_place = {call.unsqueeze("place_heads", 3)}
        key_place = Range ({call.index(0)}, total_scalar, {call.index(1)})
        end_columns = Reshape (all_lengths, {call.ints(-1, 1, 1, 1)})
        within = Less (key_place, end_columns)
        hidden_end = Not (within)"""
    made = "hidden_end"
    if call.flag("causal", 1):
        text += f" later = Less (query_place, key_place) hidden_causal = Or ({made}, later)"
        made = "hidden_causal"
    if window > 0:
        text += f"""
            first_place = Sub (query_place, {call.index(window - 1)})
            early = Less (key_place, first_place)
            hidden_window = Or ({made}, early)"""
        made = "hidden_window"
    return f"{text} hidden = Identity ({made})"
