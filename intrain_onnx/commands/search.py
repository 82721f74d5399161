"""``intrain-onnx search``."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx.bench.find_space import Found, find
from intrain_onnx.commands.engines import engine_of, engines
from intrain_onnx.commands.shared import (
    as_space,
    device,
    failures,
    limited,
    make_folder,
    projections,
    quiet_threads,
)
from intrain_onnx.config import PROTOCOLS, ScoreConfig
from intrain_onnx.engine.signals import ended_by_signals, exit_code_of
from intrain_onnx.errors import SettingsError, printable

if TYPE_CHECKING:
    from intrain_onnx.search.page import Summary
    from intrain_onnx.search.rows import Evaluation
    from intrain_onnx.search.run import Ended, Plan

_RESULTS, _PAGE = "results.jsonl", "search.html"
_MOST = 1_000_000
EXIT_CODES = """
\b
Exit codes:
  0    done: some architectures, or all, have a score
  2    wrong usage or setting, a budget that nothing keeps, or results that cannot be gone on with
  6    the results cannot be written
  1-6  no architecture has a score: that of the first failure, as `score` has it
  130, 143  ended by SIGINT or SIGTERM: what is done is kept, and --resume goes on
"""


@click.command(epilog=EXIT_CODES)
@click.argument("space", metavar="SPACE|FILE.py[:NAME]", shell_complete=as_space)
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), required=True, metavar="RESULTS", help="A folder."
)
@click.option(
    "--score",
    "scores",
    multiple=True,
    metavar="NAME",
    help="What is wanted: a named score, a baseline or a proxy. Several give a front.  [default: volume]",
)
@click.option(
    "--minimise", multiple=True, metavar="NAME", help="Another objective: as little of it as possible."
)
@click.option(
    "--budget",
    "budgets",
    multiple=True,
    metavar="macs=450M|params=5M",
    help="Most that an architecture may take, counted without running it; may be given twice.",
)
@click.option(
    "--budget-size",
    type=click.IntRange(1),
    help="Side of the images that operations are counted at, and of the files.  [default: the space's]",
)
@click.option(
    "--population", type=click.IntRange(2, 100_000), default=20, show_default=True, help="That survives."
)
@click.option(
    "--evaluations", type=click.IntRange(1, _MOST), default=300, show_default=True, help="That are scored."
)
@click.option(
    "--seed", type=click.IntRange(0, 2**53), default=0, show_default=True, help="Of search and scores."
)
@engines
@click.option("--resume", is_flag=True, help="Go on with what is in the folder, the same way.")
@click.option("--top", type=click.IntRange(1, 1000), default=5, show_default=True, help="Files to write.")
@click.option(
    "--protocol",
    type=click.Choice(list(PROTOCOLS)),
    default="architecture",
    show_default=True,
    help="As in score.",
)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs of a score.")
@click.option("--batch", type=click.IntRange(1), help="Samples in a run.  [default: the space's]")
@click.option(
    "--size", type=click.IntRange(1), help="Side of scored images, or words.  [default: the space's]"
)
@device
@click.option("--threads", type=click.IntRange(1), default=1, show_default=True, help="Of each worker.")
@projections
@partial(limited, many=True)
@click.option("--debug", is_flag=True, help="Show what workers write on their standard error.")
def search(space: str, output: Path, *, debug: bool, **options: Any) -> None:
    """Search a space of architectures without training, and write the best as ONNX files.

    SPACE is one that `bench` knows and that has a genome, or a Python file with one. RESULTS gets
    results.jsonl, a line an architecture as it is scored, then search.html and the folder best with the ONNX
    files, their BatchNorm kept, and their reports.
    """
    quiet_threads()
    code = 0
    try:
        with ended_by_signals(), failures(debug) as failed:
            from intrain_onnx.search.run import Ended

            ended, plan = Ended(), _plan(find(space), options)
            _run(plan, output, ended, options, debug)
            code = _finish(plan, output, ended, options, debug)
    except KeyboardInterrupt as error:
        click.echo("ended; what is scored is kept: go on with --resume", err=True)
        sys.exit(exit_code_of(error))
    sys.exit(failed[0] or code)


def _plan(found: Found, options: Mapping[str, Any]) -> Plan:
    from intrain_onnx.search.goals import budgets_of, goals
    from intrain_onnx.search.run import Plan

    space = found.space
    wanted = goals(options["scores"], options["minimise"], budgets_of(options["budgets"]))
    size = options["size"] or space.size
    config = ScoreConfig.for_protocol(
        options["protocol"],
        batch=options["batch"] or space.batch,
        size=size,
        proxies=wanted.proxies,
        parity=False,
        **{name: options[name] for name in ("seed", "seeds", "device", "threads", "projections")},
    )
    return Plan(
        found,
        wanted,
        config,
        size,
        options["budget_size"] or space.counted_at or size,
        options["population"],
        options["seed"],
        options["limits"],
    )


def _run(plan: Plan, folder: Path, ended: Ended, options: Mapping[str, Any], debug: bool) -> None:
    from intrain_onnx.commands.terminal.progress import rate
    from intrain_onnx.search import run

    make_folder(folder)
    engine = engine_of(options, debug=debug)
    # Ray tells of lost machines on standard output, where the result goes.
    with rate(sys.stderr, "architectures") as progress, redirect_stdout(sys.stderr):
        run.run(
            plan,
            options["evaluations"],
            folder,
            engine,
            ended,
            resume=options["resume"],
            progress=progress,
        )


def _finish(plan: Plan, folder: Path, ended: Ended, options: Mapping[str, Any], debug: bool) -> int:
    """Write files and page, and print what was chosen; returns the exit code."""
    from intrain_onnx.commands.terminal.search import search as show
    from intrain_onnx.report.document import write_atomically
    from intrain_onnx.search import run
    from intrain_onnx.search.chosen import chosen
    from intrain_onnx.search.page import page

    evaluations = ended.ordered()
    picked = chosen(evaluations, plan.goals.objectives, options["top"])
    try:
        with redirect_stdout(sys.stderr):
            made = run.hand_over(plan, picked, folder, engine_of(options, debug=debug))
        found = _summary(plan, ended, evaluations, picked, made)
        write_atomically(folder / _PAGE, page(found))
    except OSError as error:
        raise SettingsError(f"cannot write to {folder}: {error.strerror or error}") from error
    show(found, sys.stdout)
    click.echo(f"{_RESULTS}, {_PAGE} and {run.BEST} are in {folder}", err=True)
    errors = (e.row.error.exit_code for e in evaluations if e.row.error is not None)
    return 0 if picked else next(errors, 1)


def _summary(
    plan: Plan, ended: Ended, evaluations: Sequence[Evaluation], picked: Sequence[Evaluation], made: Any
) -> Summary:
    from intrain_onnx.search.page import Summary

    config = plan.config
    settings = [
        ("space", plan.found.label),
        ("objectives", ", ".join(map(str, plan.goals.objectives))),
        ("budgets", ", ".join(f"{n} {most:,}" for n, most in plan.goals.budgets.items()) or "none"),
        ("scored", f"{config.batch} samples of size {plan.size}, {config.protocol}, {config.seeds} run(s)"),
        ("counted", f"at size {plan.counted_at}"),
        ("population", str(plan.population)),
        ("seed", str(plan.seed)),
    ]
    title = printable(plan.space.title or plan.space.name)
    return Summary(title, plan.goals, settings, evaluations, picked, made, ended.exhausted)
