"""Reports and inspections as a person reads them in a terminal. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from intrain_onnx.errors import printable
from intrain_onnx.inspection import Inspection
from intrain_onnx.opset import support_table
from intrain_onnx.report.comparison import Comparison, LayerRow
from intrain_onnx.report.derived import (
    NOT_MEASURED,
    count,
    covered_share,
    file_labels,
    largest_ratio,
    relative_ratio,
)
from intrain_onnx.report.document import Report
from intrain_onnx.report.numbers import with_interval

_WEAKEST = 5
_STOPS_SHOWN = 3
_AROUND = 3
_LAYERS_SHOWN = 40
_PLAIN_WIDTH = 110

Step = Callable[[str, float], None]


def _console(stream: TextIO) -> Console:
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    return (
        console
        if console.is_terminal
        else Console(file=stream, highlight=False, markup=False, emoji=False, width=_PLAIN_WIDTH)
    )


@contextmanager
def progress(stream: TextIO) -> Iterator[Callable[[str], Step]]:
    """A progress bar where the stream is a terminal; it vanishes when the work is done."""
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    console = _console(stream)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:

        def begin(name: str) -> Step:
            for task in bar.task_ids:
                bar.remove_task(task)
            task = bar.add_task(printable(name, 60), total=1.0)
            return lambda step, share: bar.update(
                task, completed=share, description=f"{printable(name, 60)}: {step}"
            )

        yield begin


@contextmanager
def counter(stream: TextIO, what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar that is told how many of how many are done; it vanishes when the work is."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = _console(stream)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def summary(report: Report, stream: TextIO, saved: Path | None = None) -> None:
    """One scored model."""
    console = _console(stream)
    data, score = report.data, report.data["score"]
    console.print(Text(printable(data["model"]["path"] or "model in memory", 300), style="bold"))
    console.print(
        f"  {printable(data['model']['producer'], 100) or 'unknown producer'}, opset "
        f"{_opsets(data['model']['opset_imports'])}, {count(data['model']['parameters'])} parameters, "
        f"{count(data['model']['macs'])} MACs a sample"
    )
    console.print()
    runs = len(score["runs"])
    spread = (
        f" ± {score['std']:.3g} (standard deviation over {runs} seeds)" if score["std"] is not None else ""
    )
    console.print(Text(f"  InTrain {score['intrain']:.4g}{spread}", style="bold"))
    if score["ci95"] is not None:
        error = score["standard_error"] / score["intrain"] if score["intrain"] else 0.0
        low, high = score["ci95"]
        span = f"{low:.4g} to {high:.4g}"
        console.print(f"    95 % interval of the mean    {span}  (standard error {error:.1%})")
    capacity, resilience = score["geometric_capacity"], score["optimization_resilience"]
    console.print(f"    geometric capacity           {capacity:.4g}  (sum of log participation ratios)")
    console.print(f"    optimisation resilience      {resilience:.4g}  (sum of gradient healths)")
    console.print(
        f"    counted                      {score['layers']} layers, "
        f"{score['parameter_tensors']} parameter tensors"
    )
    for name, row in data["scores"].items():
        if name != "intrain":
            error = "" if row["standard_error"] is None else f" ± {row['standard_error']:.2g}"
            console.print(f"    variant {name:20} {row['value']:.4g}{error}")
    share = covered_share(data)
    if share < 1:
        left_out = f"{_left_out(share)} of the weights are in no layer"
        console.print(Text(f"    coverage                     {left_out}", style="bold red"))
    console.print(f"    protocol                     {_protocol(data['settings'])}")
    console.print(f"    parity with onnxruntime      {_parity(data['parity'])}")
    console.print()
    _weakest(console, data["layers"])
    _proxies(console, data["proxies"])
    missed = _not_measured(data)
    if missed:
        console.print(Text("  Not measured", style="bold"))
        for line in missed:
            console.print(f"    {line}")
    _warnings(console, data["warnings"])
    if saved is not None:
        console.print(f"  Report: {printable(saved, 300)}")


def _opsets(imports: Mapping[str, int]) -> str:
    return ", ".join(f"{v}" if k == "ai.onnx" else f"{printable(k, 40)} {v}" for k, v in imports.items())


def _protocol(settings: Mapping[str, Any]) -> str:
    shapes = ", ".join("x".join(map(str, i["shape"])) for i in settings["inputs_fed"])
    way = "" if settings["execution"] == "batched" else ", sample by sample"
    return f"{settings['protocol']}, input {shapes}{way}"


def _parity(parity: Mapping[str, Any] | None) -> str:
    if parity is None:
        return "not asked for"
    if parity["ok"] is None:
        return f"not checked: {printable(parity['reason'] or '', 120)}"
    figure = parity["max_rel_diff"]
    text = "ok" if parity["ok"] else "differs"
    return f"{text} (largest relative difference {figure:.1g})" if figure is not None else text


def _proxies(console: Console, proxies: Mapping[str, Any]) -> None:
    if not proxies:
        return
    table = Table(
        box=box.SIMPLE, title="  Peers' proxies", title_justify="left", title_style="bold", pad_edge=False
    )
    table.add_column("  proxy")
    table.add_column("value", justify="right")
    table.add_column("", overflow="fold")
    for found in proxies.values():
        for part, value in found["values"].items():
            shown = "-" if value is None else f"{value:.6g}"
            table.add_row(f"  {part}", shown, printable(found["error"] or "", 120) if value is None else "")
    console.print(table)


def _weakest(console: Console, layers: Sequence[Mapping[str, Any]]) -> None:
    measured = [(relative_ratio(x), x) for x in layers]
    ranked = sorted(
        ((r, x) for r, x in measured if r is not None and x["channels"] > 1), key=lambda item: item[0]
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
            "  " + printable(layer["name"], 100),
            layer["op"],
            str(layer["depth"]),
            f"{layer['participation_ratio']:.2f}",
            str(largest_ratio(layer)),
            f"{ratio:.1%}",
        )
    console.print(table)


def _not_measured(data: Mapping[str, Any]) -> list[str]:
    lines = []
    for status, label in NOT_MEASURED.items():
        names = [x["name"] for x in data["layers"] if x["status"] == status]
        if names:
            shown = ", ".join(printable(n, 60) for n in names[:3]) + (" …" if len(names) > 3 else "")
            lines.append(f"{len(names)} layers {status} ({label}): {shown}")
    lines += _gradient_reach(data["gradient_reach"])
    for row in data["settings"]["losses"]:
        if row["loss"] is None:
            lines.append(f"output {printable(row['output'], 80)}: passes no gradient")
    return lines


def _gradient_reach(found: Mapping[str, Any]) -> list[str]:
    if found["share"] == 1:
        return []
    line = f"no gradient reaches {count(found['elements'] - found['reached_elements'])} of "
    lines = [f"{line}{count(found['elements'])} trainable elements ({1 - found['share']:.1%})"]
    for row in found["stopped_by"][:_STOPS_SHOWN]:
        tensors = f"{row['parameters']} tensor{'s' if row['parameters'] > 1 else ''}"
        lines.append(f"  {_stop(row)}: {tensors}, {count(row['elements'])} elements")
    if len(found["stopped_by"]) > _STOPS_SHOWN:
        lines.append(f"  … {len(found['stopped_by']) - _STOPS_SHOWN} more nodes")
    return lines


def _stop(row: Mapping[str, Any]) -> str:
    if row["node"] is None:
        return "stopped by an unknown node"
    node = f"{row['op']} {printable(row['node'], 80)}"
    return f"not run by {node}" if row["op"] in ("If", "Loop", "Scan") else f"stopped by {node}"


def _warnings(console: Console, warnings: Sequence[Mapping[str, Any]]) -> None:
    if not warnings:
        return
    console.print(Text("  Warnings", style="bold yellow"))
    for row in warnings:
        node = f" (node {printable(row['node'], 100)})" if row["node"] else ""
        console.print(f"    {row['code']}: {printable(row['message'], 400)}{node}", soft_wrap=True)
    console.print()


def ranking(reports: Sequence[Report], stream: TextIO) -> None:
    """Several scored models, best first, beside the two baselines that a score has to beat."""
    table = Table(box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    for name in (
        "rank",
        "model",
        "InTrain",
        "±",
        "capacity",
        "resilience",
        "width_depth",
        "layers",
        "#Params",
        "MACs",
        "warnings",
    ):
        table.add_column(name, justify="left" if name == "model" else "right", overflow="fold")
    ordered = sorted(reports, key=lambda r: (-r.intrain, str(r.data["model"]["path"])))
    labels = file_labels([str(r.data["model"]["path"]) for r in ordered])
    for rank, (report, label) in enumerate(zip(ordered, labels, strict=True), start=1):
        score, model = report.data["score"], report.data["model"]
        table.add_row(
            str(rank),
            printable(label, 120),
            f"{score['intrain']:.4g}{'*' if covered_share(report.data) < 1 else ''}",
            f"{score['std']:.2g}" if score["std"] is not None else "",
            f"{score['geometric_capacity']:.4g}",
            f"{score['optimization_resilience']:.4g}",
            f"{report.data['scores']['width_depth']['value']:.4g}",
            str(score["layers"]),
            count(model["parameters"]),
            count(model["macs"]),
            str(len(report.data["warnings"])),
        )
    console = _console(stream)
    console.print(table)
    missed = [r for r in ordered if covered_share(r.data) < 1]
    if missed:
        said = "  * leaves weights out: see the warning weights_not_recognised"
        console.print(Text(said, style="bold red"))


def inspection(found: Inspection, stream: TextIO, *, show_all: bool = False) -> None:
    """What the graph alone tells."""
    console, data = _console(stream), found.data
    model = data["model"]
    console.print(Text(printable(model["path"] or "model in memory", 300), style="bold"))
    console.print(
        f"  {printable(model['producer'], 100) or 'unknown producer'}, IR {model['ir_version']}, opset "
        f"{_opsets(model['opset_imports'])}, {model['nodes']} nodes, "
        f"{count(model['parameters'])} parameters, {count(model['macs'])} MACs a sample"
    )
    for label, values in (("input", model["inputs"]), ("output", model["outputs"])):
        for value in values:
            shape = (
                "unknown rank"
                if value["shape"] is None
                else "x".join("?" if d is None else printable(d, 40) for d in value["shape"])
            )
            console.print(
                f"  {label:7} {printable(value['name'], 100)}  {value['dtype']}  {shape or 'scalar'}"
            )
    layers = data["layers"]
    table = Table(
        box=box.SIMPLE,
        title=f"  {len(layers)} canonical layers",
        title_justify="left",
        title_style="bold",
        pad_edge=False,
    )
    for name in ("  depth", "layer", "op", "weight", "bias", "MACs"):
        table.add_column(name, justify="right" if name in ("  depth", "MACs") else "left", overflow="fold")
    for layer in layers if show_all else layers[:_LAYERS_SHOWN]:
        table.add_row(
            str(layer["depth"]),
            printable(layer["name"], 80),
            layer["op"],
            " + ".join("x".join(map(str, s)) for s in layer["weight_shapes"]),
            "yes" if layer["bias"] else "",
            count(layer["macs"]),
        )
    if layers:
        console.print(table)
    if len(layers) > _LAYERS_SHOWN and not show_all:
        console.print(f"  … {len(layers) - _LAYERS_SHOWN} more: --all")
    if data["unsupported_ops"]:
        console.print(Text("  Unsupported operators", style="bold red"))
        for name, number in data["unsupported_ops"].items():
            console.print(f"    {printable(name, 100)}  {number} node{'s' if number > 1 else ''}")
    _warnings(console, data["warnings"])


def operators(rows: Sequence[support_table.Row], stream: TextIO, *, missing: bool = False) -> None:
    """The support table, or what lacks a handler in it."""
    console = _console(stream)
    shown = [row for row in rows if row.missing] if missing else rows
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("domain", "operator", *(("no handler",) if missing else ("handler", "in ONNX")), ""):
        table.add_column(name, overflow="fold")
    for row in shown:
        versions = (row.missing,) if missing else (row.handled, row.known)
        table.add_row(
            row.domain,
            row.op_type,
            *(support_table.numbers(v) or "-" for v in versions),
            printable(row.note, 200),
        )
    if shown:
        console.print(table)
    console.print(support_table.totals(rows))


def comparison(
    found: Comparison, paths: tuple[Path, Path], stream: TextIO, *, show_all: bool = False
) -> None:
    """Two networks side by side, around the first difference."""
    console = _console(stream)
    counts = [sum(pair[side] is not None for pair in found.rows) for side in (0, 1)]
    verdict, style = _verdict(found)
    console.print(Text(f"{verdict}: {counts[0]} and {counts[1]} canonical layers", style=style))
    for name, (a, b, relative) in found.scores.items():
        console.print(f"  {name:24} {a:.6g}  {b:.6g}  (relative difference {relative:.2g})")
    first = found.first_difference
    around = range(len(found.rows)) if show_all else range(0)
    if first is not None and not show_all:
        around = range(max(first - _AROUND, 0), min(first + _AROUND + 1, len(found.rows)))
    if not around:
        return
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("")
    for path in paths:
        table.add_column(printable(path.name, 60), overflow="fold")
    for index in around:
        pair = found.rows[index]
        table.add_row(">" if index == first else "", *(_layer_cell(row) for row in pair))
    console.print(table)
    if first is not None:
        console.print(f"  first difference: {_difference(*found.rows[first])}")


def _verdict(found: Comparison) -> tuple[str, str]:
    if found.same:
        return "the same architecture", "bold green"
    if found.first_difference is not None:
        return "different architectures", "bold red"
    lowest = min(found.covered)
    return f"not known to be the same, as {_left_out(lowest)} of the weights are in no layer", "bold yellow"


def _left_out(share: float) -> str:
    return f"{math.ceil((1 - share) * 1000) / 10:g} %"


def _layer_cell(row: LayerRow | None) -> str:
    if row is None:
        return "—"
    return f"{row.depth}  {row.kind} {'x'.join(map(str, row.shape))}  {printable(row.name, 60)}"


def _difference(a: LayerRow | None, b: LayerRow | None) -> str:
    if a is None or b is None:
        return "a layer that the other model lacks"
    if a.kind != b.kind or a.shape != b.shape:
        return "kind or weight shape"
    return "depth" if a.depth != b.depth else "stride, groups, or the layers before and after"


def benchmark(found: Mapping[str, Any], stream: TextIO) -> None:
    """Kendall's tau of every measure with each data set's accuracies, the best measure first."""
    console = _console(stream)
    titles = list(found["measures"][0]["results"])
    title = f"Kendall tau (95 % interval), {found['architectures']} architectures"
    table = Table(box=box.SIMPLE, title=title)
    table.add_column("measure")
    for name in titles:
        table.add_column(name, justify="right")
    rows = [(row, [row["results"][name]["tau"] for name in titles]) for row in found["measures"]]
    for row, taus in sorted(rows, key=lambda item: -(item[1][0]["value"] or -1.0)):
        table.add_row(f"{row['group']}: {row['name']}", *map(with_interval, taus))
    console.print(table)
    for failure in found["failures"][:_STOPS_SHOWN]:
        where = f"{printable(failure['architecture'])} ({failure['protocol']})"
        console.print(f"failed: {where}: {failure['error']}")
    if len(found["failures"]) > _STOPS_SHOWN:
        console.print(f"… {len(found['failures']) - _STOPS_SHOWN} more failed; see summary.json")
