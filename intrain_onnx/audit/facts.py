"""Numbers that checks read in addition to the reports. No torch."""

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
        layer: the layer whose weight it is, or that is nearest to it; None for a plain constant.
        role: weight, bias, scale, offset, slope, table, or constant.
        dtype: ONNX element type, in lower case.
        elements: number of elements.
        not_finite: number of elements that are NaN or infinite.
        nan: number of NaN elements.
        zeros: number of elements that are exactly zero.
        max_abs: largest finite magnitude.
        rms: root mean square of the finite elements.
        channels: output channels; 0 if it is not a layer's weight.
        zero_channels: output channels whose weights are all zero.
        rank_ratio: effective rank, (sum of squared singular values)^2 / sum of their fourth powers, from 1 to
            the smaller side of the (channels, rest) matrix; None if it is not a matrix.
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
    """One activation over all samples and calls: its node, range and share of zeros.

    Attributes:
        value: its name.
        node: that computes it.
        op: operator of the node.
        max_abs: largest magnitude.
        not_finite: some element is NaN or infinite.
        zero_share: share of the elements that are zero.
        mask: magnitude of the masks that were added to it or put in.
        degree: 2 for a square that only a root or a bounded function reads, 3 for a cube.
    """

    value: str
    node: str
    op: str
    max_abs: float
    not_finite: bool
    zero_share: float
    mask: float = 0.0
    degree: int = 1

    @property
    def unmasked(self) -> float:
        """Largest magnitude without the masks, up to float32 round-off."""
        return self.max_abs if self.mask == 0.0 else max(self.max_abs - 1.00001 * self.mask, 0.0)


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """Channel statistics of a layer's output after the activation function that follows it.

    Attributes:
        layer: its name.
        after: operator type of the node whose output is measured; the layer's own if nothing follows.
        channels: number of channels.
        constant: number of channels that are constant over all samples and positions.
        zero: number of constant channels that are zero.
        rows: samples times positions.
    """

    layer: str
    after: str
    channels: int
    constant: int
    zero: int
    rows: int


@dataclass(frozen=True, slots=True)
class Variation:
    """One further run of the checkpoint: how its inputs were varied, which ones, and the layers that woke."""

    how: str
    inputs: tuple[str, ...]
    woke: tuple[str, ...]


@dataclass(frozen=True)
class RangeFacts:
    """Activation statistics of one forward pass of the checkpoint, and of others where a layer seemed dead.

    Attributes:
        values: by value name, in graph order.
        channels: by layer name.
        varied: the other runs.
        unread: layers without a gradient whose output no output of the network reads.
    """

    values: Mapping[str, ValueFacts] = field(default_factory=dict)
    channels: Mapping[str, ChannelFacts] = field(default_factory=dict)
    varied: tuple[Variation, ...] = ()
    unread: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PrecisionFacts:
    """Signal to noise at the outputs, dB, where numbers are rounded to another type; None where none differs.

    Attributes:
        dtype: the type.
        whole: with all layers rounded; minus infinity if an output is not finite.
        lost: elements of the outputs that are not finite then.
        alone: by layer, with that layer alone rounded; those that there was time for.
        layers: number of all layers.
        flushed: by layer, the largest share of its weight, input or output that becomes zero.
    """

    dtype: str
    whole: float | None
    lost: int
    alone: Mapping[str, float | None]
    layers: int
    flushed: Mapping[str, float] = field(default_factory=dict)

    def worst(self, count: int) -> list[tuple[str, float]]:
        """The layers that cost most, and their signal to noise."""
        known = [(name, snr) for name, snr in self.alone.items() if snr is not None]
        return sorted(known, key=lambda pair: pair[1])[:count]


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """A node that a finding refers to."""

    name: str
    op: str
    detail: str = ""


@dataclass(frozen=True)
class FileFacts:
    """Facts of a file from static analysis.

    Attributes:
        bytes: size of the file and its external data.
        external: names of external data files.
        opset: version of the default ONNX domain; None if not imported.
        warnings: of the loader and of the static pass.
        training: nodes that run in training mode.
        random: nodes that draw random numbers.
        foreign: nodes of domains outside the ONNX standard.
        covered: coverage of the weights by the static pass.
        missing: number of nodes by operator without a handler.
        half: the file computes in float16.
        deciding: layers that only decide sizes, indices, branches or masks, each with the node that stops
            its gradient.
        branches: weights that only the subgraphs of control-flow nodes read.
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
    deciding: Mapping[str, NodeFacts] = field(default_factory=dict)
    branches: frozenset[str] = frozenset()
