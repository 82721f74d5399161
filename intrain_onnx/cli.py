"""The command line: its commands, one file each in ``commands``."""

from __future__ import annotations

from typing import Any

import click

from intrain_onnx.commands import streams
from intrain_onnx.commands.audit import audit
from intrain_onnx.commands.bench import bench
from intrain_onnx.commands.compare import compare
from intrain_onnx.commands.diff import diff
from intrain_onnx.commands.inspect import inspect
from intrain_onnx.commands.ops import ops
from intrain_onnx.commands.rank import rank
from intrain_onnx.commands.report import report
from intrain_onnx.commands.score import score
from intrain_onnx.commands.search import search
from intrain_onnx.commands.series import series


class _Program(click.Group):
    def main(self, *args: Any, **options: Any) -> Any:
        with streams.guarded():
            return super().main(*args, **options)


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="intrain-onnx")
def main() -> None:
    """Score how trainable a neural network is from its ONNX file alone, without training it."""


for _command in (score, rank, inspect, compare, diff, series, ops, report, audit, bench, search):
    main.add_command(_command)
