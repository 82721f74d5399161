"""Reports of an earlier run that are still those of the same files, settings and versions."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import msgspec

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.rank.content import digest, same_external
from intrain_onnx.report.document import Report
from intrain_onnx.versions import version


def report_of(model: Path, file: Path, config: ScoreConfig) -> Report | None:
    """The report in a file if scoring the model would make the same again; None otherwise.

    Samples of given files are not compared: with them, nothing is taken for the same.
    """
    if not file.is_file() or any(isinstance(v, str) and v.startswith("@") for v in config.inputs.values()):
        return None
    try:
        report = Report.load(file)
        same = _same_settings(report, config) and _same_file(report, model)
    except IntrainError:  # no report, or not a readable model: the run itself says what is wrong
        return None
    return report if same else None


def _same_settings(report: Report, config: ScoreConfig) -> bool:
    settings = msgspec.to_builtins(report.document.settings)
    wanted = {f.name: msgspec.to_builtins(getattr(config, f.name)) for f in fields(config)}
    packages = report.document.environment.packages
    return (
        {name: settings.get(name) for name in wanted} == wanted
        and report.document.tool.version == version("intrain-onnx")
        and all(version(name) == told for name, told in packages.items())
    )


def _same_file(report: Report, model: Path) -> bool:
    found = report.document.model
    return digest(model) == found.sha256 and same_external(model, found.external_sha256)
