"""Latency of a run in onnxruntime, on the inputs of a measurement."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from intrain_onnx import memory
from intrain_onnx.audit.deployment.assignment import NO_ROOM, TIMEOUT
from intrain_onnx.audit.deployment.facts import LatencyFacts
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError, printable
from intrain_onnx.measure import inputs
from intrain_onnx.network.input_shapes import resized
from intrain_onnx.parity import onnxruntime_process
from intrain_onnx.parity.onnxruntime_process import NoReferenceError
from intrain_onnx.rewrites.network import Network
from intrain_onnx.runtime.machine import machine_for

_SECONDS = 30.0
"""After which no further run is started, but for the first few."""


def latency_facts(
    network: Network, config: ScoreConfig, providers: Sequence[str], *, samples: int, runs: int
) -> LatencyFacts:
    """Median and quartiles of the wall-clock time of a run.

    Args:
        network: the file is run as it is.
        config: its seed draws the inputs, its threads are those of the session.
        providers: of the session; the CPU's if none is named.
        samples: of a run; where the file fixes the number, that is taken.
        runs: at most so many are timed.
    """
    single = network.single
    signature = single if single.fixed_batch is not None else resized(single, samples)
    with machine_for(config) as machine:
        facts = LatencyFacts(signature.batch, machine.threads)
        if not memory.fits(network.loaded.tensor_bytes):
            return _failed(facts, NO_ROOM)
        try:
            drawn = inputs.draw(signature, torch.Generator().manual_seed(config.seed), torch.device("cpu"))
            arrays = inputs.as_arrays(drawn, signature)
            fed = dict(zip((spec.name for spec in signature.inputs), arrays, strict=True))
            told = onnxruntime_process.timed(
                network.loaded.for_onnxruntime(),
                fed,
                providers,
                threads=machine.threads,
                runs=runs,
                seconds=_SECONDS,
                timeout=TIMEOUT,
            )
        except (IntrainError, NoReferenceError) as error:
            return _failed(facts, printable(error, 500))
    low, median, high = np.quantile(np.array(told["seconds"]) * 1e3, [0.25, 0.5, 0.75])
    return LatencyFacts(
        signature.batch,
        machine.threads,
        provider=told["used"][0],
        runs=len(told["seconds"]),
        median=float(median),
        low=float(low),
        high=float(high),
    )


def _failed(facts: LatencyFacts, reason: str) -> LatencyFacts:
    return LatencyFacts(facts.samples, facts.threads, error=reason)
