"""Search spaces: from the description of an architecture straight to its network in ONNX."""

from __future__ import annotations

from collections.abc import Mapping

from intrain_onnx.bench.spaces import macro, nasbench101, nasbench201, nats_size
from intrain_onnx.bench.spaces.base import Space

__all__ = ["SPACES", "Space"]

SPACES: Mapping[str, Space] = {
    space.name: space
    for space in (
        nasbench201.SPACE,
        nasbench101.SPACE,
        nats_size.SPACE,
        macro.SPACE,
    )
}
"""Every space by its name."""
