"""Scores one architecture, from its description to the stored record."""

from __future__ import annotations

import time
from collections.abc import Sequence

from intrain_onnx.bench.find_space import find
from intrain_onnx.bench.records import Factors, Failed, Measured, Proxy, Record, rounded
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.pipeline import score
from intrain_onnx.report.saved_values import saved_values


def measure(space: str, architecture: str, size: int, configs: Sequence[ScoreConfig]) -> Record:
    """Score an architecture under several protocols, by the same steps as a file.

    Under a protocol that folds BatchNorm, the network is built with BatchNorm already folded, as exporters
    do. Proxies are measured if the configuration names them. Failures are stored with their reason.
    """
    return Record(architecture, {c.protocol: _one(space, architecture, size, c) for c in configs})


def _one(space: str, architecture: str, size: int, config: ScoreConfig) -> Measured | Failed:
    started = time.perf_counter()
    try:
        model = find(space).space.build(architecture, fold=config.batch_norm == "fold", size=size)
        report = score(model, config).document
    except IntrainError as error:
        return Failed(str(error))
    except Exception as error:  # a flaw that one architecture lays open must not lose the others
        return Failed(f"internal error: {type(error).__name__}: {error}"[:300])
    total, timings = report.score, report.timings_s
    proxies = {
        name: Proxy(row.values, row.direction, row.error, seconds=timings[f"proxy_{name}"])
        for name, row in report.proxies.items()
    }
    seconds = time.perf_counter() - started - timings.get("proxies", 0.0)
    return Measured(
        seconds=round(seconds, 4),
        baselines=report.baselines,
        score=Factors(total.geometric_capacity, total.optimization_resilience, total.layers),
        scores={name: row.value for name, row in report.scores.items()},
        proxies=proxies,
        values=rounded(saved_values(report)),
    )
