"""Words of a fixed set: what measuring writes, and what a report says of layers, parameters and inputs."""

from __future__ import annotations

from typing import Literal

LayerKind = Literal["convolution", "linear", "recurrent", "embedding"]
"""What a canonical layer is, whatever operator wrote it."""

LayerStatus = Literal["measured", "collapsed", "dead", "unreached", "too_few_rows", "not_run"]
"""What became of a layer: see `scores.scoring.LayerScore`."""

Role = Literal["weight", "bias", "scale", "offset", "slope", "table"]
"""What a trainable initializer is to its operator."""

CoveredRole = Literal["weight", "bias", "scale", "offset", "slope", "table", "constant"]
"""The same of any float initializer: ``constant`` is what no framework trains."""

ParameterStatus = Literal["measured", "zero_gradient", "round_off", "unreached"]
"""What became of a parameter tensor: see `scores.scoring.ParameterScore`."""

InputKind = Literal["noise", "ids", "ones", "positions", "length", "sampling_rate", "given"]
"""What an input is fed with; ``given`` by the user."""

InputSource = Literal["synthetic", "value", "file", "array"]
"""Where that came from: drawn or made here, a number or a list, a file of arrays, an array in memory."""

LossKind = Literal["cross_entropy", "mean_squared_error"]
"""What an output is compared with: random labels, or noise."""

Execution = Literal["batched", "sample_by_sample"]
"""How samples go through the graph: in one call, or in lock step where the batch is built in."""
