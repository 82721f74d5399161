"""``intrain-onnx audit``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx import memory
from intrain_onnx.commands.shared import (
    documents,
    failures,
    file_targets,
    given,
    measured,
    parse_size,
    print_document,
    quiet_threads,
    shared,
)
from intrain_onnx.engine.outcomes import Lost
from intrain_onnx.engine.signals import ended_by_signals, exit_code_of
from intrain_onnx.errors import SettingsError, printable
from intrain_onnx.report.document import Report, write_atomically
from intrain_onnx.report.output_files import check_outputs, report_names

if TYPE_CHECKING:
    from intrain_onnx.audit.job import AuditFile
    from intrain_onnx.audit.policy import Policy
    from intrain_onnx.audit.run import Audits, Result

_BY_NAME = ("input_shapes", "batch_axes", "inputs", "limits")
"""Settings of single names: those of the command line are added to the policy's."""

_FORMATS = ("terminal", "json", "sarif", "junit", "github", "html", "cyclonedx", "csv", "parquet")
EXIT_CODES = """
\b
Exit codes:
  0  passed                        4  unsupported model or operator
  1  the policy is violated        6  a limit was exceeded
  2  wrong usage or setting        70 an error inside intrain-onnx
  3  not a valid or safe model
With several models it is the code of the first that did not pass.
"""


@click.command(epilog=EXIT_CODES)
@click.argument("models", nargs=-1, metavar="MODEL...", type=click.Path(path_type=Path))
@click.option(
    "--policy",
    "policy_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What is demanded, in TOML.  [default: the policy that is shipped]",
)
@click.option(
    "--baseline",
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help="An earlier report of `score`, or a folder with <stem>.intrain.json for each model.",
)
@click.option(
    "--reference",
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help="Another file of the same network, such as the one that this was converted from, or a folder with a "
    "file of the same name for each model.",
)
@documents(_FORMATS)
@click.option("--explain", metavar="CHECK", help="Say what a check does, or all of them; list names them.")
@click.option("--batch", type=click.IntRange(1), help="Samples in a run.  [default: 16]")
@click.option("--seeds", type=click.IntRange(1), help="Number of runs of each protocol.  [default: 3]")
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
    "weights made when they are read.  [default: what is free]",
)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), help="Where to compute.")
@click.option(
    "--threads", type=click.IntRange(0), help="CPU threads.  [default: OMP_NUM_THREADS, or all cores]"
)
@click.option("--no-parity", is_flag=True, help="Do not compare with onnxruntime.")
@given
@partial(shared, limits_by_name=True)
def audit(
    models: tuple[Path, ...],
    policy_file: Path | None,
    baseline: Path | None,
    reference: Path | None,
    shown: str,
    outputs: tuple[str, ...],
    explain: str | None,
    no_parity: bool,
    debug: bool,
    values: dict[str, str],
    samples: dict[str, str],
    **settings: Any,
) -> None:
    """Hold models against a policy before they are deployed.

    The checkpoint is compared with its own architecture at initialisation, and with a baseline.
    """
    if explain is not None:
        _explain(explain)
        return
    if not models:
        raise click.UsageError("name a model, or --explain CHECK")
    with failures(debug) as failed:
        settings["parity"] = False if no_parity else None
        settings["inputs"] = samples | values
        targets = file_targets(outputs, _FORMATS[1:])
        earlier = _baseline_files(baseline, models)
        references = _references(reference, models)
        policy = _read(policy_file, settings)
        read = [*models, *filter(None, references)]
        _require_installed({shown, *(name for name, _ in targets)}, policy)
        _check_outputs(targets, read, policy, policy_file, earlier)
        baselines = [Report.load(file) if file is not None else None for file in earlier]
    if failed[0]:
        sys.exit(failed[0])
    quiet_threads()
    if policy.run.max_memory:
        os.environ.update(memory.RETURN_WHAT_IS_FREED | os.environ)
    done, ended = _Audits(policy, targets, debug, len(models)), 0
    try:
        with ended_by_signals():
            done.run(models, baselines, references)
    except KeyboardInterrupt as error:
        ended = exit_code_of(error)
    with failures(debug) as failed:
        _show(done.audits, shown)
    sys.exit(ended or done.audits.exit_code or done.code or _internal(failed[0]))


def _explain(wanted: str) -> None:
    from intrain_onnx.audit.formats import terminal
    from intrain_onnx.audit.table import CHECKS

    if wanted in ("all", "list"):
        (terminal.explain if wanted == "all" else terminal.listing)(list(CHECKS.values()), sys.stdout)
    elif wanted in CHECKS:
        terminal.explain([CHECKS[wanted]], sys.stdout)
    else:
        raise click.BadParameter(f"no check is called {printable(wanted, 100)!r}; see --explain list")


def _read(file: Path | None, settings: Mapping[str, Any]) -> Policy:
    """The policy, with run settings overridden by the command line."""
    from intrain_onnx.audit import policy
    from intrain_onnx.audit.gather import PROTOCOLS, config_for

    told = policy.default() if file is None else policy.load(file)
    by_name = {n: {**getattr(told.run, n), **settings[n]} for n in _BY_NAME}
    changes = {n: v for n, v in settings.items() if v is not None}
    run = replace(told.run, **(changes | by_name))
    for protocol in PROTOCOLS:
        config_for(protocol, run, None)  # refuses what is out of range, before any model is run
    return replace(told, run=run)


