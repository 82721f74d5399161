"""Plain numbers that checks read, beside the two reports. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from intrain_onnx.network.coverage import Coverage
from intrain_onnx.report.rows import WarningRow


@dataclass(frozen=True, slots=True)
class WeightFacts:
    """One floating-point initializer.

    Attributes:
        name: of the initializer.
        layer: the layer whose weight it is, or that it is nearest to; None for a plain constant.
        role: weight, bias, scale, offset, slope, table, or constant.
        dtype: ONNX element type, in lower case.
        elements: number of them.
        not_finite: how many are NaN or infinite.
        nan: how many are NaN.
        zeros: how many are exactly zero.
        max_abs: largest finite magnitude.
        rms: root mean square of the finite ones.
        channels: output channels; 0 where it is no layer's weight.
        zero_channels: output channels whose weights are all zero.
        rank_ratio: (sum of squared singular values)^2 over the sum of their fourth powers, from 1 to the
            smaller side of the (channels, rest) matrix; None where it is no matrix.
        rank_limit: that smaller side.
    """

    name: str
    layer: str | None
    role: str
    dtype: str
    elements: int
    not_finite: int
    nan: int
    zeros: int
    max_abs: float
    rms: float
    channels: int = 0
    zero_channels: int = 0
    rank_ratio: float | None = None
    rank_limit: int = 0


@dataclass(frozen=True, slots=True)
class ValueFacts:
    """One activation over all samples and calls: the node that makes it, its range, its share of zeros."""

    value: str
    node: str
    op: str
    max_abs: float
    not_finite: bool
    zero_share: float


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """The channels of one layer after the activation function that follows it.

    Attributes:
        layer: its name.
        after: operator of the last node that was followed; the layer's own where nothing follows.
        channels: their number.
        constant: how many never change, over all samples and positions.
        zero: how many of those are zero.
        rows: samples times positions.
    """

    layer: str
    after: str
    channels: int
    constant: int
    zero: int
    rows: int


@dataclass(frozen=True)
class RangeFacts:
    """What one forward pass of the checkpoint shows.

    Attributes:
        values: by value name, in the order of the graph.
        channels: by layer name.
    """

    values: Mapping[str, ValueFacts] = field(default_factory=dict)
    channels: Mapping[str, ChannelFacts] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node that a check points at."""

    name: str
    op: str
    detail: str = ""


@dataclass(frozen=True)
class FileFacts:
    """What the file tells without being run.

    Attributes:
        bytes: of the file and of its external data together.
        external: names of the files of external data.
        opset: version of ONNX's own operators; None where the file imports none.
        warnings: of the loader and of the static pass.
        training: nodes that behave as in training.
        random: nodes that draw random numbers.
        foreign: nodes of domains that ONNX does not define.
        covered: how much of the weights the static pass accounts for.
        missing: operators without a handler, with the number of nodes of each.
        half: the file computes in float16.
    """

    bytes: int
    external: tuple[str, ...] = ()
    opset: int | None = None
    warnings: tuple[WarningRow, ...] = ()
    training: tuple[NodeFacts, ...] = ()
    random: tuple[NodeFacts, ...] = ()
    foreign: tuple[NodeFacts, ...] = ()
    covered: Coverage = field(default_factory=Coverage)
    missing: Mapping[str, int] = field(default_factory=dict)
    half: bool = False
