"""``intrain-onnx series``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx.commands.shared import (
    device,
    failures,
    given,
    make_folder,
    numbers_by_name,
    of_worker,
    print_document,
    quiet_threads,
    shared,
    threads,
)
from intrain_onnx.engine.signals import ended_by_signals, exit_code_of
from intrain_onnx.errors import SettingsError
from intrain_onnx.loading.limits import Limits

if TYPE_CHECKING:
    from intrain_onnx.checkpoints.rows import Document, Step
    from intrain_onnx.checkpoints.run import Run
    from intrain_onnx.checkpoints.tensorboard import Board
    from intrain_onnx.config import ScoreConfig

_JSON, _PAGE = "series.json", "series.html"
_ALARM = 8
EXIT_CODES = """
\b
Exit codes:
  0    done; with --fail-on-alarm: without an alarm
  2    wrong usage or setting, or a log that cannot be gone on with
  3-6  a checkpoint has no score: the code of the first, as `score` has it
  7    a checkpoint holds another architecture, and all others have a score
  8    an alarm, with --fail-on-alarm
  130, 143  ended by SIGINT or SIGTERM: what is done is kept
"""


def _parse_thresholds(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, float]:
    if not values:
        return {}
    from intrain_onnx.checkpoints.alarms import thresholds

    return numbers_by_name(values, thresholds)


@click.command(epilog=EXIT_CODES)
@click.argument("checkpoints", nargs=-1, metavar="CHECKPOINT...")
@click.option(
    "--watch",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Follow a folder: measure each *.onnx in it once it is written, until interrupted.",
)
@click.option(
    "--idle",
    type=click.FloatRange(0),
    metavar="SECONDS",
    help="With --watch: end when no file came or changed for so long.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A folder for series.jsonl, series.json and series.html; what its log has is not measured again.",
)
@click.option("--json", "as_json", is_flag=True, help="Print all as JSON.")
@click.option(
    "--tensorboard",
    "board",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write scalars and alarms for TensorBoard.",
)
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="NAME=NUMBER",
    callback=_parse_thresholds,
    help="Of an alarm, instead of the usual one: collapse, score, death, jump, gradient, or window for the "
    "checkpoints that a past has; may be given several times.",
)
@click.option("--fail-on-alarm", is_flag=True, help="End with 8 if there is an alarm.")
@click.option("--retry-failed", is_flag=True, help="With -o: measure again what failed before.")
@click.option("--batch", type=click.IntRange(1), help="Samples in a run.  [default: 64]")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of inputs and labels.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs of a checkpoint.")
@device
@threads
@given
@shared
def series(
    checkpoints: tuple[str, ...],
    watch: Path | None,
    idle: float | None,
    output: Path | None,
    as_json: bool,
    board: Path | None,
    thresholds: dict[str, float],
    fail_on_alarm: bool,
    retry_failed: bool,
    batch: int | None,
    debug: bool,
    limits: Limits,
    values: dict[str, str],
    samples: dict[str, str],
    **settings: Any,
) -> None:
    """Tell what changes during a training, from its checkpoints, and where something goes wrong.

    CHECKPOINT is an ONNX file of one network at one step: the last number in its name is the step, or else
    its place is. Score, participation ratio and health of each layer, dead and cloned channels, distances of
    the weights and the gradient norm are held against those of the checkpoints before.
    """
    quiet_threads()
    settings["inputs"] = samples | values
    if batch is not None:
        settings["batch"] = batch
    following: list[_Following] = []
    ended = 0
    with failures(debug) as failed:
        try:
            with ended_by_signals():
                one = _Following(settings, thresholds, output, board, live=watch is not None and not as_json)
                following.append(one)
                one.run(checkpoints, watch, idle, limits, retry_failed=retry_failed, debug=debug)
        except KeyboardInterrupt as error:
            ended = exit_code_of(error)
    code, found = failed[0], None
    if following and following[0].steps():
        with failures(debug) as failed:
            found = following[0].finish()
            _show(found, as_json=as_json, live=following[0].live, output=output)
        code = code or failed[0]
    sys.exit(ended or code or (_code(found, fail_on_alarm) if found is not None else 0))


class _Following:
    """One run of the command, and what is written of it as it goes on."""

    def __init__(
        self,
        settings: dict[str, Any],
        thresholds: dict[str, float],
        output: Path | None,
        board: Path | None,
        *,
        live: bool,
    ) -> None:
        from intrain_onnx.checkpoints import alarms
        from intrain_onnx.checkpoints.run import settings as config_of

        self.config: ScoreConfig = config_of(**settings)
        self.thresholds = alarms.thresholds(thresholds)
        self.output, self.live = output, live
        self.board: Board | None = None
        self._measuring: Run | None = None
        if board is not None:
            from intrain_onnx.checkpoints.tensorboard import Board

            self.board = Board(board)

    def run(
        self,
        checkpoints: Sequence[str],
        watch: Path | None,
        idle: float | None,
        limits: Limits,
        *,
        retry_failed: bool,
        debug: bool,
    ) -> None:
        """Measure all checkpoints."""
        from intrain_onnx.checkpoints.arrivals import Arrivals
        from intrain_onnx.checkpoints.job import MeasureCheckpoint
        from intrain_onnx.checkpoints.run import Run, require_checkpoints
        from intrain_onnx.commands.terminal.progress import progress
        from intrain_onnx.engine.processes import Processes

        require_checkpoints(checkpoints, watch, self.output)
        _require_watch(watch, idle)
        if self.output is not None:
            make_folder(self.output)
        engine = Processes(limits=of_worker(limits), preload=("intrain_onnx.pipeline",), silent=not debug)
        with progress(sys.stderr) as begin:
            self._measuring = Run(
                MeasureCheckpoint(self.config, limits),
                engine,
                self.output,
                keep=self._keep,
                begins=lambda path: begin(Path(path).name),
                retry_failed=retry_failed,
            )
            watched = Arrivals(watch, idle) if watch is not None else None
            self._measuring.measure(checkpoints, watched)

    def steps(self) -> list[Step]:
        """What is measured so far."""
        return list(self._measuring.rows.values()) if self._measuring is not None else []

    def document(self) -> Document:
        """The same with its alarms."""
        from intrain_onnx.checkpoints import results

        return results.document(self.steps(), self.config, self.thresholds)

    def _keep(self, row: Step, new: bool) -> None:
        if self.board is not None:
            self.board.write(row, new=new)
        if not self.live or not new:
            return
        from intrain_onnx.commands.terminal.series import line

        found = self.document()
        line(row, [a for a in found.alarms if a.path == row.path], sys.stdout)
        self._write(found)

    def finish(self) -> Document:
        """The document, after everything is written."""
        found = self.document()
        if self.board is not None:
            self.board.close(found.alarms)
        self._write(found)
        return found

    def _write(self, found: Document) -> None:
        if self.output is None:
            return
        from intrain_onnx.checkpoints import results
        from intrain_onnx.checkpoints.page import page
        from intrain_onnx.report.document import write_atomically

        try:
            write_atomically(self.output / _JSON, results.json_text(found))
            write_atomically(self.output / _PAGE, page(found))
        except OSError as error:
            raise SettingsError(f"cannot write to {self.output}: {error.strerror or error}") from error


def _require_watch(watch: Path | None, idle: float | None) -> None:
    if idle is not None and watch is None:
        raise SettingsError("--idle is for a folder that is followed", hint="Add --watch DIR")


def _show(found: Document, *, as_json: bool, live: bool, output: Path | None) -> None:
    if as_json:
        from intrain_onnx.checkpoints.results import json_text

        print_document(json_text(found))
    else:
        from intrain_onnx.commands.terminal.series import draw, summary

        (summary if live else draw)(found, sys.stdout)
    if output is not None:
        click.echo(f"series.jsonl, {_JSON}, {_PAGE} are in {output}", err=True)


def _code(found: Document, fail_on_alarm: bool) -> int:
    if fail_on_alarm and found.alarms:
        return _ALARM
    codes = [row.error.exit_code for row in found.steps if row.error is not None]
    return next((code for code in codes if code != 7), 7 if codes else 0)
