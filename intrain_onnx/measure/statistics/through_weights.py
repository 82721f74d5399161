"""Moments of the outputs of linear layers from those of their inputs: C_y = W C_x W^T.

Where a layer has more outputs than inputs, one covariance of its input serves it and all others that read it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, fx

from intrain_onnx.measure.initialise import to_canonical
from intrain_onnx.measure.statistics.moments import (
    SYMMETRIC,
    exact_cost,
    full,
    is_estimated,
    leaves_pairs_out,
    panels_of,
    square_sum,
)
from intrain_onnx.measure.statistics.projections import Projections
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.recognise import Layer
from intrain_onnx.ops.conv import conv
from intrain_onnx.ops.linear import gemm, matmul
from intrain_onnx.runtime.fuse.linear import linear

_SHARE: Final = 0.02
"""Of a channel's variance among that of uncorrelated inputs: with less, too many digits cancel."""

_WORTH: Final = 8192
"""Elements of a value from which on arithmetic costs more than the calls."""


@dataclass(frozen=True, slots=True)
class Reader:
    """A layer each of whose output rows is W x + b for the same row of a value.

    Attributes:
        layer: the layer, with W of shape (outputs, inputs).
        axis: of the value that holds the inputs.
    """

    layer: Layer
    axis: int

    @property
    def outputs(self) -> int:
        """Rows of W."""
        return self.layer.weights[0].shape[0]

    @property
    def inputs(self) -> int:
        """Columns of W."""
        return self.layer.weights[0].shape[1]

    def saves(self, rows: int, samples: int, projections: Projections | None) -> float:
        """Multiplications that this way has less than the product of the outputs, given that of the inputs.

        Args:
            rows: of the value.
            samples: that they consist of.
            projections: by which the outputs are estimated otherwise.
        """
        inputs, outputs = self.inputs, self.outputs
        through = inputs**2 * (outputs * (1 + SYMMETRIC) + inputs)
        if leaves_pairs_out(samples, rows, outputs):
            through += rows * inputs * (inputs + rows // samples)
        direct = exact_cost(rows, outputs, samples)
        if projections is not None and is_estimated(projections, rows, outputs, samples):
            direct = projections.cost(rows, outputs, samples)
        return direct - through


def paying(
    readers: Sequence[Reader],
    rows: int,
    samples: int,
    *,
    shared: bool,
    projections: Projections | None = None,
) -> list[Reader]:
    """The layers for which the way through the weights costs less than their outputs' own product.

    Args:
        readers: of one value.
        rows: of it.
        samples: that they consist of.
        shared: the product of the value is there for another reason.
        projections: by which the outputs are estimated otherwise.
    """
    if not readers or rows <= readers[0].inputs or rows * readers[0].inputs < _WORTH:
        return []
    found = [(reader, reader.saves(rows, samples, projections)) for reader in readers]
    good = [(reader, saved) for reader, saved in found if saved > 0]
    extra = 0.0 if shared else rows * readers[0].inputs ** 2 * SYMMETRIC
    return [reader for reader, _ in good] if sum(saved for _, saved in good) > extra else []


def readers(module: fx.GraphModule, layers: LayerMap) -> Mapping[str, Sequence[Reader]]:
    """The layers that are a linear map of each row, by the name of the value that they read.

    Only of values for which they have more outputs than inputs together.
    """
    made = {name: layer for layer in layers.layers for name in (layer.node_output, layer.output)}
    found: defaultdict[str, list[Reader]] = defaultdict(list)
    for node in module.graph.nodes:
        if node.op != "call_function":
            continue
        for name in node.meta.get("onnx_outputs", ()):
            layer = made.get(name)
            axis = _axis(node, layer) if layer is not None else None
            if layer is not None and axis is not None:
                (value,) = node.args[0].meta["onnx_outputs"]
                found[value].append(Reader(layer, axis))
    return {
        value: layers
        for value, layers in found.items()
        if sum(reader.outputs for reader in layers) > layers[0].inputs
    }


def _axis(node: fx.Node, layer: Layer) -> int | None:
    """The axis of the first argument that a layer maps linearly, row by row; None for other layers."""
    value = node.args[0]
    if (
        not isinstance(value, fx.Node)
        or value.op != "call_function"
        or len(value.meta.get("onnx_outputs", ())) != 1
        or layer.weights[0].shape[0] != layer.channels
    ):
        return None
    if node.target in (matmul, linear) or (node.target is gemm and not node.kwargs.get("transA")):
        return -1 if layer.channel_axes == (-1,) else None
    if node.target is not conv or any(length != 1 for length in layer.weights[0].shape[2:]):
        return None
    settings: Mapping[str, Any] = node.kwargs
    plain = (
        settings.get("group", 1) == 1
        and all(stride == 1 for stride in settings.get("strides") or ())
        and not any(settings.get("pads") or ())
    )
    return 1 if plain else None


@dataclass(frozen=True, slots=True)
class Through:
    """Moments of a layer's outputs.

    Attributes:
        mean: (outputs,), without the bias.
        variance: (outputs,).
        weight: (outputs, inputs).
        of: the input.
    """

    mean: Tensor
    variance: Tensor
    weight: Tensor
    of: Input

    def moments(self, factor: Tensor | None, correlation: bool) -> Tensor:
        """(1, 7): see ``second_moments``, of the outputs times ``factor``."""
        weight, variance, mean = self.weight, self.variance, self.mean
        if factor is not None:
            weight, variance, mean = weight * factor[:, None], variance * factor.square(), mean * factor
        of = self.of
        gram = full(panels_of(weight))
        square = _trace_of_square(gram @ of.products)
        correlated = varying = torch.zeros_like(square)
        if correlation:
            units = full(panels_of(weight * (variance * of.rows).rsqrt()[:, None]))
            correlated = _trace_of_square(units @ of.products)
            varying = varying + len(mean)
        within = torch.zeros_like(square)
        if leaves_pairs_out(of.samples, of.rows, len(mean)):
            parts = of.centred.reshape(of.samples, -1, of.centred.shape[1])
            within = square_sum(torch.bmm(parts @ gram, parts.transpose(1, 2))).sum()
        trace = variance.sum(dtype=torch.float64) * of.rows
        rest = [within, correlated, varying, mean.abs().amax().double(), torch.ones_like(square)]
        return torch.stack([trace, square, *rest])[None]


@dataclass(frozen=True, slots=True)
class Input:
    """A value as a matrix, with what its linear readers need.

    Attributes:
        centred: (rows, inputs).
        mean: (inputs,).
        products: (inputs, inputs), centred^T centred.
        samples: that the rows consist of.
    """

    centred: Tensor
    mean: Tensor
    products: Tensor
    samples: int

    @property
    def rows(self) -> int:
        """Of the matrix."""
        return len(self.centred)

    def through(self, weight: Tensor, reader: Reader) -> Through | None:
        """What a layer makes of it; None where digits would cancel."""
        matrix = to_canonical(weight.detach(), reader.layer.weights[0].steps).reshape(
            reader.outputs, reader.inputs
        )
        matrix = matrix.to(self.products.dtype)  # stored in another, and cast on the way to its layer
        variance = ((matrix @ self.products) * matrix).sum(1) / self.rows
        apart = matrix.square() @ self.products.diagonal() / self.rows
        sound = (variance > _SHARE * apart) & (variance > 1e-12) & (variance < 1e12)
        return Through(matrix @ self.mean, variance, matrix, self) if bool(sound.all()) else None


def _trace_of_square(product: Tensor) -> Tensor:
    """tr(M^2), summed in float64."""
    return (product * product.T).sum(dtype=torch.float64)
