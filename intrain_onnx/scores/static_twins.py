"""Static twins of the named scores: what counting alone gives, of the values of one run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from intrain_onnx.scores.run_values import RunValues
from intrain_onnx.scores.scoring import intrain
from intrain_onnx.scores.variants import all_of


def static_twins(values: RunValues, settings: Mapping[str, Any]) -> dict[str, float]:
    """Every named score on the static twin of a run (see `RunValues.static`).

    Args:
        values: of the run.
        settings: ``live_layers_only`` and ``health_over`` select what counts in the paper's score, as they
            do in a score with this configuration.
    """
    twin = values.static()
    live, over = settings["live_layers_only"], settings["health_over"]
    layers = [x for x in twin.layers if (x.live if live else x.status != "not_run")]
    tensors = twin.live_weights if over == "weights" else twin.tensors
    capacity = math.fsum(x.log_ratio for x in layers)
    return {"intrain": intrain(capacity, math.fsum(t.health for t in tensors), len(layers)), **all_of(twin)}
