"""Rewrites of a float graph in normal form to the one form of what is written in several."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import onnx_ir as ir

from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import gathers_rows
from intrain_onnx.rewrites.forms import cancel_transposes, lookups, merge_concats, written_out

_APPLIES: Final[Sequence[Callable[[ir.Node], bool]]] = (
    cancel_transposes.applies,
    written_out.applies,
    merge_concats.applies,
    gathers_rows,
)
"""Whether a rewrite would look at a node."""


def restore_forms(model: ir.Model) -> int:
    """Apply all rewrites of this package, in place; returns the number of nodes that are there less."""
    removed = cancel_transposes.cancel_transposes(model) + written_out.restore(model)
    return removed + merge_concats.merge_concats(model) + lookups.restore_lookups(model)


def has_forms(model: ir.Model) -> bool:
    """Whether :func:`restore_forms` may find anything; if not, it changes nothing."""
    return any(applies(node) for node in every_node(model.graph) for applies in _APPLIES)
