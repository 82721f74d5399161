"""The table of dequantising rewrites, by quantised operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import onnx_ir as ir

from intrain_onnx.rewrites.dequantise import operators
from intrain_onnx.rewrites.dequantise.float_values import Lifting
from intrain_onnx.rewrites.dequantise.integer_products import integer_product

Rewrite = Callable[[Lifting, ir.Node], object]
"""Inserts the float operator before a node; changes nothing if it cannot be rewritten."""

REWRITES: Mapping[tuple[str, str], Rewrite] = {
    ("", "QuantizeLinear"): operators.quantize_linear,
    ("", "DynamicQuantizeLinear"): operators.dynamic_quantize_linear,
    ("", "DequantizeLinear"): operators.dequantize_linear,
    ("", "MatMulInteger"): integer_product,
    ("", "ConvInteger"): integer_product,
    **dict.fromkeys(operators.QLINEAR, operators.qlinear),
    ("com.microsoft", "DynamicQuantizeMatMul"): operators.dynamic_quantize_matmul,
    ("com.microsoft", "MatMulIntegerToFloat"): operators.matmul_integer_to_float,
    ("com.microsoft", "MatMulNBits"): operators.matmul_nbits,
    ("com.microsoft", "DynamicQuantizeLSTM"): operators.dynamic_quantize_lstm,
}
