"""``intrain-onnx compare``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from intrain_onnx import memory
from intrain_onnx.commands.shared import EXIT_CODES, failures, limited
from intrain_onnx.loading.limits import Limits

if TYPE_CHECKING:
    from intrain_onnx.report.comparison import LayerList

_DIFFERENT = 7


@click.command(epilog=EXIT_CODES)
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option("--reports", is_flag=True, help="A and B are JSON reports: compare their scores too.")
@click.option("--all", "show_all", is_flag=True, help="List every layer, not only those around a difference.")
@limited
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def compare(first: Path, second: Path, reports: bool, show_all: bool, limits: Limits, debug: bool) -> None:
    """Tell whether two models are the same architecture, whoever exported them; show the first difference.

    Exit code 0 where they are, 7 where they are not.
    """
    from intrain_onnx.commands.terminal.compare import comparison as show
    from intrain_onnx.report import comparison
    from intrain_onnx.report.document import Report

    with memory.at_most(limits.memory):
        memory.cap_process()
    networks: list[comparison.LayerList] = []
    for path in (first, second):
        with failures(debug, path) as failed:
            networks.append(
                comparison.network_of_report(Report.load(path)) if reports else _network(path, limits)
            )
        if failed[0]:
            sys.exit(failed[0])
    found = comparison.compare(*networks)
    show(found, (first, second), sys.stdout, show_all=show_all)
    sys.exit(0 if found.same else _DIFFERENT)


def _network(path: Path, limits: Limits) -> LayerList:
    from intrain_onnx.pipeline import canonical_network

    return canonical_network(path, limits=limits)
