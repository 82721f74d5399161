"""Which values of a network a measurement reads, so that they stay visible in a fused module."""

from __future__ import annotations

from collections.abc import Iterable

from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.measuring_points import Point


def measured(layers: LayerMap, points: Iterable[Point], *, calibrated: bool) -> set[str]:
    """Names of the outputs of layers and of measuring points.

    Args:
        layers: of the network.
        points: values between them that are measured.
        calibrated: the outputs of layers are scaled before their biases are added.
    """
    found = {layer.output for layer in layers.layers} | {point.value for point in points}
    return found | {layer.node_output for layer in layers.layers} if calibrated else found
