"""``intrain-onnx score``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx import memory
from intrain_onnx.commands.shared import EXIT_CODES, failures, given, quiet_threads, shared
from intrain_onnx.config import PROTOCOLS, ScoreConfig
from intrain_onnx.errors import SettingsError, printable
from intrain_onnx.loading.limits import Limits
from intrain_onnx.proxy_table import names
from intrain_onnx.report.output_files import check_outputs, distinct_names

if TYPE_CHECKING:
    from intrain_onnx.report.document import Report


@click.command(epilog=EXIT_CODES)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FILE|DIR|-",
    help="Where the JSON report goes; - is standard output.  [default: <stem>.intrain.json here]",
)
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="architecture",
    show_default=True,
    help="architecture: re-initialised and calibrated. checkpoint: as exported. paper: as published.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first run.")
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Number of runs.")
@click.option("--batch", type=click.IntRange(1), help="Samples in a run.  [default: 16; paper: 64]")
@click.option(
    "--device",
    type=click.Choice(["auto", "cuda", "cpu"]),
    default="auto",
    show_default=True,
    help="Where to compute; auto takes CUDA where there is one.",
)
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads.  [default: all cores]")
@click.option(
    "--converter",
    type=click.Choice(["native", "onnx2torch"]),
    default="native",
    show_default=True,
    help="onnx2torch is an independent cross-check.",
)
@click.option(
    "--proxies",
    default="",
    metavar="all|NAME,NAME",
    help="Measure peers' zero-cost proxies beside the score.",
)
@click.option(
    "--annotate",
    "annotated",
    metavar="FILE.onnx",
    type=click.Path(path_type=Path),
    help="Also write a copy of the model with the measurements in its nodes' metadata, as Netron shows it.",
)
@click.option(
    "--max-macs",
    type=click.FloatRange(0, min_open=True),
    help="Refuse to start what takes more MACs in all.  [default: 1e15; CUDA: 1e17]",
)
@click.option("--no-parity", is_flag=True, help="Do not compare with onnxruntime.")
@given
@shared
def score(
    models: tuple[Path, ...],
    output: str | None,
    protocol: str,
    batch: int | None,
    proxies: str,
    annotated: Path | None,
    no_parity: bool,
    max_macs: float | None,
    debug: bool,
    limits: Limits,
    values: dict[str, str],
    samples: dict[str, str],
    **settings: Any,
) -> None:
    """Score models, print a summary and write a JSON report for each.

    Several models end in a table in rank order. One bad model does not stop the others.
    """
    from intrain_onnx.commands import terminal

    if batch is not None:
        settings["batch"] = batch
    if max_macs is not None:
        settings["max_macs"] = max_macs
    settings["inputs"] = samples | values
    try:
        settings["proxies"] = names(proxies) if proxies else ()
        config = ScoreConfig.for_protocol(protocol, parity=not no_parity, **settings)
        targets = _targets(models, output)
        _check_outputs(models, targets, annotated)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    quiet_threads()
    with memory.at_most(limits.memory):
        memory.cap_process()
    reports: list[Report] = []
    code = 0
    with terminal.progress(sys.stderr) as begin:
        for model, target in zip(models, targets, strict=True):
            with failures(debug, model) as failed:
                report = _score_one(model, config, limits, begin(model.name))
                if target is None:
                    click.echo(
                        report.to_json() if len(models) == 1 else json.dumps(report.data), nl=len(models) > 1
                    )
                else:
                    _save(report, target)
                reports.append(report)
                if annotated is not None:
                    _annotate(model, report, annotated)
            code = code or failed[0]
    out = sys.stderr if output == "-" else sys.stdout
    if len(models) == 1 and reports:
        terminal.summary(reports[0], out, saved=targets[0])
    elif reports:
        terminal.ranking(reports, out)
    sys.exit(code)


def _score_one(
    model: Path, config: ScoreConfig, limits: Limits, progress: Callable[[str, float], None]
) -> Report:
    from intrain_onnx.parity.onnxruntime_process import start_early

    if config.parity:  # before torch, which takes as long to load as onnxruntime does there
        start_early()
    from intrain_onnx.pipeline import score as score_file

    memory.keep_imports()
    return score_file(model, config, limits=limits, progress=progress)


def _save(report: Report, target: Path) -> None:
    try:
        report.save(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"cannot write {target}: {reason}", hint="Name another place with -o") from error


def _check_outputs(models: Sequence[Path], targets: Sequence[Path | None], annotated: Path | None) -> None:
    from intrain_onnx.report.annotate import check_target

    written = [(f"-o {target}", target) for target in targets if target is not None]
    if annotated is not None:
        if len(models) > 1:
            raise SettingsError(f"--annotate {annotated} is one file for {len(models)} models")
        check_target(annotated)
        written.append((f"--annotate {annotated}", annotated))
    check_outputs(written, (), models)


def _annotate(model: Path, report: Report, target: Path) -> None:
    from intrain_onnx.report.annotate import annotate

    written = annotate(model, report, target)
    if written.elsewhere:
        click.echo(
            f"{len(written.elsewhere)} layers have no node of their own in the file and are not in {target}: "
            f"{printable(', '.join(written.elsewhere), 120)}",
            err=True,
        )


def _targets(models: tuple[Path, ...], output: str | None) -> list[Path | None]:
    """Path of each report; None is standard output."""
    if output == "-":
        return [None] * len(models)
    if output is not None and not Path(output).is_dir() and not output.endswith(("/", os.sep)):
        if len(models) > 1:
            raise SettingsError(
                f"-o {output} is one file for {len(models)} models", hint="Name a folder that exists"
            )
        if not Path(output).absolute().parent.is_dir():
            raise SettingsError(f"-o {output}: its folder does not exist", hint="Create it first")
        return [Path(output)]
    folder = Path(output or ".")
    if not folder.is_dir():
        raise SettingsError(f"-o {output}: no such folder", hint="Create it first")
    return [folder / f"{name}.intrain.json" for name in distinct_names([model.stem for model in models])]
