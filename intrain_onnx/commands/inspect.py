"""``intrain-onnx inspect``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from intrain_onnx.commands.shared import EXIT_CODES, called, failures, print_document, shared, show_failure
from intrain_onnx.config import ScoreConfig
from intrain_onnx.engine.signals import ended_by_signals, exit_code_of
from intrain_onnx.failure import Failure
from intrain_onnx.jobs import Call
from intrain_onnx.loading.limits import Limits

if TYPE_CHECKING:
    from intrain_onnx.inspection import Inspection


@click.command(epilog=EXIT_CODES)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--all", "show_all", is_flag=True, help="List every layer, however many there are.")
@click.option(
    "--modules",
    "by_module",
    is_flag=True,
    help="Nest the layers in the framework's modules, with sums for each.",
)
@click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Say what each rewrite of the architecture protocol does, and why it declines elsewhere.",
)
@shared
def inspect(
    model: Path,
    as_json: bool,
    show_all: bool,
    by_module: bool,
    verbose: bool,
    debug: bool,
    limits: Limits,
    input_shapes: dict[str, tuple[int, ...]],
    batch_axes: dict[str, int | None],
) -> None:
    """Show what the graph alone tells: inputs, layers in depth order, unsupported operators, warnings."""
    config = ScoreConfig.for_protocol(input_shapes=input_shapes, batch_axes=batch_axes)
    arguments = {"config": config, "rewrites": verbose, "limits": limits}
    try:
        with ended_by_signals():
            call = Call("intrain_onnx.inspection", "inspect", arguments)
            results = called(call, [model], limits=limits, debug=debug)
            from intrain_onnx.commands.terminal.inspect import inspection  # meanwhile
            from intrain_onnx.commands.terminal.modules import modules

            (found,) = results
    except KeyboardInterrupt as error:
        sys.exit(exit_code_of(error))
    if isinstance(found, Failure):
        sys.exit(show_failure(found, debug))
    with failures(debug, model) as failed:
        if as_json:
            _print(found, verbose=verbose)
        elif by_module:
            modules(found.document.layers, sys.stdout)
        else:
            inspection(found, sys.stdout, show_all=show_all)
    sys.exit(failed[0])


def _print(found: Inspection, *, verbose: bool) -> None:
    from intrain_onnx.inspection import rewrites_as_data

    told = {"rewrites": rewrites_as_data(found.rewrites)} if verbose else {}
    text = json.dumps({**found.data, **told}, indent=2, allow_nan=False, ensure_ascii=False)
    print_document(f"{text}\n")
