"""``intrain-onnx rank``."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx.commands.engines import engine_of, engines
from intrain_onnx.commands.shared import (
    as_file,
    device,
    failures,
    limited,
    make_folder,
    projections,
    quiet_threads,
    show_failure,
    tell_missing_parity,
)
from intrain_onnx.config import PROTOCOLS, ScoreConfig
from intrain_onnx.engine.signals import ended_by_signals, exit_code_of
from intrain_onnx.errors import SettingsError
from intrain_onnx.failure import Failure
from intrain_onnx.proxy_table import names
from intrain_onnx.vocabulary import LEADING

if TYPE_CHECKING:
    from intrain_onnx.rank.job import RankOne
    from intrain_onnx.rank.rows import Row
    from intrain_onnx.rank.sources import Candidate

_TABLE, _PARQUET, _PAGE = "ranking.csv", "ranking.parquet", "ranking.html"
_TAUS = "correlations.csv"
EXIT_CODES = """
\b
Exit codes:
  0    done: some models, or all, have a score; the others have a row that says why not
  2    wrong usage or setting, or results that cannot be gone on with
  6    the results cannot be written
  1-6  no model has a score: that of the first failure, as `score` has it
  130, 143  ended by SIGINT or SIGTERM: what is done is kept, and --resume goes on
"""


@click.command(epilog=EXIT_CODES)
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...", shell_complete=as_file)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="RESULTS", help="A folder."
)
@engines
@click.option("--resume", is_flag=True, help="Go on with what is in the folder.")
@click.option("--retry-failed", is_flag=True, help="With --resume: score again what failed before.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="Models to print.")
@click.option(
    "--by", default=LEADING, show_default=True, metavar="NAME", help="A named score, a baseline or a proxy."
)
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="architecture",
    show_default=True,
    help="As in score.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the first run.")
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs of a model.")
@click.option("--batch", type=click.IntRange(1), help="Samples in a run.  [default: 16; paper: 64]")
@click.option("--proxies", default="", metavar="all|NAME,NAME", help="Measure peers' proxies too.")
@click.option("--parity", is_flag=True, help="Compare each model with onnxruntime.")
@device
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of each worker.")
@projections
@click.option("--reports", is_flag=True, help="Keep the JSON report of each model.")
@click.option(
    "--cache-bytes", type=click.IntRange(1), default=20 * 2**30, show_default=True, help="For remote models."
)
@partial(limited, many=True)
@click.option("--debug", is_flag=True, help="Show what workers write on their standard error.")
def rank(sources: tuple[str, ...], output: Path, *, debug: bool, **options: Any) -> None:
    """Score thousands of models in processes that can die alone, and rank them.

    SOURCE is a folder, a file, a glob, a manifest (.csv or .jsonl with a column `model`), or an address such
    as s3://bucket/folder/. RESULTS gets results.jsonl, a line a model as it is scored, then ranking.csv,
    correlations.csv, ranking.html, and ranking.parquet if pyarrow is installed.
    """
    quiet_threads()
    rows: dict[str, Row] = {}
    ended = 0
    with failures(debug) as failed:
        try:
            with ended_by_signals():
                _run(sources, output, options, rows, debug)
        except KeyboardInterrupt as error:
            ended = exit_code_of(error)
    code = failed[0]
    if rows:
        with failures(debug) as failed:
            _show(list(rows.values()), output, options["by"], options["top"])
        code = code or failed[0]
    scored = any(row.status == "scored" for row in rows.values())
    first = next((row.error.exit_code for row in rows.values() if row.error is not None), 0)
    sys.exit(ended or code or (0 if scored else first))


def _run(
    sources: Sequence[str], folder: Path, options: Mapping[str, Any], rows: dict[str, Row], debug: bool
) -> None:
    from intrain_onnx.commands.terminal.progress import rate
    from intrain_onnx.rank import run
    from intrain_onnx.rank.sources import candidates

    job = _job(folder, options)
    listed = candidates(sources)
    make_folder(folder)
    if job.reports is not None:
        make_folder(job.reports)
    _require_apart(listed, folder)
    tell_missing_parity(parity=options["parity"])
    engine = engine_of(options, debug=debug)

    def keep(row: Row) -> None:
        rows[row.model] = row

    # Ray tells of lost machines on standard output, where the ranking goes.
    with rate(sys.stderr, "models") as progress, redirect_stdout(sys.stderr):
        run.run(
            job,
            listed,
            folder,
            engine,
            resume=options["resume"],
            retry_failed=options["retry_failed"],
            progress=progress,
            keep=keep,
        )


def _job(folder: Path, options: Mapping[str, Any]) -> RankOne:
    from intrain_onnx.rank.job import RankOne

    batch = {} if options["batch"] is None else {"batch": options["batch"]}
    config = ScoreConfig.for_protocol(
        options["protocol"],
        proxies=names(options["proxies"]) if options["proxies"] else (),
        **{name: options[name] for name in ("seed", "seeds", "parity", "device", "threads", "projections")},
        **batch,
    )
    reports = folder / "reports" if options["reports"] else None
    return RankOne(config, options["limits"], reports, folder / "cache", options["cache_bytes"])


def _require_apart(candidates: Sequence[Candidate], folder: Path) -> None:
    """Refuse a folder whose files a ranking would write over a model."""
    made = {os.path.realpath(folder / name) for name in ("results.jsonl", _TABLE, _TAUS, _PARQUET, _PAGE)}
    for candidate in candidates:
        if not candidate.remote and os.path.realpath(candidate.model) in made:
            raise SettingsError(f"-o {folder} would overwrite {candidate.model}", hint="Name another folder")


def _show(rows: Sequence[Row], folder: Path, by: str, top: int) -> None:
    """Write the tables and the page, and print the best."""
    from intrain_onnx.commands.terminal.ranks import ranks
    from intrain_onnx.rank import tables
    from intrain_onnx.report.document import write_atomically
    from intrain_onnx.report.page.ranks import page

    try:
        ordered = tables.ranked(rows, by)
    except SettingsError as error:
        show_failure(Failure.of(error), debug=False)
        by, ordered = LEADING, tables.ranked(rows, LEADING)
    try:
        overlapping = tables.overlapping(ordered)
        tables.write_csv(folder / _TABLE, ordered, by)
        tables.write_overlap(folder / _TAUS, overlapping)
        parquet = tables.write_parquet(folder / _PARQUET, ordered, by)
        write_atomically(folder / _PAGE, page(tables.for_page(ordered, by, overlapping)))
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror or error}") from error
    ranks(ordered, by, top, sys.stdout, overlapping)
    made = [_TABLE, _TAUS, _PAGE, *([_PARQUET] if parquet else [])]
    click.echo(f"results.jsonl, {', '.join(made)} are in {folder}", err=True)
