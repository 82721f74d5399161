"""Terminal view of one report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from intrain_onnx.commands.terminal.shared import left_out, opsets, show_warnings
from intrain_onnx.errors import printable
from intrain_onnx.report.console import console_of
from intrain_onnx.report.context.standing import in_words
from intrain_onnx.report.derived import (
    KINDS,
    MEASURED_ON,
    NOT_MEASURED,
    along_depth,
    largest_ratio,
    relative_ratio,
)
from intrain_onnx.report.document import Report
from intrain_onnx.report.numbers import count, tally
from intrain_onnx.report.rows import Document, GradientReach, Layer, Parity, Proxy, Settings, Standing, Stop
from intrain_onnx.scores.baselines import BASELINES
from intrain_onnx.vocabulary import LEADING

_WEAKEST = 5
_STOPS_SHOWN = 3
_NEIGHBOURS_SHOWN = 3


def summary(report: Report, stream: TextIO, saved: Path | None = None) -> None:
    """Print the summary of one scored model."""
    console = console_of(stream)
    data = report.document
    console.print(Text(printable(data.model.path or "model in memory", 300), style="bold"))
    console.print(
        f"  {printable(data.model.producer, 100) or 'unknown producer'}, opset "
        f"{opsets(data.model.opset_imports)}, {count(data.model.parameters)} parameters, "
        f"{count(data.model.macs)} MACs a sample"
    )
    console.print()
    _leading(console, data)
    _figures(console, data)
    _standing(console, data.standing)
    share = data.coverage.share
    if share < 1:
        words = f"{left_out(share)} of the weights are in no layer"
        console.print(Text(f"    coverage                     {words}", style="bold red"))
    _baselines(console, data)
    console.print(f"    protocol                     {_protocol(data.settings)}")
    console.print(f"    parity with onnxruntime      {_parity(data.parity)}")
    console.print()
    _weakest(console, data.layers)
    _proxies(console, data.proxies)
    missed = _not_measured(data)
    if missed:
        console.print(Text("  Not measured", style="bold"))
        for line in missed:
            console.print(f"    {line}")
    show_warnings(console, data.warnings)
    if saved is not None:
        console.print(f"  Report: {printable(saved, 300)}")


def _leading(console: Console, data: Document) -> None:
    found = data.scores.get(LEADING)
    if found is not None:
        error = "" if found.standard_error is None else f" ± {found.standard_error:.2g} (standard error)"
        kind = "" if data.kind is None else f"  (a {KINDS[data.kind]})"
        console.print(Text(f"  {LEADING} {found.value:.4g}{error}{kind}", style="bold"))
        if found.static is not None:
            console.print(f"    counting alone gives         {found.static:.4g}  (its static twin)")
    if data.kind is not None and data.kind in MEASURED_ON:
        console.print(f"    measured                     {MEASURED_ON[data.kind]}", soft_wrap=True)
    if data.gradient is not None:
        deepest = max((x.depth for x in data.layers), default=0)
        said = printable(along_depth(data.gradient, deepest), 300)
        line = Text(f"    gradient along depth         {said}")
        line.stylize("" if data.gradient.direction == "even" else "red")
        console.print(line, soft_wrap=True)


def _standing(console: Console, found: Standing | None) -> None:
    if found is None:
        return
    console.print(f"    among reference networks     {printable(in_words(found), 300)}", soft_wrap=True)
    if found.reason is None:
        near = ", ".join(printable(name, 60) for name in found.neighbours[:_NEIGHBOURS_SHOWN])
        console.print(f"      {printable(found.rule, 200)}", soft_wrap=True)
        console.print(f"      nearest: {near}", soft_wrap=True)


def _figures(console: Console, data: Document) -> None:
    score, runs = data.score, len(data.score.runs)
    spread = f" ± {score.std:.3g} (standard deviation over {runs} seeds)" if score.std is not None else ""
    console.print(Text(f"  InTrain {score.intrain:.4g}{spread}", style="bold"))
    if score.ci95 is not None:
        share = (score.standard_error or 0.0) / score.intrain if score.intrain else 0.0
        low, high = score.ci95
        span = f"{low:.4g} to {high:.4g}"
        console.print(f"    95 % interval of the mean    {span}  (standard error {share:.1%})")
    capacity, resilience = score.geometric_capacity, score.optimization_resilience
    console.print(f"    geometric capacity           {capacity:.4g}  (sum of log participation ratios)")
    console.print(f"    optimisation resilience      {resilience:.4g}  (sum of gradient healths)")
    console.print(
        f"    counted                      {score.layers} layers, {score.parameter_tensors} parameter tensors"
    )
    for name, row in data.scores.items():
        if name not in ("intrain", LEADING):
            error = "" if row.standard_error is None else f" ± {row.standard_error:.2g}"
            console.print(f"    variant {printable(name, 20):20} {row.value:.4g}{error}")


def _baselines(console: Console, data: Document) -> None:
    console.print("    to beat                      what can be counted without measuring:")
    for name, baseline in BASELINES.items():
        console.print(f"      {baseline.title:31}{tally(data.baselines.get(name))}")


def _protocol(settings: Settings) -> str:
    shapes = ", ".join(
        "x".join(map(str, i.shape)) + (" (given)" if i.kind == "given" else "") for i in settings.inputs_fed
    )
    way = "" if settings.execution == "batched" else ", sample by sample"
    way += ", activations recomputed" if settings.recomputed else ""
    return f"{settings.protocol}, input {shapes}{way}"


def _parity(parity: Parity | None) -> str:
    if parity is None:
        return "not asked for"
    if parity.ok is None:
        return f"not checked: {printable(parity.reason or '', 120)}"
    figure = parity.max_rel_diff
    text = "ok" if parity.ok else "differs"
    return f"{text} (largest relative difference {figure:.1g})" if figure is not None else text


def _proxies(console: Console, proxies: Mapping[str, Proxy]) -> None:
    if not proxies:
        return
    table = Table(
        box=box.SIMPLE, title="  Peers' proxies", title_justify="left", title_style="bold", pad_edge=False
    )
    table.add_column("  proxy")
    table.add_column("value", justify="right")
    table.add_column("", overflow="fold")
    for found in proxies.values():
        for part, value in found.values.items():
            shown = "-" if value is None else f"{value:.6g}"
            table.add_row(
                f"  {printable(part, 60)}", shown, printable(found.error or "", 120) if value is None else ""
            )
    console.print(table)


def _weakest(console: Console, layers: Sequence[Layer]) -> None:
    measured = [(relative_ratio(x), x) for x in layers]
    ranked = sorted(
        ((r, x) for r, x in measured if r is not None and x.channels > 1), key=lambda item: item[0]
    )
    if not ranked:
        return
    table = Table(
        box=box.SIMPLE, title="  Weakest layers", title_justify="left", title_style="bold", pad_edge=False
    )
    table.add_column("  layer", overflow="fold")
    for name in ("op", "depth", "participation ratio", "of", "share"):
        table.add_column(name, justify="left" if name == "op" else "right")
    for ratio, layer in ranked[:_WEAKEST]:
        table.add_row(
            "  " + printable(layer.label, 100),
            printable(layer.op, 40),
            str(layer.depth),
            f"{layer.participation_ratio:.2f}",
            str(largest_ratio(layer)),
            f"{ratio:.1%}",
        )
    console.print(table)


def _not_measured(data: Document) -> list[str]:
    lines = []
    for status, label in NOT_MEASURED.items():
        names = [x.label for x in data.layers if x.status == status]
        if names:
            shown = ", ".join(printable(n, 60) for n in names[:3]) + (" …" if len(names) > 3 else "")
            lines.append(f"{len(names)} layers {status} ({label}): {shown}")
    lines += _gradient_reach(data.gradient_reach)
    for row in data.settings.losses:
        if row.loss is None:
            lines.append(f"output {printable(row.output, 80)}: passes no gradient")
    return lines


def _gradient_reach(found: GradientReach) -> list[str]:
    if found.share == 1:
        return []
    line = f"no gradient reaches {count(found.elements - found.reached_elements)} of "
    lines = [f"{line}{count(found.elements)} trainable elements ({1 - found.share:.1%})"]
    for row in found.stopped_by[:_STOPS_SHOWN]:
        tensors = f"{row.parameters} tensor{'s' if row.parameters > 1 else ''}"
        lines.append(f"  {_stop(row)}: {tensors}, {count(row.elements)} elements")
    if len(found.stopped_by) > _STOPS_SHOWN:
        lines.append(f"  … {len(found.stopped_by) - _STOPS_SHOWN} more nodes")
    return lines


def _stop(row: Stop) -> str:
    if row.node is None:
        return "stopped by an unknown node"
    node = f"{row.op} {printable(row.node, 80)}"
    return f"not run by {node}" if row.op in ("If", "Loop", "Scan") else f"stopped by {node}"
