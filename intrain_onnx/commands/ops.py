"""``intrain-onnx ops``."""

from __future__ import annotations

import sys

import click


@click.command()
@click.option("--missing", is_flag=True, help="List only what lacks a handler, with the reason.")
@click.option("--markdown", is_flag=True, help="Print docs/operators.md instead.")
def ops(missing: bool, markdown: bool) -> None:
    """Show which versions of which operators have a handler, and why the others have none."""
    from intrain_onnx.commands.terminal.operators import operators
    from intrain_onnx.opset import support_table

    if markdown and missing:
        raise click.UsageError("--missing and --markdown exclude each other")
    if markdown:
        click.echo(support_table.markdown(), nl=False)
        return
    operators(support_table.rows(), sys.stdout, missing=missing)
