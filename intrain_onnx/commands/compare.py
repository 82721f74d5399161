"""``intrain-onnx compare``."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from intrain_onnx.commands.shared import EXIT_CODES, called, failures, limited, show_failure
from intrain_onnx.engine.signals import ended_by_signals, exit_code_of
from intrain_onnx.failure import Failure
from intrain_onnx.jobs import Call
from intrain_onnx.loading.limits import Limits

if TYPE_CHECKING:
    from intrain_onnx.report.comparison import LayerList

_DIFFERENT = 7


@click.command(epilog=EXIT_CODES)
@click.argument("first", metavar="A", type=click.Path(path_type=Path))
@click.argument("second", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--reports",
    is_flag=True,
    help="A and B are JSON reports: compare scores too, and list what moved most.",
)
@click.option(
    "--all",
    "show_all",
    is_flag=True,
    help="List all layers, not only around a difference or what moved most.",
)
@limited
@click.option("--debug", is_flag=True, help="Show the traceback of an error.")
def compare(first: Path, second: Path, reports: bool, show_all: bool, limits: Limits, debug: bool) -> None:
    """Tell whether two models are the same architecture, whoever exported them; show the first difference.

    Exit code 0 where they are, 7 where they are not.
    """
    networks = _of_reports(first, second, debug) if reports else _of_models(first, second, limits, debug)
    from intrain_onnx.commands.terminal.compare import comparison as show
    from intrain_onnx.report import comparison

    found = comparison.compare(*networks)
    show(found, (first, second), sys.stdout, show_all=show_all)
    sys.exit(0 if found.same else _DIFFERENT)


def _of_reports(first: Path, second: Path, debug: bool) -> list[LayerList]:
    from intrain_onnx.report.comparison import network_of_report
    from intrain_onnx.report.document import Report

    networks = []
    for path in (first, second):
        with failures(debug, path) as failed:
            networks.append(network_of_report(Report.load(path)))
        if failed[0]:
            sys.exit(failed[0])
    return networks


def _of_models(first: Path, second: Path, limits: Limits, debug: bool) -> list[LayerList]:
    networks = []
    call = Call("intrain_onnx.pipeline", "canonical_network", {"limits": limits})
    try:
        with ended_by_signals(), closing(called(call, [first, second], limits=limits, debug=debug)) as found:
            for network in found:
                if isinstance(network, Failure):
                    sys.exit(show_failure(network, debug))
                networks.append(network)
    except KeyboardInterrupt as error:
        sys.exit(exit_code_of(error))
    return networks