def _require_installed(formats: set[str], policy: Policy) -> None:
    """Look for what formats and checks need beyond this package, before anything is measured."""
    if "cyclonedx" in formats:
        from intrain_onnx.audit.formats import bom

        bom.require()
    if "parquet" in formats:
        from intrain_onnx.report.frames.table import require

        require()
    if _trusted(policy):
        from intrain_onnx.audit.deployment import signature

        signature.require()


def _trusted(policy: Policy) -> list[Path]:
    """Files of the keys and certificates that signatures are verified with."""
    from intrain_onnx.audit.checks.deployment import Signature

    rule = policy.rules["signature"]
    if rule.severity == "off" or not isinstance(rule.options, Signature):
        return []
    return [Path(file) for file in (rule.options.key, *rule.options.certificates) if file]


def _baseline_files(place: Path | None, models: Sequence[Path]) -> Sequence[Path | None]:
    if place is None:
        return [None] * len(models)
    if place.is_dir():
        files = [place / name for name in report_names(models)]
        for file in files:
            if not file.is_file():
                raise SettingsError(f"--baseline {place} has no {file.name}", hint="Write it with `score -o`")
        return files
    if len(models) > 1:
        raise SettingsError(
            f"--baseline is one report for {len(models)} models", hint="Name a folder of reports"
        )
    return [place]


def _references(place: Path | None, models: Sequence[Path]) -> Sequence[Path | None]:
    if place is None:
        return [None] * len(models)
    if place.is_dir():
        files = [place / model.name for model in models]
        for file in files:
            if not file.is_file():
                raise SettingsError(f"--reference {place} has no {file.name}", hint="Put it there")
        return files
    if not place.is_file():
        raise SettingsError(f"--reference {place}: no such file")
    return [place] * len(models)


def _check_outputs(
    targets: Sequence[tuple[str, Path]],
    models: Sequence[Path],
    policy: Policy,
    policy_file: Path | None,
    baselines: Sequence[Path | None],
) -> None:
    from intrain_onnx.loading import given_inputs

    read = [("the baseline", file) for file in baselines if file is not None]
    if policy_file is not None:
        read.append(("the policy", policy_file))
    read += [("the given input", file) for file in given_inputs.files(policy.run.inputs)]
    read += [("the key or certificate", file) for file in _trusted(policy)]
    check_outputs([(f"-o {name}={file}", file) for name, file in targets], read, models)


@dataclass
class _Audits:
    """The results so far, which every file that is asked for holds."""

    policy: Policy
    targets: Sequence[tuple[str, Path]]
    debug: bool
    models: int
    results: list[Result] = field(default_factory=list)
    code: int = 0

    @property
    def audits(self) -> Audits:
        from intrain_onnx.audit.run import Audits

        return Audits.of(self.results, self.models)

    def run(
        self,
        models: Sequence[Path],
        baselines: Sequence[Report | None],
        references: Sequence[Path | None],
    ) -> None:
        """Audit each model in a process that can die alone; all outputs are written after each of them."""
        from intrain_onnx.audit.job import AuditFile

        job, items = AuditFile(self.policy, self.debug), list(zip(models, baselines, references, strict=True))
        outcomes = measured(
            job,
            models,
            items,
            limits=self.policy.run.allowed(),
            parity=self.policy.run.parity,
            debug=self.debug,
        )
        with closing(outcomes):
            for outcome in outcomes:
                self._keep(job, outcome.item[0], outcome.result)

    def _keep(self, job: AuditFile, model: Path, found: Result | Lost) -> None:
        if isinstance(found, Lost):
            if self.debug:
                click.echo(found.trace, err=True)
            found = job.result_of(found, model)
        self.results.append(found)
        if found.error is not None:
            click.echo(f"error: {found.error}", err=True)
        with failures(self.debug) as failed:
            _write(self.audits, self.targets)
        self.code = self.code or _internal(failed[0])


def _show(audits: Audits, shown: str) -> None:
    from intrain_onnx.audit.formats import FORMATS, terminal

    if shown == "terminal":
        terminal.draw(audits, sys.stdout)
    else:
        print_document(FORMATS[shown](audits))


def _write(audits: Audits, targets: Sequence[tuple[str, Path]]) -> None:
    from intrain_onnx.audit.formats import FORMATS

    lost = []
    for name, file in targets:
        try:
            write_atomically(file, FORMATS[name](audits))
        except OSError as error:
            lost.append(f"cannot write {file}: {error.strerror or error}")
    if lost:
        raise SettingsError("; ".join(lost), hint="Name another place with -o")


def _internal(code: int) -> int:
    """Exit code of an internal error: `INTERNAL` instead of 1, which means a violated policy here."""
    from intrain_onnx.audit.run import INTERNAL

    return INTERNAL if code == 1 else code
