"""``intrain-onnx audit``."""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx import memory
from intrain_onnx.commands.shared import failures, given, quiet_threads, shared
from intrain_onnx.errors import IntrainError, SettingsError, printable
from intrain_onnx.report.document import Report, write_atomically
from intrain_onnx.report.output_files import check_outputs

if TYPE_CHECKING:
    from intrain_onnx.audit.policy import Policy
    from intrain_onnx.audit.run import Result

_BY_NAME = ("input_shapes", "batch_axes", "inputs", "limits")
"""Settings of single names: those of the command line are added to the policy's."""

_FORMATS = ("terminal", "json", "sarif", "junit", "github", "html")
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
    "--format",
    "shown",
    type=click.Choice(_FORMATS),
    default="terminal",
    show_default=True,
    help="What is printed.",
)
@click.option(
    "-o",
    "--output",
    "outputs",
    multiple=True,
    metavar="FORMAT=FILE",
    help="Also write a file; may be given several times.",
)
@click.option("--explain", metavar="CHECK", help="Say what a check does, or all of them; list names them.")
@click.option("--batch", type=click.IntRange(1), help="Samples in a run.  [default: 16]")
@click.option("--seeds", type=click.IntRange(1), help="Number of runs of each protocol.  [default: 3]")
@click.option(
    "--max-macs",
    type=click.FloatRange(0, min_open=True),
    help="Refuse to start what takes more MACs in all.  [default: 1e15; CUDA: 1e17]",
)
@click.option("--device", type=click.Choice(["auto", "cuda", "cpu"]), help="Where to compute.")
@click.option("--threads", type=click.IntRange(0), help="CPU threads.  [default: all cores]")
@click.option("--no-parity", is_flag=True, help="Do not compare with onnxruntime.")
@given
@partial(shared, limits_by_name=True)
def audit(
    models: tuple[Path, ...],
    policy_file: Path | None,
    baseline: Path | None,
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
        targets = _targets(outputs)
        earlier = [_baseline_file(baseline, model, len(models)) for model in models]
        _check_outputs(targets, models, policy_file, earlier)
        policy = _read(policy_file, settings)
        baselines = [Report.load(file) if file is not None else None for file in earlier]
    if failed[0]:
        sys.exit(failed[0])
    quiet_threads()
    with memory.at_most(policy.run.allowed().memory):
        memory.cap_process()
    results = _run(models, policy, baselines, debug)
    with failures(debug) as failed:
        _show(results, shown)
        _write(results, targets)
    sys.exit(next((r.exit_code for r in results if not r.passed), 0) or _internal(failed[0]))


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

    told = policy.default() if file is None else policy.load(file)
    by_name = {n: {**getattr(told.run, n), **settings[n]} for n in _BY_NAME}
    changes = {n: v for n, v in settings.items() if v is not None}
    return replace(told, run=replace(told.run, **(changes | by_name)))


def _targets(outputs: Sequence[str]) -> list[tuple[str, Path]]:
    targets = []
    for output in outputs:
        name, _, file = output.partition("=")
        if name not in _FORMATS[1:] or not file:
            raise SettingsError(
                f"--output {output} is not FORMAT=FILE", hint=f"FORMAT is one of {', '.join(_FORMATS[1:])}"
            )
        if not Path(file).absolute().parent.is_dir():
            raise SettingsError(f"--output {output}: its folder does not exist", hint="Create it first")
        targets.append((name, Path(file)))
    return targets


def _baseline_file(place: Path | None, model: Path, models: int) -> Path | None:
    if place is None:
        return None
    if place.is_dir():
        file = place / f"{model.stem}.intrain.json"
        if not file.is_file():
            raise SettingsError(f"--baseline {place} has no {file.name}", hint="Write it with `score -o`")
        return file
    if models > 1:
        raise SettingsError(f"--baseline is one report for {models} models", hint="Name a folder of reports")
    return place


def _check_outputs(
    targets: Sequence[tuple[str, Path]],
    models: Sequence[Path],
    policy: Path | None,
    baselines: Sequence[Path | None],
) -> None:
    read = [("the baseline", file) for file in baselines if file is not None]
    if policy is not None:
        read.append(("the policy", policy))
    check_outputs([(f"-o {name}={file}", file) for name, file in targets], read, models)


def _run(
    models: Sequence[Path], policy: Policy, baselines: Sequence[Report | None], debug: bool
) -> list[Result]:
    from intrain_onnx.commands import terminal

    results = []
    with terminal.progress(sys.stderr) as begin:
        for model, baseline in zip(models, baselines, strict=True):
            results.append(_audit_one(model, policy, baseline, begin(model.name), debug))
            if results[-1].error is not None:
                click.echo(f"error: {results[-1].error}", err=True)
    return results


def _audit_one(
    model: Path, policy: Policy, baseline: Report | None, progress: Callable[[str, float], None], debug: bool
) -> Result:
    """Audit one model; any exception becomes a result, so that every output covers every model."""
    from intrain_onnx.audit.run import audit as audit_file
    from intrain_onnx.audit.run import broken

    started = time.perf_counter()
    try:
        result = audit_file(model, policy, baseline, progress=progress)
    except Exception as error:
        if debug:
            traceback.print_exc()
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        hint = "Run with --debug and report it"
        result = broken(model, policy, IntrainError(f"internal error: {detail}", path=str(model), hint=hint))
    return replace(result, seconds=time.perf_counter() - started)


def _show(results: Sequence[Result], shown: str) -> None:
    from intrain_onnx.audit.formats import FORMATS, terminal

    if shown == "terminal":
        terminal.draw(results, sys.stdout)
    else:
        click.echo(FORMATS[shown](results), nl=False)


def _write(results: Sequence[Result], targets: Sequence[tuple[str, Path]]) -> None:
    from intrain_onnx.audit.formats import FORMATS

    for name, file in targets:
        try:
            write_atomically(file, FORMATS[name](results))
        except OSError as error:
            raise SettingsError(f"cannot write {file}: {error.strerror or error}") from error


def _internal(code: int) -> int:
    """Exit code of an internal error: `INTERNAL` instead of 1, which means a violated policy here."""
    from intrain_onnx.audit.run import INTERNAL

    return INTERNAL if code == 1 else code
