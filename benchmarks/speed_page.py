"""The page of the benchmark of speed, written from its results: tables, goals beside what was measured."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from speed_nets import NETS
from speed_runs import STAGES, line, ratios, seconds_of, spread

Results = Mapping[str, Any]

COLUMNS = {
    "draw": "drawing",
    "probe": "probe alone",
    "architecture": "seed of `architecture`",
    "projections": "with 128 projections",
    "checkpoint": "of `checkpoint`",
    "paper": "of `paper`",
    "eigvalsh": "eigvalsh script",
    "zico": "ZiCo",
    "naswot": "NASWOT",
}
"""Calls that are shown as ratios to the bare pass."""

SEED_GOALS = {
    "resnet50": 1.15,
    "vit_s": 1.15,
    "encoder": 1.15,
    "mobilenet": 1.30,
    "efficientnet": 1.30,
    "lstm": 1.15,
    "tiny_linear": 2.0,
}
"""Most that one seed of `architecture` may take, in bare passes."""

CONVERTED = ("resnet50", "convnext", "swin", "vit_b", "encoder")
"""Networks whose converted module may take at most 1.05 times native torch, and less than onnx2torch's."""

WIDE = ("resnet50", "vit_b")
"""Networks with wide layers: the script with eigenvalues takes at least three times as long."""


def page(results: Results, before: Results | None = None) -> str:
    """The whole page in Markdown."""
    parts = [_head(results)]
    if results["times"]:
        parts += [_times(results), _modules(results)]
    parts += _sections(results)
    parts.append(_goals(results, before))
    if results.get("profiles"):
        parts.append(_profiles(results["profiles"], before))
    return "\n\n".join(parts) + "\n"


def _sections(results: Results) -> Iterable[str]:
    """The sections of what was measured besides times."""
    made: Mapping[str, Callable[[Any], str]] = {
        "studies": _studies,
        "nodes": _nodes,
        "bench": _bench,
        "score": _score,
        "memory": _memory,
    }
    return (section(results[key]) for key, section in made.items() if results.get(key))


def _head(results: Results) -> str:
    place = f"{results['machine']}, torch {results['torch']}"
    return f"""# Speed

Written by `benchmarks/speed.py`: {place}. All that stands in one row of
a table ran in turn in one process, round by round, and ratios are taken within a round: medians, with
quartiles in brackets; sections can be of different runs. The *bare pass* is the forward and backward pass
of the converted module with cross-entropy, nothing measured; a *seed* is what a score does for one, the
drawing of the weights apart."""


def _times(results: Results) -> str:
    head = ["network", "input", "bare pass, ms", *COLUMNS.values()]
    rows = []
    for name, times in results["times"].items():
        net = NETS[name]
        middle, low, high = (1000 * v for v in spread(times["bare"]))
        bare = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        rows.append([net.title, net.size, bare, *(_ratio(ratios(times, column)) for column in COLUMNS)])
    text = (
        "Ratios to the bare pass. The scripts of the last three columns are what a user would write in\n"
        "torch (`benchmarks/speed_rivals.py`): activations kept by hooks and `torch.linalg.eigvalsh` of\n"
        "each covariance; two passes for ZiCo; one forward pass for NASWOT."
    )
    return f"## One seed against the bare pass\n\n{text}\n\n{_table(head, rows)}"


def _modules(results: Results) -> str:
    rows = []
    for name, times in results["times"].items():
        if times.get("native"):
            row = [NETS[name].title, _ratio(ratios(times, "bare", "native"))]
            rows.append([*row, _ratio(ratios(times, "onnx2torch", "native"))])
    head = ["network", "converted module", "onnx2torch's module"]
    text = "Forward and backward pass over that of the same network as it is written in torch."
    return f"## The converted module\n\n{text}\n\n{_table(head, rows)}"


def _studies(studies: Results) -> str:
    rows = []
    for name, points in studies.items():
        offset, slope, worst = line(points)
        cost = ", ".join(f"{x:g}: {1000 * y:.1f}" for x, y in points)
        rows.append([name, cost, f"{1000 * offset:.1f} + {1000 * slope:.3g} x", f"{100 * worst:.0f} %"])
    text = (
        "One seed of `architecture` in ms: ResNet-18 over samples at 64 pixels, over pixels with 4 samples,\n"
        "and linear layers of 64 over their number. The largest residual is relative to what was measured."
    )
    head = ["what grows", "cost", "straight line", "largest residual"]
    return f"## Scaling\n\n{text}\n\n{_table(head, rows)}"


