"""Settings. Every choice that can change a score is a field here and lands in the report."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final, Literal, get_args

from intrain_onnx import proxy_table
from intrain_onnx.errors import SettingsError, path_text

Protocol = Literal["architecture", "checkpoint", "paper"]
Converter = Literal["native", "onnx2torch"]
Device = Literal["auto", "cuda", "cpu"]
Weights = Literal["reinitialise", "keep"]
BatchNorm = Literal["fold", "training", "inference"]
HealthOver = Literal["weights", "all"]
Points = Literal["cuts", "all"]

PROTOCOLS: Final[Mapping[str, Mapping[str, Any]]] = {
    # Re-initialised and calibrated, so that the score is one of the architecture and not of an export:
    # a graph with its BatchNorm folded then ranks as well as one that kept it.
    "architecture": {
        "weights": "reinitialise",
        "batch_norm": "fold",
        "calibrate": True,
        "live_layers_only": True,
        "health_over": "weights",
        "eps": 0.0,
        "batch": 16,
    },
    # The network as it would be deployed.
    "checkpoint": {
        "weights": "keep",
        "batch_norm": "inference",
        "calibrate": False,
        "live_layers_only": True,
        "health_over": "weights",
        "eps": 0.0,
        "batch": 16,
    },
    # arXiv 2606.18676 as published.
    "paper": {
        "weights": "reinitialise",
        "batch_norm": "training",
        "calibrate": False,
        "live_layers_only": False,
        "health_over": "all",
        "eps": 1e-10,
        "batch": 64,
    },
}

_LARGEST: Final = 2**31 - 1

RANGES: Final[Mapping[str, tuple[float, float]]] = {
    "seed": (0, 2**53),  # a number that every reader of JSON keeps; each run adds one
    "seeds": (1, 100_000),
    "batch": (1, _LARGEST),
    "size": (1, _LARGEST),
    "sequence": (1, _LARGEST),
    "max_macs": (0, 1e100),
    "max_memory": (0, 2**53),
    "projections": (0, 2**20),
}
"""Least and largest value of each number among the settings; for threads see `most_threads`."""


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def most_threads() -> int:
    """Threads or processes that can be asked for: a multiple of the cores; thousands end in a standstill."""
    return max(64, 16 * cores())


def require(name: str, value: float, least: float, most: float) -> None:
    """Check the range of a setting.

    Raises:
        SettingsError: it lies outside.
    """
    if not value >= least:
        raise SettingsError(f"{name} is {value}", hint=f"It must be at least {least}")
    if value > most:
        raise SettingsError(f"{name} is {value}", hint=f"It must be at most {most}")


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """Settings of a score; :meth:`for_protocol` makes them from a protocol's preset.

    Attributes:
        protocol: name of the preset that sets ``weights`` to ``eps`` and ``batch``.
        weights: ``reinitialise`` draws new ones (Kaiming normal, fan-in), ``keep`` uses the file's.
        batch_norm: ``fold`` folds a BatchNorm into the layer before it, ``training`` normalises by the
            statistics of the batch, ``inference`` by the running statistics in the file.
        calibrate: rescale weights, shift biases, so that each output channel has zero mean and unit variance.
        live_layers_only: leave layers whose weights have an all-zero gradient out of the sums and of L.
        health_over: the parameter tensors whose gradient health is summed: ``weights`` of layers, or ``all``.
        eps: added to max|g| in the gradient health.
        seed: of weights, inputs and labels of the first run; run i uses ``seed + i``.
        seeds: number of runs.
        batch: samples in a run, where the graph leaves the batch size open or can be run sample by sample.
        size: pixels of each free spatial dimension.
        sequence: length of each free sequence dimension.
        input_shapes: shapes by input name; ``batch`` overrides the size of the batch axis.
        batch_axes: axis of the samples by input name, None for an input without one, instead of those found.
        inputs: what inputs are fed instead of what would be drawn, by name: a number, a list of numbers, an
            array, ``"@FILE.npy"`` or ``"@FILE.npz"`` (see ``loading.given_inputs``). The samples of an array
            override ``batch``.
        max_macs: most multiply-accumulate operations of all runs; 0 for 1e15 on the CPU and 1e17 on CUDA.
        max_memory: bytes that a run may take on top of what the process holds: where it takes more, weights
            are not held or activations are made again on the way back; 0 for what is free.
        device: ``auto`` selects CUDA if available.
        threads: CPU threads; 0 for as many as ``OMP_NUM_THREADS`` says, or else all cores of this process.
        converter: ``native``, or ``onnx2torch`` as an independent cross-check.
        parity: compare the converted model with onnxruntime.
        points: values measured besides the layers: ``cuts``, the dominators of the loss, which a variant
            reads, or ``all``, for studies.
        proxies: names of other zero-cost proxies that are measured too (see ``proxy_table``).
        projections: random projections by which tr(S^2) of the covariance S of wide values is estimated,
            with a standard error (see ``measure.statistics.projections``); 0 for exact covariances.
    """

    protocol: Protocol = "architecture"
    weights: Weights = "reinitialise"
    batch_norm: BatchNorm = "fold"
    calibrate: bool = True
    live_layers_only: bool = True
    health_over: HealthOver = "weights"
    eps: float = 0.0
    seed: int = 0
    seeds: int = 3
    batch: int = 16
    size: int = 64
    sequence: int = 64
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    batch_axes: Mapping[str, int | None] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    max_macs: float = 0.0
    max_memory: int = 0
    device: Device = "auto"
    threads: int = 0
    converter: Converter = "native"
    parity: bool = True
    points: Points = "cuts"
    proxies: tuple[str, ...] = ()
    projections: int = 0

    def __post_init__(self) -> None:
        choices = {
            "protocol": get_args(Protocol),
            "converter": get_args(Converter),
            "device": get_args(Device),
            "weights": get_args(Weights),
            "batch_norm": get_args(BatchNorm),
            "health_over": get_args(HealthOver),
            "points": get_args(Points),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise SettingsError(
                    f"{name} is {getattr(self, name)!r}", hint=f"Use one of {', '.join(allowed)}"
                )
        for name, (least, most) in RANGES.items():
            require(name, getattr(self, name), least, most)
        require("threads", self.threads, 0, most_threads())
        if self.weights == "keep" and (self.calibrate or self.batch_norm == "fold"):
            raise SettingsError(
                "kept weights can be neither calibrated nor folded",
                hint="Set calibrate=False and batch_norm='inference'",
            )
        if self.proxies:
            proxy_table.names(",".join(self.proxies))
        for name, shape in self.input_shapes.items():
            if any(d < 0 for d in shape):
                raise SettingsError(f"input_shapes[{name!r}] is {shape}", hint="No dimension may be negative")
            if any(d > _LARGEST for d in shape):
                raise SettingsError(
                    f"input_shapes[{name!r}] is {shape}", hint=f"A dimension may be {_LARGEST} at most"
                )
        for name, axis in self.batch_axes.items():
            if axis is not None and axis < 0:
                raise SettingsError(f"batch_axes[{name!r}] is {axis}", hint="Axes count from 0; or None")

    @classmethod
    def for_protocol(cls, protocol: str = "architecture", **overrides: Any) -> ScoreConfig:
        """The preset of a protocol, with single fields overridden.

        Raises:
            SettingsError: unknown protocol, unknown field, or a value out of range.
        """
        if protocol not in PROTOCOLS:
            raise SettingsError(f"protocol is {protocol!r}", hint=f"Use one of {', '.join(PROTOCOLS)}")
        unknown = set(overrides) - {f.name for f in fields(cls)}
        if unknown:
            raise SettingsError(f"no setting is called {', '.join(sorted(unknown))}")
        return replace(cls(), **{"protocol": protocol, **PROTOCOLS[protocol], **overrides})

    def as_dict(self) -> dict[str, Any]:
        """The fields as JSON values."""
        values = {row.name: getattr(self, row.name) for row in fields(self)}
        values["proxies"] = list(self.proxies)
        values["input_shapes"] = {name: list(shape) for name, shape in sorted(self.input_shapes.items())}
        values["batch_axes"] = dict(sorted(self.batch_axes.items()))
        values["inputs"] = {name: path_text(as_text(value)) for name, value in sorted(self.inputs.items())}
        return values


def as_text(value: Any) -> str:
    """What an input is fed with, as it is written on the command line; ``array`` for one in memory."""
    if isinstance(value, (list, tuple)):
        return ",".join(map(as_text, value))
    if isinstance(value, (int, float, str)):
        return str(int(value) if isinstance(value, bool) else value)
    if getattr(value, "ndim", None) == 0:  # a number of numpy's
        return as_text(value.item())
    return str(getattr(value, "told", "array"))
