"""``intrain-onnx diff``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx.commands.shared import (
    EXIT_CODES,
    device,
    documents,
    failures,
    file_targets,
    given,
    measured,
    numbers_by_name,
    print_document,
    quiet_threads,
    shared,
    show_failure,
    threads,
)
from intrain_onnx.engine.outcomes import Lost
from intrain_onnx.engine.signals import ended_by_signals, exit_code_of
from intrain_onnx.errors import SettingsError
from intrain_onnx.jobs import failure_of
from intrain_onnx.loading.limits import Limits
from intrain_onnx.report.document import write_atomically
from intrain_onnx.report.output_files import check_outputs

if TYPE_CHECKING:
    from intrain_onnx.diff.rows import Document

_BEYOND = 7
_FORMATS = ("terminal", "json", "html")


def _parse_thresholds(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, float]:
    if not values:
        return {}
    from intrain_onnx.diff.thresholds import require_known

    return numbers_by_name(values, require_known)


@click.command(epilog=EXIT_CODES)
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--expect",
    "expected",
    type=click.Choice(["conversion", "checkpoint"]),
    default="conversion",
    show_default=True,
    help="What B is: of the same weights, or of a later step of training.",
)
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="NAME=NUMBER",
    callback=_parse_thresholds,
    help="Instead of the usual one for the precision of B: output_snr=40; may be given several times.",
)
@documents(_FORMATS)
@click.option("--all", "show_all", is_flag=True, help="List every layer, not only those that differ most.")
@click.option("--no-score", is_flag=True, help="Leave out the scores, which take a backward pass.")
@click.option("--batch", type=click.IntRange(1), help="Samples in all.  [default: 16]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the inputs.")
@device
@threads
@given
@shared
def diff(
    first: Path,
    second: Path,
    expected: Any,
    thresholds: dict[str, float],
    shown: str,
    outputs: tuple[str, ...],
    show_all: bool,
    no_score: bool,
    batch: int | None,
    debug: bool,
    limits: Limits,
    values: dict[str, str],
    samples: dict[str, str],
    **settings: Any,
) -> None:
    """Tell whether B is the same network as A, and where not: weights, activations and outputs.

    A is the reference, and B a conversion of it or a later checkpoint. Exit code 0 where B is within the
    thresholds, 7 where it is beyond.
    """
    from intrain_onnx.diff.job import DiffFiles

    if batch is not None:
        settings["batch"] = batch
    settings["inputs"] = samples | values
    with failures(debug) as failed:
        targets = file_targets(outputs, _FORMATS[1:])
        _check_outputs(targets, (first, second), settings["inputs"])
    if failed[0]:
        sys.exit(failed[0])
    quiet_threads()
    job = DiffFiles(expected, thresholds, not no_score, settings, limits)
    try:
        with ended_by_signals():
            found = _compared(job, first, second, debug)
    except KeyboardInterrupt as error:
        sys.exit(exit_code_of(error))
    with failures(debug) as failed:
        _write(found, targets)
        _show(found, shown, show_all=show_all)
    sys.exit(failed[0] or (0 if found.passed else _BEYOND))


def _compared(job: Any, first: Path, second: Path, debug: bool) -> Document:
    outcomes = measured(job, [second], [(first, second)], limits=job.limits, parity=False, debug=debug)
    with closing(outcomes):
        found = next(outcomes).result
    if isinstance(found, Lost):
        found = failure_of(found, second)
    from intrain_onnx.diff.rows import Document

    if not isinstance(found, Document):
        sys.exit(show_failure(found, debug))
    return found


def _check_outputs(targets: Sequence[tuple[str, Path]], models: Sequence[Path], inputs: Any) -> None:
    from intrain_onnx.loading import given_inputs

    read = [("the given input", file) for file in given_inputs.files(inputs)]
    check_outputs([(f"-o {name}={file}", file) for name, file in targets], read, models)


def _text(found: Document, form: str) -> str:
    if form == "json":
        from intrain_onnx.diff.formats import json_text

        return json_text(found)
    from intrain_onnx.diff.page import page

    return page(found)


def _write(found: Document, targets: Sequence[tuple[str, Path]]) -> None:
    for name, file in targets:
        try:
            write_atomically(file, _text(found, name))
        except OSError as error:
            raise SettingsError(
                f"cannot write {file}: {error.strerror or error}", hint="Name another place with -o"
            ) from error


def _show(found: Document, shown: str, *, show_all: bool) -> None:
    if shown == "terminal":
        from intrain_onnx.commands.terminal.diff import draw

        draw(found, sys.stdout, show_all=show_all)
    else:
        print_document(_text(found, shown))