def _nodes(nodes: Sequence[Results]) -> str:
    head = ["nodes", *(f"{stage}, µs a node" for stage in STAGES), "all, s", "over onnx"]
    rows = []
    for found in nodes:
        count = found["nodes"]
        costs = [f"{1e6 * found[stage] / count:.0f}" for stage in STAGES]
        rows.append([f"{count:.0f}", *costs, f"{_whole(found):.2f}", f"{_whole(found) / found['onnx']:.1f}"])
    text = (
        "A chain of linear layers with ReLU, from the file to the converted module, and all of it over\n"
        "`onnx.load` and one `infer_shapes`."
    )
    return f"## Before the probe\n\n{text}\n\n{_table(head, rows)}"


def _whole(found: Results) -> float:
    return float(sum(found[stage] for stage in STAGES))


def _bench(found: Results) -> str:
    return (
        "## Bench\n\nAn architecture of NAS-Bench-201, one seed, without proxies: "
        f"{found['seconds']:.3f} s;\nits bare pass {found['bare']:.3f} s; over the bare pass and 0.1 s "
        f"{_ratio(found['ratio'])}."
    )


def _score(found: Results) -> str:
    return (
        "## A whole score\n\n`score --seeds 1 --no-parity` of ResNet-50 as a process: "
        f"{found['score']:.1f} s; a script that\nimports torch, loads the same network and runs one pass: "
        f"{found['bare']:.1f} s; ratio {_ratio(found['ratio'])}."
    )


def _memory(memory: Results) -> str:
    rows = [
        [NETS[name].title, *(f"{found[k] / 2**20:.0f}" if k in found else "-" for k in _PEAKS),
         f"{found['seed'] / found['bare']:.2f}"]
        for name, found in memory.items()
    ]  # fmt: skip
    text = "Peaks above what was there before the pass, each in a process of its own, in MiB."
    head = ["network", "bare pass", "one seed", "eigvalsh script", "seed over bare"]
    return f"## Memory\n\n{text}\n\n{_table(head, rows)}"


_PEAKS = ("bare", "seed", "eigvalsh")


def goals(results: Results) -> Iterable[tuple[str, str, float, bool]]:
    """Each figure with a goal that was measured: in words, the goal, what it is, and whether it is met."""
    times = results["times"]
    for name, most in SEED_GOALS.items():
        yield from _most(f"one seed over the bare pass, {_title(name)}", most, times, name, "architecture")
    for name in CONVERTED:
        yield from _most(
            f"converted module over native torch, {_title(name)}", 1.05, times, name, "bare", "native"
        )
        rival = ratios(times.get(name, {}), "bare", "onnx2torch")
        if rival:
            yield f"converted module over onnx2torch's, {_title(name)}", "below 1", rival[0], rival[0] < 1
    for name in WIDE:
        rival = ratios(times.get(name, {}), "eigvalsh", "architecture")
        if rival:
            yield f"eigvalsh script over one seed, {_title(name)}", "at least 3", rival[0], rival[0] >= 3
    for name, peaks in results.get("memory", {}).items():
        over = peaks["seed"] / peaks["bare"]
        yield f"peak memory over the bare pass, {_title(name)}", "at most 1.05", over, over <= 1.05
        if "eigvalsh" in peaks:
            part = peaks["seed"] / peaks["eigvalsh"]
            yield f"peak memory over the eigvalsh script, {_title(name)}", "at most 0.5", part, part <= 0.5
    yield from _other_goals(results)


def _other_goals(results: Results) -> Iterable[tuple[str, str, float, bool]]:
    for found in results.get("nodes", ()):
        over = _whole(found) / found["onnx"]
        text = f"load to converted module over onnx's load and inference, {found['nodes']:.0f} nodes"
        yield text, "at most 4", over, over <= 4
    if results.get("bench"):
        over = results["bench"]["ratio"][0]
        text = "bench of NAS-Bench-201, an architecture over its bare pass and 0.1 s"
        yield text, "at most 1.5", over, over <= 1.5
    if results.get("score"):
        found = results["score"]
        text = "whole score over a bare script, ResNet-50"
        yield text, "at most 1.5", found["ratio"][0], found["ratio"][0] <= 1.5
        if "resnet50" in results.get("memory", {}):
            over = found["peak"] / (found["weights"] + results["memory"]["resnet50"]["bare"])
            text = "peak of a whole score over weights and the bare pass, ResNet-50"
            yield text, "at most 1.2", over, over <= 1.2
    for name, points in results.get("studies", {}).items():
        worst = line(points)[2]
        yield f"residual to a straight line, {name}", "at most 0.1", worst, worst <= 0.1


