"""Enumerations shared by measurement and report: kinds and statuses of layers, parameters and inputs."""

from __future__ import annotations

from typing import Final, Literal

LEADING: Final = "volume"
"""The named score by which networks are ranked."""

LayerKind = Literal["convolution", "linear", "recurrent", "embedding"]
"""Kind of a layer, independent of the ONNX operators that compute it."""

NetworkKind = Literal["vision", "language", "recurrent", "other"]
"""Of a network, by its layers: a recurrence, else an embedding, else a convolution, else none of them."""

LayerStatus = Literal["measured", "collapsed", "dead", "unreached", "too_few_rows", "not_run"]
"""Outcome of a layer's measurement: see `scores.scoring.LayerScore`."""

Role = Literal["weight", "bias", "scale", "offset", "slope", "table"]
"""Role of a trainable initializer in its operator."""

CoveredRole = Literal["weight", "bias", "scale", "offset", "slope", "table", "constant"]
"""Role of any float initializer: ``constant`` if no framework trains it."""

ParameterStatus = Literal["measured", "zero_gradient", "round_off", "unreached"]
"""Outcome of a parameter tensor's gradient: see `scores.scoring.ParameterScore`."""

InputKind = Literal[
    "noise",
    "positive",
    "ids",
    "ones",
    "zeros",
    "positions",
    "length",
    "sampling_rate",
    "edge_index",
    "offsets",
    "timestep",
    "size",
    "control",
    "given",
]
"""Distribution or constant that fills a graph input; ``given`` by the user."""

InputSource = Literal["synthetic", "value", "file", "array"]
"""Origin of an input's elements: generated, a number or a list, a file of arrays, an array in memory."""

SizeSource = Literal["samples", "option", "given", "arithmetic", "operator", "trial", "usual"]
"""Origin of a free size: the batch; the user, as a shape or by an array; arithmetic in its name; a constraint
of an operator; runs that failed with other sizes; a default."""

LossKind = Literal["cross_entropy", "mean_squared_error"]
"""Loss of an output: cross-entropy with random labels, or mean squared error to noise."""

Execution = Literal["batched", "sample_by_sample"]
"""How samples are run: as one batch, or one at a time in lock step where the graph fixes the batch size."""
