"""One architecture, from its description to what is stored of it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from intrain_onnx.bench.records import Record, pack
from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.pipeline import score
from intrain_onnx.report.decode import encode
from intrain_onnx.report.saved_values import saved_values


def measure(space: str, architecture: str, size: int, configs: Sequence[ScoreConfig]) -> Record:
    """Score an architecture under some protocols, through the same steps as a file.

    A protocol that folds BatchNorm gets a network whose BatchNorm is folded away already, as exporters write
    it. Proxies are measured where a configuration names them. What fails is stored with the reason.
    """
    return {
        "architecture": architecture,
        "protocols": {c.protocol: _one(space, architecture, size, c) for c in configs},
    }


def _one(space: str, architecture: str, size: int, config: ScoreConfig) -> dict[str, Any]:
    started = time.perf_counter()
    try:
        model = SPACES[space].build(architecture, fold=config.batch_norm == "fold", size=size)
        report = score(model, config).document
    except IntrainError as error:
        return {"error": str(error)}
    except Exception as error:  # a flaw that one architecture lays open must not lose the others
        return {"error": f"internal error: {type(error).__name__}: {error}"[:300]}
    proxies = {
        name: encode(row) | {"seconds": report.timings_s[f"proxy_{name}"]}
        for name, row in report.proxies.items()
    }
    seconds = time.perf_counter() - started - sum(row["seconds"] for row in proxies.values())
    return {
        "error": None,
        "seconds": round(seconds, 4),
        "model": {
            "parameters": report.model.parameters,
            "macs": report.model.macs,
            "canonical_layers": report.model.canonical_layers,
        },
        "score": {
            "geometric_capacity": report.score.geometric_capacity,
            "optimization_resilience": report.score.optimization_resilience,
            "layers": report.score.layers,
        },
        "scores": {name: row.value for name, row in report.scores.items()},
        "proxies": proxies,
        "evidence": pack(saved_values(report)),
    }
