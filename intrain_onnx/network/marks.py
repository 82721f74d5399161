"""Keys of the annotations that one stage leaves in ``meta`` of graphs, nodes and values for a later one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir as ir

DECLARED = "intrain_onnx.declared"
"""On a graph input: its shape in the file, before free dimensions were replaced by concrete sizes.

Written by ``normalise``, kept by ``dequantise``; read by ``input_shapes`` and ``onnx2torch_converter``.
"""

LITERAL = "intrain_onnx.literal"
"""On an initializer lifted from a Constant node: the file has no initializer name for it.

Written and read by ``lift_constants``.
"""

INFERRED = "intrain_onnx.inferred"
"""On a graph: the shapes of the inputs from which those of all values follow, as they stand.

Written and read by ``infer_shapes``; removed by what changes the graph after it (``forget_inferred``).
"""

SEEN = "intrain_onnx.seen"
"""On a graph: shape by value from a run of one sample, for values that shape inference misses.

Written by ``complete_shapes``, read by ``infer_shapes``.
"""

UNSEEN = "intrain_onnx.unseen"
"""On a graph: names of values whose shape a run did not tell either, since it follows from the data.

Written and read by ``complete_shapes``, which does not run a model for them again.
"""

BATCH_AXES = "intrain_onnx.batch_axes"
"""Of a graph: the axis of each input that holds the samples: a ``BatchAxes``.

Written and read by ``batch_axes``; outputs tell it, and protocols cut them.
"""

ROLES = "intrain_onnx.roles"
"""Of a graph: what each input is fed with, by name: a ``Role``.

Written by ``mark_roles``, read by ``input_shapes``; how the whole graph reads an input tells it.
"""

MADE_FROM = "intrain_onnx.made_from"
"""On an initializer made by a rewrite: the file's initializers that it is computed from, with their elements.

Written by ``unroll``, ``computed_weights`` and ``split_fused_linear``; read by ``values.of_file``.
"""

DEQUANTISED = "intrain_onnx.dequantised"
"""On an initializer that was dequantised from integers.

Written by ``normalise`` and ``dequantise``; read by ``dequantise``.
"""

STANDS_FOR = "intrain_onnx.stands_for"
"""On a float value: the value of the quantised graph that it is in place of, a :class:`StandsFor`.

Written by ``dequantise``, read by ``diff``.
"""

ONLY = "intrain_onnx.only"
"""On a value that is the output of one layer, although several layers reach it: that layer's output.

Written by ``split_fused_linear``; read by ``layer_keys``.
"""

JOINED = "intrain_onnx.joined"
"""On the concatenation of the outputs of the layers that one fused layer was split into.

Written by ``split_fused_linear``; read by ``measuring_points``.
"""

LEFT_ROLLED = "intrain_onnx.left_rolled"
"""On a Loop or Scan over layers that was not unrolled and counts as one layer: a :class:`Rolled`.

Written by ``unroll``; read by ``coverage``.
"""


@dataclass(frozen=True, slots=True)
class StandsFor:
    """A value of a quantised graph.

    Attributes:
        name: of the value.
        scale: of the integers, a number for each channel or one for all; None for a float.
        zero: their zero point, likewise; None for zero.
    """

    name: str
    scale: np.ndarray[Any, Any] | None = None
    zero: np.ndarray[Any, Any] | None = None


@dataclass(frozen=True, slots=True)
class Rolled:
    """A loop over layers that counts as one layer, since it was not unrolled.

    Attributes:
        node: its name.
        op: Loop or Scan.
        reason: why it was not unrolled.
        initializers: those that its weights are slices of, with their numbers of elements.
    """

    node: str
    op: str
    reason: str
    initializers: tuple[tuple[str, int], ...]


def left_rolled(model: ir.Model) -> list[Rolled]:
    """The loops that ``unroll`` left, although their weights change with the iteration."""
    return [node.meta[LEFT_ROLLED] for node in model.graph.all_nodes() if LEFT_ROLLED in node.meta]
