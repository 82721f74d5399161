"""Jobs that engines run on model files. No torch at import."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.outcomes import Lost, Tell
from intrain_onnx.failure import Failure
from intrain_onnx.loading.limits import Limits


@dataclass(frozen=True, slots=True)
class LoadLibraries:
    """Loads what every model needs: onnxruntime in its own process, and meanwhile torch.

    Attributes:
        parity: whether onnxruntime is needed.
    """

    parity: bool

    def __call__(self, item: None, tell: Tell) -> None:
        """Import them."""
        from intrain_onnx.parity import onnxruntime_process  # noqa: PLC0415

        if self.parity:
            onnxruntime_process.start_early()
        import intrain_onnx.pipeline  # noqa: F401, PLC0415

        memory.keep_imports()


@dataclass(frozen=True, slots=True)
class Load:
    """Imports a module."""

    module: str

    def __call__(self, item: None, tell: Tell) -> None:
        """Import it."""
        importlib.import_module(self.module)


@dataclass(frozen=True, slots=True)
class Call:
    """Calls a function of this package with a path; it is imported where it runs.

    Attributes:
        module: that has it.
        function: its name.
        arguments: by keyword.
    """

    module: str
    function: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def __call__(self, path: Path, tell: Tell) -> Any:
        """What the function returns, or a `Failure`."""
        try:
            return getattr(importlib.import_module(self.module), self.function)(path, **self.arguments)
        except Exception as error:
            return Failure.of(error, str(path))


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored file.

    Attributes:
        data: the report's JSON values.
        elsewhere: layers without a node of their own, which an annotated copy does not show.
    """

    data: Mapping[str, Any]
    elsewhere: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ScoreFile:
    """Scores a file.

    Attributes:
        config: the settings.
        limits: on what a model may take.
        annotated: where an annotated copy of the model goes; None for no copy.
    """

    config: ScoreConfig
    limits: Limits = field(default_factory=Limits)
    annotated: Path | None = None

    def __call__(self, path: Path, tell: Tell) -> Scored | Failure:
        """The report, or why there is none; tells each step and the share that is done."""
        try:
            LoadLibraries(self.config.parity)(None, tell)
            from intrain_onnx.pipeline import score  # noqa: PLC0415 - torch

            report = score(
                path, self.config, limits=self.limits, progress=lambda step, share: tell((step, share))
            )
            if self.annotated is None:
                return Scored(report.data)
            from intrain_onnx.report.annotate import annotate  # noqa: PLC0415 - few ask for it

            return Scored(report.data, annotate(path, report, self.annotated).elsewhere)
        except Exception as error:
            return Failure.of(error, str(path))


def failure_of(lost: Lost, path: str | Path) -> Failure:
    """The failure of a file whose process was lost."""
    failure = Failure.of(lost.error(), str(path))
    return Failure(lost.reason, failure.message, failure.exit_code, lost.trace or failure.trace)
