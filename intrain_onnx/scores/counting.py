"""Counts of the network that is scored: the operands of the baselines."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from intrain_onnx.network.layers import LayerMap, Slot
from intrain_onnx.rewrites.protocol.sequence import ProtocolNetwork
from intrain_onnx.scores import activation_functions
from intrain_onnx.scores.baselines import Counts
from intrain_onnx.scores.run_values import is_live
from intrain_onnx.scores.scoring import LayerScore


def count(network: ProtocolNetwork, layers: Sequence[LayerScore], *, batch: int, samples: int) -> Counts:
    """Count a network.

    Args:
        network: after the protocol's rewrites.
        layers: over all runs.
        batch: samples that the network's shapes are for.
        samples: of a run.
    """
    sizes, tables = _sizes(network.layers)
    traces = [s.trace for s in layers if s.trace is not None]
    channels = [math.log(s.layer.channels) for s in layers if s.layer.channels]
    return Counts(
        parameters=sum(sizes.values()),
        embeddings=sum(n for name, n in sizes.items() if name in tables),
        macs=macs(network.layers, batch=batch),
        layers=len(layers),
        live_layers=sum(is_live(s.status) for s in layers),
        elements=round(sum(t.rows * t.channels for t in traces) / max(samples, 1)),
        mean_log_channels=statistics.fmean(channels) if channels else 0.0,
        activation_functions=activation_functions.count(network.model, network.layers),
    )


def parameters(layers: LayerMap) -> int:
    """Elements of layers' weights and of embeddings, as `Counts` has them."""
    return sum(_sizes(layers)[0].values())


def macs(layers: LayerMap, *, batch: int) -> int | None:
    """Multiply-accumulate operations for one sample of a network whose shapes are for ``batch``."""
    return None if layers.macs is None else layers.macs // max(batch, 1)


def _sizes(layers: LayerMap) -> tuple[dict[str, int], set[str]]:
    """Elements by name of weights and embeddings, and the names of the embeddings."""
    slots = layers.slots
    tables = {name for name, slot in slots.items() if _is_table(slot)}
    tables |= {w.name for layer in layers.layers if layer.kind == "embedding" for w in layer.weights}
    sizes = {n: math.prod(s.shape) for n, s in slots.items() if s.role == "weight" or n in tables}
    return sizes, tables


def _is_table(slot: Slot) -> bool:
    """A look-up table, a token, or positions that are added: an offset that is no vector."""
    return slot.role == "table" or (slot.role == "offset" and sum(d > 1 for d in slot.shape) > 1)
