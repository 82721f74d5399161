"""``intrain-onnx inspect``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from intrain_onnx import memory
from intrain_onnx.commands.shared import EXIT_CODES, failures, print_document, shared
from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.limits import Limits


@click.command(epilog=EXIT_CODES)
@click.argument("model", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of tables.")
@click.option("--all", "show_all", is_flag=True, help="List every layer, however many there are.")
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
    verbose: bool,
    debug: bool,
    limits: Limits,
    input_shapes: dict[str, tuple[int, ...]],
    batch_axes: dict[str, int | None],
) -> None:
    """Show what the graph alone tells: inputs, layers in depth order, unsupported operators, warnings."""
    from intrain_onnx.commands.terminal.inspect import inspection
    from intrain_onnx.inspection import inspect as inspect_file
    from intrain_onnx.inspection import rewrites_as_data

    with memory.at_most(limits.memory):
        memory.cap_process()
    with failures(debug, model) as failed:
        config = ScoreConfig.for_protocol(input_shapes=input_shapes, batch_axes=batch_axes)
        found = inspect_file(model, config, rewrites=verbose, limits=limits)
        if as_json:
            told = {"rewrites": rewrites_as_data(found.rewrites)} if verbose else {}
            text = json.dumps({**found.data, **told}, indent=2, allow_nan=False, ensure_ascii=False)
            print_document(f"{text}\n")
        else:
            inspection(found, sys.stdout, show_all=show_all)
    sys.exit(failed[0])
