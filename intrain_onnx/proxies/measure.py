"""Measures proxies of a network one by one; a failure of one does not affect the others."""

from __future__ import annotations

import importlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from intrain_onnx.errors import IntrainError
from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.errors import NoValueError
from intrain_onnx.proxy_table import PROXIES


@dataclass(frozen=True, slots=True)
class Measured:
    """Result of one proxy.

    Attributes:
        values: by part; None for an undefined or non-finite one.
        seconds: wall-clock time, and that of the passes that another proxy had made before.
        error: why a value is missing; None if all are present.
    """

    values: Mapping[str, float | None]
    seconds: float
    error: str | None


def measure(names: Sequence[str], network: ProxyContext) -> dict[str, Measured]:
    """Measure proxies, each on the same initial weights and inputs; the module is restored afterwards.

    Shared passes are computed once; their time counts for every proxy that needs them.
    """
    with network.borrowed(), torch.enable_grad():
        return {name: _measure_one(name, network) for name in names}


def _measure_one(name: str, network: ProxyContext) -> Measured:
    started = time.perf_counter()
    network.begin()
    found: Mapping[str, float] = {}
    error: str | None = None
    try:
        found = importlib.import_module(f"intrain_onnx.proxies.{name}").compute(network)
    except NoValueError as reason:
        found, error = reason.values, str(reason)
    except IntrainError as reason:
        error = f"{reason.message} (node {reason.node!r})" if reason.node else reason.message
    except (MemoryError, torch.OutOfMemoryError):
        error = "out of memory"
    except Exception as reason:  # no failure of one proxy may lose the score and the others
        error = f"{type(reason).__name__}: {reason}".splitlines()[0][:200]
    values = {part: _finite(found.get(part)) for part in PROXIES[name].parts}
    if error is None:
        error = ", ".join(f"{part} is {found[part]}" for part, v in values.items() if v is None) or None
    return Measured(values, time.perf_counter() - started + network.seconds_found, error)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
