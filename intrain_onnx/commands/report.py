"""``intrain-onnx report``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from intrain_onnx.commands.shared import EXIT_CODES, as_file, failures, print_document
from intrain_onnx.errors import printable
from intrain_onnx.report.output_files import check_outputs

if TYPE_CHECKING:
    from intrain_onnx.report.document import Report

Form = Literal["html", "csv", "parquet"]
Listed = Literal["models", "layers", "parameters", "points", "depth_profile"]


@click.command(epilog=EXIT_CODES)
@click.argument("reports", nargs=-1, required=True, metavar="REPORT.json...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FILE|-",
    shell_complete=as_file,
    help="Where it goes; - is standard output.  [default: report.html, report.csv or report.parquet]",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["html", "csv", "parquet"]),
    default="html",
    show_default=True,
    help="A page, or a table.",
)
@click.option(
    "--table",
    "listed",
    type=click.Choice(["models", "layers", "parameters", "points", "depth_profile"]),
    default="models",
    show_default=True,
    help="Rows of a table: a model each, in rank order, or those of all models.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def report(reports: tuple[Path, ...], output: str | None, form: Form, listed: Listed, debug: bool) -> None:
    """Make one HTML page of saved JSON reports, or one table; several are ranked.

    The page holds all that it needs: it opens from disk and asks the network for nothing.
    """
    from intrain_onnx.report.document import Report, write_atomically

    output = output or f"report.{form}"
    with failures(debug) as failed:
        if output != "-":
            check_outputs([(f"-o {output}", Path(output))], [("the report", path) for path in reports])
    if failed[0]:
        sys.exit(failed[0])
    loaded = []
    for path in reports:
        with failures(debug, path) as failed:
            loaded.append(Report.load(path))
        if failed[0]:
            sys.exit(failed[0])
    with failures(debug, reports[0] if len(reports) == 1 else None) as failed:
        content = _made(loaded, form, listed)
    if failed[0]:
        sys.exit(failed[0])
    if output == "-":
        print_document(content)
        return
    try:
        write_atomically(Path(output), content)
    except OSError as error:
        raise click.UsageError(f"cannot write {output}: {error.strerror or error}") from None
    click.echo(f"{'Page' if form == 'html' else 'Table'}: {printable(output, 4096)}")


def _made(reports: Sequence[Report], form: Form, listed: Listed) -> str | bytes:
    if form == "html":
        from intrain_onnx.report.page import page

        return page(reports)
    if listed == "models":
        from intrain_onnx.rank.ranking import Ranking

        return Ranking.of(reports).table().written(form)
    from intrain_onnx.report.frames import parts

    return parts.parts([r.document for r in reports], listed).written(form)
