"""Bodies of fused operators on quantised values, in the quantised operators that have a float form."""

from __future__ import annotations

from intrain_onnx.contrib_bodies.attention import packed_attention
from intrain_onnx.contrib_bodies.call import Call, body


@body(
    "QAttention",
    "x weights bias x_scale w_scale mask? x_zero? w_zero? past?",
    "y present",
)
def _qattention(call: Call) -> str | None:
    """Attention of an exact product of 8-bit numbers."""
    operands = "x, weights, x_scale, w_scale, x_zero, w_zero, bias"
    product = f"projected = com.microsoft.MatMulIntegerToFloat ({operands})"
    return packed_attention(call, product, [])