def _most(
    text: str, most: float, times: Results, name: str, call: str, to: str = "bare"
) -> Iterable[tuple[str, str, float, bool]]:
    found = ratios(times.get(name, {}), call, to)
    if found:
        yield text, f"at most {most:g}", found[0], found[0] <= most


def _title(name: str) -> str:
    return NETS[name].title


def _goals(results: Results, before: Results | None) -> str:
    earlier = {text: value for text, _, value, _ in goals(before)} if before else {}
    beside = bool(earlier)
    rows = []
    for text, goal, value, met in goals(results):
        old = [f"{earlier[text]:.2f}" if text in earlier else "-"] if beside else []
        rows.append([text, goal, *old, _shown(value, met)])
    head = ["figure", "goal", *(["before"] if beside else []), "measured"]
    return f"## Goals\n\nWhat misses its goal is in bold.\n\n{_table(head, rows)}"


def _shown(value: float, met: bool) -> str:
    return f"{value:.2f}" if met else f"**{value:.2f}**"


def with_parts(text: str, results: Results, before: Results | None = None) -> str:
    """A page with the sections and goals of what was measured exchanged, and all else as it is."""
    for section in _sections(results):
        text = _exchanged(text, section)
    if results.get("profiles"):
        text = _exchanged(text, _profiles(results["profiles"], before))
    for figure, goal, value, met in goals(results):
        old = re.search(rf"^\| {re.escape(figure)} \| .*\n", text, flags=re.M)
        made = f"| {figure} | {goal} | {_shown(value, met)} |\n"
        if old is not None:
            text = text[: old.start()] + made + text[old.end() :]
        else:
            end = re.search(r"## Goals\n.*?\|\n(?!\|)", text, flags=re.S)
            assert end is not None, "every page has goals"
            text = f"{text[: end.end()]}{made}{text[end.end() :]}"
    return text


def _exchanged(text: str, section: str) -> str:
    """A page with another section of the same title."""
    start = text.index(section[: section.index("\n") + 1])
    end = text.find("\n## ", start)
    return text[:start] + section + ("\n" if end < 0 else f"\n{text[end:]}")


def _profiles(profiles: Results, before: Results | None) -> str:
    text = "The operators that take most, by their own time (`torch.profiler`)"
    earlier: Results = (before or {}).get("profiles", {})
    if before and earlier:
        text += f", now and before: {before.get('state', 'an earlier state')}"
    parts = [f"{_PROFILES}\n\n{textwrap.fill(f'{text}.', 110)}"]
    for name, found in profiles.items():
        for kind, title in _KINDS.items():
            old = earlier.get(name, {}).get(kind)
            parts.append(f"### {_title(name)}, {title}\n\n{_profile(found[kind], old)}")
    return "\n\n".join(parts)


_PROFILES = "## Profiles"
_KINDS = {"bare": "bare pass", "architecture": "one seed of `architecture`"}
_SHOWN = 12
"""Operators of a profile that are shown, of each state."""


def _profile(found: Sequence[Any], old: Sequence[Any] | None) -> str:
    head = ["operator", "calls", "ms", "share"]
    states = [found] if old is None else [old, found]
    if old is not None:
        head = [head[0], *(f"{column} {when}" for when in ("before", "now") for column in head[1:])]
    cells = [
        {name: [str(n), f"{1000 * s:.1f}", f"{100 * p:.0f} %"] for name, n, s, p in rows} for rows in states
    ]
    names = dict.fromkeys(row[0] for rows in reversed(states) for row in rows[:_SHOWN])
    rows = [[f"`{name}`", *(x for of in cells for x in of.get(name, ["-"] * 3))] for name in names]
    everything = (["", f"{1000 * seconds_of(rows):.1f}", "100 %"] for rows in states)
    return _table(head, [*rows, ["all", *(x for of in everything for x in of)]])


def _ratio(found: Sequence[float] | None) -> str:
    if found is None:
        return "-"
    middle, low, high = found
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in lines)
