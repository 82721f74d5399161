"""``intrain-onnx bench``."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx.bench.find_space import Found, find
from intrain_onnx.bench.model_files import COLUMN
from intrain_onnx.bench.model_files import SPACE as MODELS
from intrain_onnx.bench.spaces import SPACES, Space
from intrain_onnx.commands.shared import (
    EXIT_CODES,
    as_file,
    as_space,
    failures,
    limited,
    make_folder,
    of_worker,
    projections,
    quiet_threads,
)
from intrain_onnx.config import PROTOCOLS
from intrain_onnx.engine.signals import ended_by_signals, exit_code_of
from intrain_onnx.errors import SettingsError, printable
from intrain_onnx.proxy_table import names
from intrain_onnx.report.output_files import check_outputs

if TYPE_CHECKING:
    from intrain_onnx.bench.records import Record
    from intrain_onnx.bench.run import Plan
    from intrain_onnx.bench.table import Entry, Row

_RESULTS, _SUMMARY, _TABLE, _SCATTER = _FILES = "results.jsonl", "summary.json", "table.md", "scatter.svg"
_HELP = f"""Score the architectures of a search space and correlate with their accuracies.

SPACE is {", ".join(SPACES)}, one that another package declares, or FILE.py[:NAME], a Python file
with a space. In place of SPACE, --models takes ONNX files of your own, which rows of the table name.

Writes {_RESULTS}, a line an architecture as it is measured, and from it {_SUMMARY}, {_TABLE} and {_SCATTER}.
"""

_LONGEST = 600


def _parse_names(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Parse OURS=THEIRS."""
    pairs = [value.partition("=") for value in values]
    for ours, found, theirs in pairs:
        if not (ours and found and theirs):
            raise click.BadParameter(f"{ours + found + theirs!r} is not OURS=THEIRS")
    return {ours: theirs for ours, _, theirs in pairs}


@click.command(help=_HELP, epilog=EXIT_CODES)
@click.argument("space", required=False, metavar="[SPACE|FILE.py[:NAME]]", shell_complete=as_space)
@click.option(
    "--models",
    multiple=True,
    metavar="GLOB|FOLDER|FILE",
    shell_complete=as_file,
    help="In place of SPACE: ONNX files. Rows name them by path, or by file name with or without .onnx.",
)
@click.option(
    "--accuracies",
    "table",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="CSV",
    help="Table of architectures and accuracies, possibly .gz.",
)
@click.option(
    "--model-column", default=COLUMN, show_default=True, metavar="NAME", help="With --models: names a model."
)
@click.option(
    "--accuracy-column",
    "accuracy_columns",
    multiple=True,
    metavar="NAME",
    help="Holds an accuracy; may be given several times.  [default: the space's; with --models: accuracy]",
)
@click.option("--lower-is-better", is_flag=True, help="The accuracy columns hold a loss or an error.")
@click.option(
    "--column",
    "renamed",
    multiple=True,
    metavar="OURS=THEIRS",
    callback=_parse_names,
    help="The table calls a column of the space THEIRS; may be given several times.",
)
@click.option("--where", multiple=True, metavar="COLUMN=VALUE|COLUMN~PART", help="Take these rows alone.")
@click.option("--sample", type=click.IntRange(2), help="Random architectures to take.  [default: all]")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the sample and the scores."
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    type=click.Choice(list(PROTOCOLS)),
    default=("paper", "architecture"),
    show_default=True,
    help="Repeat it for several; one that folds BatchNorm gets a graph that has it folded.",
)
@click.option(
    "--proxies", default="", metavar="all|NAME,NAME", help="Peers' proxies, under the first protocol."
)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True, help="Runs a score.")
@projections
@click.option("--batch", type=click.IntRange(1), help="Samples in a run.  [default: the space's]")
@click.option("--size", type=click.IntRange(1), help="Side of images, or words.  [default: the space's]")
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes of one thread."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="[default: SPACE.bench]")
@click.option("--resume", is_flag=True, help="Go on with what is in the folder.")
@partial(limited, many=True)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def bench(space: str | None, output: Path | None, *, debug: bool, **options: Any) -> None:
    """Run the benchmark and write its files."""
    quiet_threads()
    try:
        with ended_by_signals(), failures(debug) as failed:
            reference = _reference(space, options["models"])
            _bench(find(reference), output or Path(f"{_stem(reference)}.bench"), options)
    except KeyboardInterrupt as error:
        click.echo("ended; what is measured is kept: go on with --resume", err=True)
        sys.exit(exit_code_of(error))
    sys.exit(failed[0])


def _reference(space: str | None, models: Sequence[str]) -> str:
    if (space is None) != bool(models):
        raise SettingsError("name a SPACE, or --models, and not both", hint="Look at `bench --help`")
    return MODELS.name if space is None else space


def _stem(reference: str) -> str:
    """The name of a default folder: that of the space, or of its file without the ending."""
    return Path(reference.partition(".py:")[0]).name.removesuffix(".py")


