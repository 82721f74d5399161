"""Search spaces: from the description of an architecture straight to its network in ONNX."""

from __future__ import annotations

from collections.abc import Mapping

from intrain_onnx.bench.spaces import (
    autoformer,
    macro,
    mobilenet_v2,
    nasbench101,
    nasbench201,
    nats_size,
    pit,
)
from intrain_onnx.bench.spaces.base import Space

__all__ = ["SPACES", "Space"]

SPACES: Mapping[str, Space] = {
    space.name: space
    for space in (
        nasbench201.SPACE,
        nasbench101.SPACE,
        nats_size.SPACE,
        macro.SPACE,
        mobilenet_v2.SPACE,
        autoformer.SPACE,
        pit.SPACE,
    )
}
"""Every space by its name."""
