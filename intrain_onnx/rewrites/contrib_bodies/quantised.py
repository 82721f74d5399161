"""Bodies of fused quantised operators, in quantised operators that ``dequantise`` can rewrite to float."""

from __future__ import annotations

from intrain_onnx.rewrites.contrib_bodies.attention import packed_attention
from intrain_onnx.rewrites.contrib_bodies.call import Call, Later, body
from intrain_onnx.rewrites.contrib_bodies.products import CONV, channels_last


@body(
    "QAttention",
    "x weights bias x_scale w_scale mask? x_zero? w_zero? past?",
    "y present",
)
def _qattention(call: Call) -> str | None:
    """Attention with its packed projection as MatMulIntegerToFloat of 8-bit operands."""
    operands = "x, weights, x_scale, w_scale, x_zero, w_zero, bias"
    product = f"projected = com.microsoft.MatMulIntegerToFloat ({operands})"
    return packed_attention(call, product, [])


@body("QLinearConv", "x x_scale x_zero w w_scale w_zero y_scale y_zero b?")
def _qlinear_conv(call: Call) -> str:
    """ONNX's QLinearConv, between Transposes for ``channels_last``."""
    operands = "x_scale, x_zero, w, w_scale, w_zero, y_scale, y_zero, b"
    kept = call.passed(**CONV)
    if not call.flag("channels_last"):
        return f"y = QLinearConv {kept} (x, {operands})"
    return channels_last(call, f"c = QLinearConv {kept} (first, {operands})", call.rank("w"))


@body("QLinearGlobalAveragePool", "x x_scale x_zero y_scale y_zero?")
def _qlinear_global_average_pool(call: Call) -> str | None:
    """The channels-first form of a channels-last node, between Transposes."""
    if not call.flag("channels_last"):
        return None
    rank = call.known_rank("x")
    if rank is None and not call.guess:
        raise Later
    pool = "com.microsoft.QLinearGlobalAveragePool (first, x_scale, x_zero, y_scale, y_zero)"
    return channels_last(call, f"c = {pool}", 4 if rank is None else rank)
