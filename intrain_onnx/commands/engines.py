"""Which engine runs the models of a command: options, and the one place that makes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx.commands.shared import QUIET, of_worker
from intrain_onnx.errors import SettingsError

if TYPE_CHECKING:
    from intrain_onnx.engine.outcomes import Engine

_PRELOAD = ("intrain_onnx.pipeline",)


def engines(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where models run."""
    engine = click.option(
        "--engine",
        type=click.Choice(["processes", "serial", "ray"]),
        default="processes",
        show_default=True,
        help="Worker processes here, this process without isolation, or the machines of a Ray cluster.",
    )
    workers = click.option(
        "--workers", type=click.IntRange(1, 1024), default=1, show_default=True, help="Models at a time."
    )
    address = click.option(
        "--address",
        metavar="HOST:PORT|auto",
        help="With --engine ray: the cluster that this machine is in.  [default: start Ray here]",
    )
    gpus = click.option(
        "--gpus",
        type=click.FloatRange(0, 8),
        default=0.0,
        metavar="FRACTION",
        help="With --engine ray: share of a GPU that each worker gets.",
    )
    return engine(workers(address(gpus(command))))


def engine_of(options: Mapping[str, Any], *, debug: bool) -> Engine:
    """The engine that the options of `engines`, with limits and threads, ask for.

    Raises:
        SettingsError: they contradict each other.
    """
    kind, workers, limits = options["engine"], options["workers"], of_worker(options["limits"])
    if kind != "ray" and (options["address"] is not None or options["gpus"]):
        raise SettingsError("--address and --gpus are for a Ray cluster", hint="Add --engine ray")
    if kind == "serial":
        if workers > 1:
            raise SettingsError("one process has one worker", hint="Leave --workers or --engine serial out")
        from intrain_onnx.engine.serial import Serial

        return Serial()
    if kind == "processes":
        from intrain_onnx.engine import processes

        return processes.Processes(workers, limits, preload=_PRELOAD, silent=not debug)
    from intrain_onnx.engine.ray_actors import Rayed

    return Rayed(
        options["address"],
        workers,
        limits,
        threads=options["threads"],
        gpus=options["gpus"],
        preload=_PRELOAD,
        environment=QUIET,
        silent=not debug,
    )
