"""``intrain-onnx bench``."""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from intrain_onnx.bench.spaces import SPACES, Space
from intrain_onnx.commands.shared import EXIT_CODES, failures, limited, of_worker, quiet_threads
from intrain_onnx.config import PROTOCOLS
from intrain_onnx.engine.signals import ended_by_signals, exit_code_of
from intrain_onnx.errors import SettingsError
from intrain_onnx.proxy_table import names
from intrain_onnx.report.output_files import check_outputs

if TYPE_CHECKING:
    from intrain_onnx.bench.records import Record
    from intrain_onnx.bench.run import Plan
    from intrain_onnx.bench.table import Entry

_RESULTS, _SUMMARY, _TABLE, _SCATTER = _FILES = "results.jsonl", "summary.json", "table.md", "scatter.svg"
_HELP = f"""Score the architectures of a search space and correlate with their accuracies.

SPACE is {", ".join(list(SPACES)[:-1])} or {list(SPACES)[-1]}.

Writes {_RESULTS}, a line an architecture as it is measured, and from it {_SUMMARY}, {_TABLE} and {_SCATTER}.
"""


@click.command(help=_HELP, epilog=EXIT_CODES)
@click.argument("space", type=click.Choice(list(SPACES)), metavar="SPACE")
@click.option(
    "--accuracies",
    "table",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="CSV",
    help="Table of architectures and accuracies, possibly .gz.",
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
@click.option("--batch", type=click.IntRange(1), help="Samples in a run.  [default: the space's]")
@click.option("--size", type=click.IntRange(1), help="Side of images, or words.  [default: the space's]")
@click.option(
    "--workers", type=click.IntRange(1), default=1, show_default=True, help="Processes of one thread."
)
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR", help="[default: SPACE.bench]")
@click.option("--resume", is_flag=True, help="Go on with what is in the folder.")
@partial(limited, many=True)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def bench(space: str, output: Path | None, *, debug: bool, **options: Any) -> None:
    """Run the benchmark and write its files."""
    quiet_threads()
    try:
        with ended_by_signals(), failures(debug) as failed:
            _bench(SPACES[space], output or Path(f"{space}.bench"), options)
    except KeyboardInterrupt as error:
        click.echo("ended; what is measured is kept: go on with --resume", err=True)
        sys.exit(exit_code_of(error))
    sys.exit(failed[0])


def _bench(space: Space, folder: Path, options: dict[str, Any]) -> None:
    from intrain_onnx.bench import run, table
    from intrain_onnx.commands.terminal.progress import counter

    written = [(f"-o {folder}", folder / name) for name in _FILES]
    check_outputs(written if folder.exists() else (), [("the table of accuracies", options["table"])])
    plan = _plan(space, options)
    where = [table.Condition.parse(text) for text in options["where"]]
    entries = table.entries(
        table.read(options["table"]), space, where=where, sample=options["sample"], seed=options["seed"]
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"cannot make {folder}: {error.strerror}", hint="Name another place with -o"
        ) from error
    with counter(sys.stderr, f"{space.title}") as count:
        records = run.run(
            plan,
            entries,
            folder / _RESULTS,
            resume=options["resume"],
            progress=count,
            limits=of_worker(options["limits"]),
        )
    _write(space, plan, entries, records, folder, options["seed"])


def _plan(space: Space, options: dict[str, Any]) -> Plan:
    from intrain_onnx.bench.run import Plan

    batch = {} if options["batch"] is None else {"batch": options["batch"]}
    return Plan.of(
        space,
        options["protocols"],
        proxies=names(options["proxies"]) if options["proxies"] else (),
        workers=options["workers"],
        size=options["size"],
        seed=options["seed"],
        seeds=options["seeds"],
        **batch,
    )


def _write(
    space: Space, plan: Plan, entries: list[Entry], records: list[Record], folder: Path, seed: int
) -> None:
    import msgspec

    from intrain_onnx.bench import summary
    from intrain_onnx.commands.terminal.bench import benchmark
    from intrain_onnx.report.document import write_atomically

    found = summary.summarise(entries, records, family=space.family, seed=seed)
    config = plan.configs[0]
    settings = f"{config.batch} images of {plan.size}x{plan.size}, {config.seeds} seed(s)."
    write_atomically(
        folder / _SUMMARY, json.dumps(msgspec.to_builtins(found), indent=1, allow_nan=False) + "\n"
    )
    write_atomically(folder / _TABLE, summary.markdown(found, space.title, settings))
    benchmark(found, sys.stdout)
    _plot(folder / _SCATTER, space.title, entries, records)
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
