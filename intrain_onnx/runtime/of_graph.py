"""What is found out about a graph of torch.fx once, and kept with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from torch import fx

Found = TypeVar("Found")

_KEPT: Final = "_intrain_onnx"


def once(make: Callable[[fx.GraphModule], Found]) -> Callable[[fx.GraphModule], Found]:
    """Remember what is made of a module until the number of its graph's nodes changes.

    It is kept by the graph itself, which a copy of the module does not share: in a table, even one with weak
    keys, nodes would hold their graph, and this the module with its weights, for ever.
    """

    def remembered(module: fx.GraphModule) -> Found:
        kept = module.graph.__dict__.setdefault(_KEPT, {})
        size = len(module.graph.nodes)
        known = kept.get(make)
        if known is None or known[0] != size:
            kept[make] = known = size, make(module)
        found: Found = known[1]
        return found

    return remembered
