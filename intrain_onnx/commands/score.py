"""``intrain-onnx score``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from intrain_onnx import memory
from intrain_onnx.commands.shared import (
    EXIT_CODES,
    as_file,
    device,
    failures,
    given,
    measured,
    parse_size,
    print_document,
    projections,
    quiet_threads,
    shared,
    show_failure,
    threads,
)
from intrain_onnx.config import PROTOCOLS, ScoreConfig
from intrain_onnx.engine.outcomes import Lost, Outcome
from intrain_onnx.engine.signals import ended_by_signals, exit_code_of
from intrain_onnx.errors import SettingsError, printable
from intrain_onnx.failure import Failure
from intrain_onnx.jobs import Scored, ScoreFile, failure_of
from intrain_onnx.loading.limits import Limits
from intrain_onnx.proxy_table import names
from intrain_onnx.report.document import Report
from intrain_onnx.report.output_files import check_outputs, report_names
from intrain_onnx.vocabulary import LEADING


@click.command(epilog=EXIT_CODES)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FILE|DIR|-",
    shell_complete=as_file,
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
@device
@threads
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
    "--by",
    default=LEADING,
    show_default=True,
    metavar="NAME",
    help="What several models are ranked by: a named score, intrain, a baseline or a proxy.",
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
@click.option(
    "--max-memory",
    metavar="SIZE",
    callback=parse_size,
    help="Bytes for a run, such as 4G or 4Gi: where it takes more, activations are computed twice, or "
    "weights made when they are read, for the same numbers.  [default: what is free]",
)
@projections
@click.option("--no-parity", is_flag=True, help="Do not compare with onnxruntime.")
@click.option(
    "--resume", is_flag=True, help="Keep the reports that are there of the same files, settings and versions."
)
@given
@shared
def score(
    models: tuple[Path, ...],
    output: str | None,
    protocol: str,
    batch: int | None,
    proxies: str,
    by: str,
    annotated: Path | None,
    no_parity: bool,
    resume: bool,
    max_macs: float | None,
    max_memory: int | None,
    debug: bool,
    limits: Limits,
    values: dict[str, str],
    samples: dict[str, str],
    **settings: Any,
) -> None:
    """Score models, print a summary and write a JSON report for each.

    Several models end in a table in rank order. One bad model does not stop the others.
    """
    if batch is not None:
        settings["batch"] = batch
    if max_macs is not None:
        settings["max_macs"] = max_macs
    if max_memory is not None:
        settings["max_memory"] = max_memory
        os.environ.update(memory.RETURN_WHAT_IS_FREED | os.environ)
    settings["inputs"] = samples | values
    try:
        settings["proxies"] = names(proxies) if proxies else ()
        config = ScoreConfig.for_protocol(protocol, parity=not no_parity, **settings)
        _check_name(by, config.proxies)
        targets = _targets(models, output)
        _check_outputs(models, targets, annotated, config)
        if resume and (annotated is not None or None in targets):
            raise SettingsError("--resume needs reports in files, and no --annotate")
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    quiet_threads()
    done = _Done(models, output == "-", debug, by)
    try:
        with ended_by_signals():
            done.score(ScoreFile(config, limits, annotated), targets, resume=resume)
    except KeyboardInterrupt as error:
        done.code = exit_code_of(error)
    done.show(targets)
    sys.exit(done.code)


@dataclass
class _Done:
    """What is scored so far, and the exit code of the first failure."""

    models: Sequence[Path]
    printed: bool
    debug: bool
    by: str = LEADING
    reports: list[Report] = field(default_factory=list)
    code: int = 0

    def score(self, job: ScoreFile, targets: Sequence[Path | None], *, resume: bool = False) -> None:
        """Score all models, each in a process that can die alone, and save each report as it comes."""
        left = self._left(job, targets) if resume else range(len(self.models))
        models = [self.models[i] for i in left]
        if not models:
            return
        outcomes = measured(
            job,
            models,
            models,
            limits=job.limits,
            parity=job.config.parity,
            debug=self.debug,
        )
        with closing(outcomes):
            for outcome in outcomes:
                self._keep(outcome, targets[left[outcome.index]], job.annotated)

    def _left(self, job: ScoreFile, targets: Sequence[Path | None]) -> list[int]:
        """The models without a report of an earlier run; those of the others are kept."""
        from intrain_onnx.commands.earlier import report_of

        left = []
        for index, (model, target) in enumerate(zip(self.models, targets, strict=True)):
            found = report_of(model, target, job.config) if target is not None else None
            if found is None:
                left.append(index)
            else:
                self.reports.append(found)
        if self.reports:
            kept = f"{len(self.reports)} of {len(self.models)} reports are kept"
            click.echo(f"{kept}: file, settings and versions are the same", err=True)
        return left

    def _keep(
        self, outcome: Outcome[Path, Scored | Failure], target: Path | None, annotated: Path | None
    ) -> None:
        found = outcome.result
        if isinstance(found, Scored):
            with failures(self.debug, outcome.item) as failed:
                self._save(Report(found.data), target)
                _tell_missing(found.elsewhere, annotated)
            self.code = self.code or failed[0]
        else:
            failure = failure_of(found, outcome.item) if isinstance(found, Lost) else found
            code = show_failure(failure, self.debug)
            self.code = self.code or code

    def _save(self, report: Report, target: Path | None) -> None:
        if target is None:
            alone = len(self.models) == 1
            print_document(report.to_json() if alone else f"{json.dumps(report.data)}\n")
        else:
            _save(report, target)
        self.reports.append(report)

    def show(self, targets: Sequence[Path | None]) -> None:
        """Print the summary of one model, or the ranking of several."""
        from intrain_onnx.commands.terminal.ranking import ranking
        from intrain_onnx.commands.terminal.summary import summary

        out = sys.stderr if self.printed else sys.stdout
        if len(self.models) == 1 and self.reports:
            summary(self.reports[0], out, saved=targets[0])
        elif self.reports:
            ranking(self.reports, out, self.by)


def _check_name(by: str, proxies: Sequence[str]) -> None:
    if by == LEADING:
        return
    from intrain_onnx.proxy_table import PROXIES
    from intrain_onnx.scores.baselines import BASELINES
    from intrain_onnx.scores.variants import VARIANTS

    parts = (part for name in proxies for part in PROXIES[name].parts)
    known = [*VARIANTS, "intrain", *BASELINES, *parts]
    if by not in known:
        raise SettingsError(f"--by {by!r} is no value of a report", hint=f"--by takes {', '.join(known)}")


def _save(report: Report, target: Path) -> None:
    try:
        report.save(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"cannot write {target}: {reason}", hint="Name another place with -o") from error


def _check_outputs(
    models: Sequence[Path], targets: Sequence[Path | None], annotated: Path | None, config: ScoreConfig
) -> None:
    from intrain_onnx.loading import given_inputs

    written = [(f"-o {target}", target) for target in targets if target is not None]
    if annotated is not None:
        if len(models) > 1:
            raise SettingsError(f"--annotate {annotated} is one file for {len(models)} models")
        written.append((f"--annotate {annotated}", annotated))
    read = [("the given input", file) for file in given_inputs.files(config.inputs)]
    check_outputs(written, read, models)


def _tell_missing(elsewhere: Sequence[str], target: Path | None) -> None:
    if elsewhere:
        click.echo(
            f"{len(elsewhere)} layers have no node of their own in the file and are not in {target}: "
            f"{printable(', '.join(elsewhere), 120)}",
            err=True,
        )


def _targets(models: tuple[Path, ...], output: str | None) -> list[Path | None]:
    """Path of each report; None is standard output."""
    if output == "-":
        return [None] * len(models)
    if output is not None and not os.path.isdir(output) and not output.endswith(("/", os.sep)):
        if len(models) > 1:
            raise SettingsError(
                f"-o {output} is one file for {len(models)} models", hint="Name a folder that exists"
            )
        return [Path(output)]
    folder = Path(output or ".")
    if not os.path.isdir(folder):
        raise SettingsError(f"-o {output}: no such folder", hint="Create it first")
    return [folder / name for name in report_names(models)]
