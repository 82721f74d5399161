"""What a graph counts."""

from __future__ import annotations

import numpy as np
import onnx


def parameters(model: onnx.ModelProto) -> int:
    """Numbers that training changes: all but the running statistics."""
    fixed = {n for node in model.graph.node if node.op_type == "BatchNormalization" for n in node.input[3:]}
    return sum(int(np.prod(w.dims)) for w in model.graph.initializer if w.name not in fixed)
