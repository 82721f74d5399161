"""Measures proxies of a network, one by one: the failure of one loses none of the others."""

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
    """What one proxy gave.

    Attributes:
        values: by part; None where there is none.
        seconds: that it took.
        error: why a value is missing; None where none is.
    """

    values: Mapping[str, float | None]
    seconds: float
    error: str | None


def measure(names: Sequence[str], network: ProxyContext) -> dict[str, Measured]:
    """Measure proxies, each on the same fresh weights and inputs; the module is left as it was found.

    What several proxies read, such as a backward pass, is computed once and counts for the first of them.
    """
    with network.borrowed(), torch.enable_grad():
        return {name: _measure_one(name, network) for name in names}


def _measure_one(name: str, network: ProxyContext) -> Measured:
    started = time.perf_counter()
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
    except Exception as reason:  # whatever it is, the score and the other proxies are worth having
        error = f"{type(reason).__name__}: {reason}".splitlines()[0][:200]
    values = {part: _finite(found.get(part)) for part in PROXIES[name].parts}
    if error is None:
        error = ", ".join(f"{part} is {found[part]}" for part, v in values.items() if v is None) or None
    return Measured(values, time.perf_counter() - started, error)


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
