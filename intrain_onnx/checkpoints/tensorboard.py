"""Writes a series as scalars for TensorBoard; needs the package ``tensorboard``. No torch at import."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from intrain_onnx.checkpoints.rows import Alarm, LayerStep, Step
from intrain_onnx.errors import SettingsError, printable

_SUFFIX = ".intrain"
_OF_STEP = ("intrain", "volume", "geometric_capacity", "optimization_resilience", "gradient_norm")
_OF_LAYER: tuple[tuple[str, Callable[[LayerStep], float | None]], ...] = (
    ("participation_ratio", lambda x: x.participation_ratio),
    ("health", lambda x: x.health),
    ("dead_channels", lambda x: x.dead_channels),
    ("cloned_channels", lambda x: x.cloned_channels),
    ("distance_to_previous", lambda x: x.distance_to_previous),
)


def require() -> None:
    """Refuse to begin without the package.

    Raises:
        SettingsError: it is not installed.
    """
    if find_spec("tensorboard") is None:
        raise SettingsError(
            "--tensorboard needs the package tensorboard", hint="Install intrain-onnx[tensorboard]"
        )


class Board:
    """A folder of event files. If it has events of a series, rows of earlier runs are not written again."""

    def __init__(self, folder: Path) -> None:
        require()
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an extra, and torch

        self._has_older = folder.is_dir() and any(folder.glob(f"*tfevents*{_SUFFIX}"))
        try:
            self._writer: Any = SummaryWriter(str(folder), filename_suffix=_SUFFIX)
        except OSError as error:
            raise SettingsError(
                f"cannot write to {folder}: {error.strerror or error}", hint="Name another folder"
            ) from error

    def write(self, row: Step, *, new: bool) -> None:
        """Write the scalars of a checkpoint."""
        if row.status != "scored" or (self._has_older and not new):
            return
        for name in _OF_STEP:
            self._scalar(f"score/{name}", getattr(row, name), row.step)
        for name in ("distance_to_first", "distance_to_previous"):
            self._scalar(f"weights/{name}", getattr(row, name), row.step)
        for layer in row.layers:
            for name, value in _OF_LAYER:
                self._scalar(f"{name}/{printable(layer.name, 200)}", value(layer), row.step)

    def _scalar(self, name: str, value: float | None, step: int) -> None:
        if value is not None:
            self._writer.add_scalar(name, value, step)

    def close(self, alarms: Sequence[Alarm]) -> None:
        """Write the alarms as texts, and end the file."""
        for alarm in alarms:
            where = f" at {printable(alarm.layer, 200)}" if alarm.layer is not None else ""
            self._writer.add_text(
                "alarms", f"{alarm.rule}{where}: {printable(alarm.message, 500)}", alarm.step
            )
        self._writer.close()
