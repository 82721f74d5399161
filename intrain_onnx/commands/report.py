"""``intrain-onnx report``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from intrain_onnx.commands.shared import EXIT_CODES, as_file, failures, print_document
from intrain_onnx.errors import printable
from intrain_onnx.report.output_files import check_outputs


@click.command(epilog=EXIT_CODES)
@click.argument("reports", nargs=-1, required=True, metavar="REPORT.json...", type=click.Path(path_type=Path))
@click.option(
    "-o",
    "--output",
    metavar="FILE|-",
    shell_complete=as_file,
    default="report.html",
    show_default=True,
    help="Where the page goes; - is standard output.",
)
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def report(reports: tuple[Path, ...], output: str, debug: bool) -> None:
    """Make one HTML page of saved JSON reports; several are ranked.

    The page holds all that it needs: it opens from disk and asks the network for nothing.
    """
    from intrain_onnx.report.document import Report, write_atomically
    from intrain_onnx.report.page import page

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
        text = page(loaded)
    if failed[0]:
        sys.exit(failed[0])
    if output == "-":
        print_document(text)
        return
    try:
        write_atomically(Path(output), text)
    except OSError as error:
        raise click.UsageError(f"cannot write {output}: {error.strerror or error}") from None
    click.echo(f"Page: {printable(output, 4096)}")