def _bench(found: Found, folder: Path, options: dict[str, Any]) -> None:
    from intrain_onnx.bench import run, table
    from intrain_onnx.commands.terminal.progress import counter

    written = [(f"-o {folder}", folder / name) for name in _FILES]
    check_outputs(written if folder.exists() else (), [("the table of accuracies", options["table"])])
    plan = _plan(found, options)
    where = [table.Condition.parse(text) for text in options["where"]]
    space, rows, unmatched = _rows(found.space, options)
    entries = table.entries(rows, space, where=where, sample=options["sample"], seed=options["seed"])
    for said in unmatched or ():
        click.echo(printable(said, _LONGEST), err=True)
    make_folder(folder)
    with counter(sys.stderr, _title(space)) as count:
        records = run.run(
            plan,
            entries,
            folder / _RESULTS,
            resume=options["resume"],
            progress=count,
            limits=of_worker(options["limits"]),
        )
    _write(space, plan, entries, records, folder, options["seed"], unmatched)


def _rows(space: Space, options: dict[str, Any]) -> tuple[Space, Sequence[Row], Sequence[str] | None]:
    """The space that reads the table, its rows, and of models of one's own what has no file or no row."""
    from intrain_onnx.bench import model_files, table

    rows = table.renamed(table.read(options["table"]), options["renamed"])
    space = _with_columns(space, rows, options)
    if not options["models"]:
        return space, rows, None
    place = options["table"].parent
    found = model_files.matched(rows, model_files.files(options["models"]), options["model_column"], place)
    if not found.rows:
        raise SettingsError(
            f"no row of the table names a model: {printable('; '.join(found.said()), _LONGEST)}"
        )
    unmatched = [printable(said, _LONGEST) for said in found.said()]
    return replace(space, describe=found.describe), found.rows, unmatched


def _with_columns(space: Space, rows: Sequence[Row], options: dict[str, Any]) -> Space:
    """The space with the accuracies that were asked for."""
    from intrain_onnx.bench import table

    named = options["accuracy_columns"]
    table.require_columns(rows, named)
    accuracies = {name: name for name in named} or space.accuracies
    losses = frozenset(accuracies) if options["lower_is_better"] else frozenset() if named else space.losses
    return replace(space, accuracies=accuracies, losses=losses)


def _title(space: Space) -> str:
    return printable(space.title or space.name)


def _plan(found: Found, options: dict[str, Any]) -> Plan:
    from intrain_onnx.bench.run import Plan

    batch = {} if options["batch"] is None else {"batch": options["batch"]}
    # A file may leave the length of sequences open; what a space writes has it built in.
    sequence = {"sequence": options["size"]} if options["models"] and options["size"] else {}
    return Plan.of(
        found,
        options["protocols"],
        proxies=names(options["proxies"]) if options["proxies"] else (),
        workers=options["workers"],
        size=options["size"],
        seed=options["seed"],
        seeds=options["seeds"],
        projections=options["projections"],
        **batch,
        **sequence,
    )


def _write(
    space: Space,
    plan: Plan,
    entries: list[Entry],
    records: list[Record],
    folder: Path,
    seed: int,
    unmatched: Sequence[str] | None,
) -> None:
    import msgspec

    from intrain_onnx.bench import summary
    from intrain_onnx.commands.terminal.bench import benchmark
    from intrain_onnx.report.document import write_atomically

    found = summary.summarise(entries, records, family=space.family, seed=seed)
    if unmatched is not None:
        found = msgspec.structs.replace(found, unmatched=tuple(unmatched))
    config = plan.configs[0]
    what = f"{config.batch} images of {plan.size}x{plan.size}"
    if unmatched is not None:
        what = f"{config.batch} samples, sizes that a file leaves open {plan.size}"
    settings = f"{what}, {config.seeds} seed(s)."
    write_atomically(
        folder / _SUMMARY, json.dumps(msgspec.to_builtins(found), indent=1, allow_nan=False) + "\n"
    )
    write_atomically(folder / _TABLE, summary.markdown(found, _title(space), settings))
    benchmark(found, sys.stdout)
    _plot(folder / _SCATTER, _title(space), entries, records)
    click.echo(f"{', '.join(_FILES)} are in {folder}", err=True)


def _plot(path: Path, title: str, entries: list[Entry], records: list[Record]) -> None:
    from intrain_onnx.bench import plot
    from intrain_onnx.bench.measures import LAYERS, PARAMETERS, measures, twin_group
    from intrain_onnx.bench.summary import accuracies
    from intrain_onnx.vocabulary import LEADING

    wanted = (LEADING, "intrain", LAYERS, PARAMETERS)
    twins = {twin_group(protocol) for protocol in records[0].protocols}
    shown = [m for m in measures(records) if m.name in wanted and m.group not in twins]
    try:
        plot.scatter(path, title, shown, accuracies(entries))
    except ModuleNotFoundError:
        click.echo("no scatter plot: it needs `pip install 'intrain-onnx[bench]'`", err=True)
