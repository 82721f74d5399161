"""onnx's shape inference on a model in memory. No torch."""

from __future__ import annotations

import logging

import onnx_ir as ir
from onnx_ir.passes import common


def infer(model: ir.Model, *, data_prop: bool = False) -> bool:
    """Give values of a model the shapes that onnx can tell, in place; False where it refuses the model.

    With ``data_prop``, sizes that the graph computes are followed, too.
    """
    logger = logging.getLogger(common.ShapeInferencePass.__module__)
    silent = logger.disabled
    logger.disabled = True  # it logs a traceback where it fails; the return value says the same
    try:
        found = common.ShapeInferencePass(check_type=False, strict_mode=False, data_prop=data_prop)(model)
    finally:
        logger.disabled = silent
    return bool(found.modified)
