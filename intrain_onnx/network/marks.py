"""Marks that one stage leaves in the ``meta`` of values and nodes for a later one.

Each says who writes it and who reads it.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

DECLARED = "intrain_onnx.declared"
"""Of a graph input: its shape in the file, before concrete sizes were put in.

Written by ``normalise``, kept by ``dequantise``; read by ``input_shapes`` and ``onnx2torch_converter``.
"""

LITERAL = "intrain_onnx.literal"
"""Of an initializer that was a Constant node in the file, which gives it no name of its own.

Written and read by ``lift_constants``.
"""

SEEN = "intrain_onnx.seen"
"""Of a graph: shapes by value that a run of one sample had, for those that inference misses.

Written by ``complete_shapes``, read by ``infer_shapes``.
"""

BATCH_AXES = "intrain_onnx.batch_axes"
"""Of a graph: the axis of each input that holds the samples: a ``BatchAxes``.

Written and read by ``batch_axes``; outputs tell it, and protocols cut them.
"""

MADE_FROM = "intrain_onnx.made_from"
"""Of an initializer that the file has not: those behind it, with their elements.

Written by ``unroll``, ``computed_weights`` and ``split_fused_linear``; read by ``values.of_file``.
"""

DEQUANTISED = "intrain_onnx.dequantised"
"""Of an initializer that was made from quantised numbers.

Written by ``normalise`` and ``dequantise``; read by ``dequantise``.
"""

ONLY = "intrain_onnx.only"
"""Of a value that holds the output of one layer alone, although more lead to it: that layer's output.

Written by ``split_fused_linear``; read by ``layer_keys``.
"""

JOINED = "intrain_onnx.joined"
"""Of a value that holds the layers side by side that one layer was split into.

Written by ``split_fused_linear``; read by ``measuring_points``.
"""

LEFT_ROLLED = "intrain_onnx.left_rolled"
"""Of a Loop or Scan over layers that is taken for one layer: a :class:`Rolled`.

Written by ``unroll``; read by ``coverage``.
"""


@dataclass(frozen=True, slots=True)
class Rolled:
    """A loop over layers that is taken for one layer.

    Attributes:
        node: its name.
        op: Loop or Scan.
        reason: why it was not unrolled.
        initializers: those that its weights are slices of, each with its elements.
    """

    node: str
    op: str
    reason: str
    initializers: tuple[tuple[str, int], ...]


def left_rolled(model: ir.Model) -> list[Rolled]:
    """The loops that ``unroll`` left as they are, though their weights change by the round."""
    return [node.meta[LEFT_ROLLED] for node in model.graph.all_nodes() if LEFT_ROLLED in node.meta]
