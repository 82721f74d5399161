"""The command line: parse, call, print. Torch is imported inside ``score`` alone."""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx import memory
from intrain_onnx.config import PROTOCOLS, ScoreConfig
from intrain_onnx.errors import IntrainError, SettingsError, printable

if TYPE_CHECKING:
    from intrain_onnx.graph import LayerMap
    from intrain_onnx.report import Report

_DIFFERENT = 7

_EXIT_CODES = """
\b
Exit codes:
  0  done                          4  unsupported model or operator
  1  an error inside intrain-onnx  5  not finite: says where it began
  2  wrong usage or setting        6  a limit was exceeded
  3  not a valid or safe model     7  compare: not the same architecture
With several models it is the code of the first that failed.
"""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="intrain-onnx")
def main() -> None:
    """Score how trainable a neural network is from its ONNX file alone, without training it."""


def _parse_shapes(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, tuple[int, ...]]:
    """NAME:1x3x64x64, the name itself possibly with colons."""
    shapes = {}
    for value in values:
        name, _, dims = value.rpartition(":")
        try:
            shapes[name] = tuple(int(d) for d in dims.lower().split("x"))
        except ValueError:
            name = ""
        if not name:
            raise click.BadParameter(f"{value!r} is not NAME:1x3x64x64")
    return shapes


def _shared(command: Callable[..., None]) -> Callable[..., None]:
    """Options of every command that reads a model."""
    shape = click.option(
        "--input-shape",
        "input_shapes",
        multiple=True,
        metavar="NAME:1x3x64x64",
        callback=_parse_shapes,
        help="Sizes of an input that the graph leaves open; the first gives way to --batch.",
    )
    debug = click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    return shape(debug(command))


@main.command(epilog=_EXIT_CODES)
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
@click.option("--no-parity", is_flag=True, help="Do not compare with onnxruntime.")
@_shared
def score(
    models: tuple[Path, ...],
    output: str | None,
    protocol: str,
    batch: int | None,
    no_parity: bool,
    debug: bool,
    **settings: Any,
) -> None:
    """Score models, print a summary and write a JSON report for each.

    Several models end in a table in rank order. One bad model does not stop the others.
    """
    from intrain_onnx import render

    if batch is not None:
        settings["batch"] = batch
    try:
        config = ScoreConfig.for_protocol(protocol, parity=not no_parity, **settings)
        targets = _targets(models, output)
    except SettingsError as error:
        raise click.UsageError(str(error)) from None
    _quiet_threads()
    memory.cap_process()
    reports: list[Report] = []
    code = 0
    with render.progress(sys.stderr) as begin:
        for model, target in zip(models, targets, strict=True):
            with _failures(debug, model) as failed:
                report = _score_one(model, config, begin(model.name))
                if target is None:
                    click.echo(
                        report.to_json() if len(models) == 1 else json.dumps(report.data), nl=len(models) > 1
                    )
                else:
                    _save(report, target)
                reports.append(report)
            code = code or failed[0]
    out = sys.stderr if output == "-" else sys.stdout
    if len(models) == 1 and reports:
        render.summary(reports[0], out, saved=targets[0])
    elif reports:
        render.ranking(reports, out)
    sys.exit(code)


def _score_one(model: Path, config: ScoreConfig, progress: Callable[[str, float], None]) -> Report:
    from intrain_onnx.pipeline import score as score_file

    return score_file(model, config, progress=progress)


def _save(report: Report, target: Path) -> None:
    try:
        report.save(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise SettingsError(f"cannot write {target}: {reason}", hint="Name another place with -o") from error


def _quiet_threads() -> None:
    """Let idle OpenMP threads sleep, from when torch is loaded.

    Where another process has a core, spinning ones make small networks ten times slower.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("KMP_BLOCKTIME", "0")
    os.environ.setdefault("GOMP_SPINCOUNT", "0")


def _targets(models: tuple[Path, ...], output: str | None) -> list[Path | None]:
    """Where each report goes; None is standard output."""
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
    used: dict[str, int] = {}
    targets: list[Path | None] = []
    for model in models:
        stem = model.stem
        used[stem] = used.get(stem, 0) + 1
        suffix = f"-{used[stem]}" if used[stem] > 1 else ""
        targets.append(folder / f"{stem}{suffix}.intrain.json")
    return targets


@contextmanager
def _failures(debug: bool, model: Path | None = None) -> Iterator[list[int]]:
    """Turn an error into one line and an exit code, which is left in the list."""
    code = [0]
    try:
        yield code
    except IntrainError as error:
        _report_error(str(error.at(path=str(model)) if model else error), debug)
        code[0] = error.exit_code
    except BrokenPipeError:  # nobody reads on: for click to end in silence
        raise
    except OSError as error:
        _report_error(f"{model}: {error.strerror or error}", debug)
        code[0] = 3
    except Exception as error:
        detail = f"{type(error).__name__}: {error}".splitlines()[0]
        _report_error(f"{model}: internal error: {detail}. Run with --debug and report it", debug)
        code[0] = 1


def _report_error(message: str, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    click.echo(f"error: {printable(message, 2000)}", err=True)


@main.command(epilog=_EXIT_CODES)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--all", "show_all", is_flag=True, help="List every layer, however many there are.")
@_shared
def inspect(
    model: Path, as_json: bool, show_all: bool, debug: bool, input_shapes: dict[str, tuple[int, ...]]
) -> None:
    """Show what the graph alone tells: inputs, layers in depth order, unsupported operators, warnings."""
    from intrain_onnx import render
    from intrain_onnx.inspection import inspect as inspect_file

    with _failures(debug, model) as failed:
        found = inspect_file(model, ScoreConfig.for_protocol(input_shapes=input_shapes))
        if as_json:
            click.echo(json.dumps(found.data, indent=2, allow_nan=False, ensure_ascii=False))
        else:
            render.inspection(found, sys.stdout, show_all=show_all)
    sys.exit(failed[0])


@main.command(epilog=_EXIT_CODES)
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option("--reports", is_flag=True, help="A and B are JSON reports: compare their scores too.")
@click.option("--all", "show_all", is_flag=True, help="List every layer, not only those around a difference.")
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def compare(first: Path, second: Path, reports: bool, show_all: bool, debug: bool) -> None:
    """Tell whether two models are the same architecture, whoever exported them; show the first difference.

    Exit code 0 where they are, 7 where they are not.
    """
    from intrain_onnx import comparison, render
    from intrain_onnx.report import Report

    networks: list[comparison.Network] = []
    for path in (first, second):
        with _failures(debug, path) as failed:
            networks.append(
                comparison.network_of_report(Report.load(path))
                if reports
                else comparison.network_of(_canonical_layers(path))
            )
        if failed[0]:
            sys.exit(failed[0])
    found = comparison.compare(*networks)
    render.comparison(found, (first, second), sys.stdout, show_all=show_all)
    sys.exit(0 if found.same else _DIFFERENT)


def _canonical_layers(path: Path) -> LayerMap:
    from intrain_onnx.pipeline import canonical_layers

    return canonical_layers(path)


@main.command()
@click.option("--missing", is_flag=True, help="List only what lacks a handler, with the reason.")
@click.option("--markdown", is_flag=True, help="Print docs/operators.md instead.")
def ops(missing: bool, markdown: bool) -> None:
    """Show which versions of which operators have a handler, and why the others have none."""
    from intrain_onnx import render, support

    if markdown and missing:
        raise click.UsageError("--missing and --markdown exclude each other")
    if markdown:
        click.echo(support.markdown(), nl=False)
        return
    render.operators(support.rows(), sys.stdout, missing=missing)
