"""The tables of the page of benchmarks, from stored records."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple
from itertools import product
from pathlib import Path

import numpy as np
from nas_forms import forms, forms_table, reach_table
from nas_studies import BOTH, COUNTED, SEED, Measured, SettingsRow, parts_of, titles

from intrain_onnx.bench import summary
from intrain_onnx.bench.across import Column, Taus, taus
from intrain_onnx.bench.measures import Measure, measures, twin_group
from intrain_onnx.bench.ranking import worst_where_missing
from intrain_onnx.bench.summary import Summary, accuracies
from intrain_onnx.report.numbers import decimals, with_interval
from intrain_onnx.scores.baselines import BASELINES
from intrain_onnx.scores.rank_correlation import Array, Interval, tau
from intrain_onnx.scores.variants import VARIANTS

ROUNDS = 1000
NAMED = {"intrain": "InTrain"} | {name: f"`{name}`" for name in VARIANTS}
"""Labels of the named scores."""

PAPER, VOLUME, WIDTH_DEPTH = "InTrain, `paper`", "`volume`", "`width_depth`"
TWINS = tuple(f"static twin of {label}" for label in NAMED.values())
PARAMETERS, SIZE_AND_DEPTH = (BASELINES[name].title for name in ("parameters", "parameters_and_layers"))
LOST = -0.05
"""A difference that is said in words where it is larger."""


def page(
    found: Sequence[Measured], settings: Sequence[SettingsRow], time: str, missing: Sequence[str]
) -> str:
    """The page: the template with its tables."""
    columns = [column for measured in found for column in columns_of(measured)]
    compared = taus(columns, rounds=ROUNDS, seed=SEED)
    summaries = [summarised(m) for m in found]
    by_space = {m.study.space: (m, s) for m, s in zip(found, summaries, strict=True)}
    with_proxies = [(m, s) for m, s in by_space.values() if m.study.proxies]
    parts: dict[str, Iterable[str]] = {
        "samples": samples(found, missing),
        "leading": leading(compared),
        "differences": differences(compared),
        "below": below(compared),
        "within": within(list(by_space.values())),
        "zoo": zoo(by_space["torchvision"][0]) if "torchvision" in by_space else (),
        "forms": forms_table(found),
        "reaches": reach_table(found),
        "form count": [str(len(forms()))],
        "taus": every_measure(with_proxies),
        "subset": reachable(by_space["nasbench201"][0]) if "nasbench201" in by_space else (),
        "ablation": ablation(list(by_space.values())),
        "settings": settings_table(settings),
        "seconds": [time],
    }
    text = (Path(__file__).parent / "nas_page.md").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", "\n".join(part))
    return text


def took(seconds: float, workers: int) -> str:
    """The time of all measuring, from the seconds of its workers."""
    cores = len(os.sched_getaffinity(0))
    return f"{seconds / workers / 60:.0f} minutes with {workers} workers on {cores} cores"


def summarised(measured: Measured) -> Summary:
    """All statistics of a space."""
    family = measured.space.family
    return summary.summarise(
        measured.entries, measured.records, family=family, seed=SEED, rounds=summary.ROUNDS
    )


def columns_of(measured: Measured) -> Iterator[Column]:
    """A column of a space, and one of each family where families are shown apart."""
    for key, part in parts_of(measured):
        yield Column(key, COUNTED.get(key, 0.0), accuracies(part.entries), compared_measures(part))


def compared_measures(measured: Measured) -> dict[str, Array]:
    """The measures of the leading table, by their labels there."""
    protocol = measured.study.protocols[-1]
    by_key: dict[tuple[str, str], Measure] = {(m.group, m.name): m for m in measures(measured.records)}
    found = {}
    for name, label in NAMED.items():
        found[label] = by_key[protocol, name].values
        found[f"static twin of {label}"] = by_key[twin_group(protocol), name].values
    if ("paper", "intrain") in by_key:
        found[PAPER] = by_key["paper", "intrain"].values
    return found | {b.title: by_key["baseline", b.title].values for b in BASELINES.values()}


def samples(found: Sequence[Measured], missing: Sequence[str]) -> Iterator[str]:
    for m in found:
        study, space = m.study, m.space
        words = [f"- {space.title}: {len(m.entries)} architectures"]
        if study.where:
            words.append(f"rows with `{study.where}`")
        if study.left_out:
            words.append(f"without {study.left_out}, for their cost")
        words.append(f"{space.batch} samples of size {space.size}")
        failed = sum(any(r.measured(p) is None for p in r.protocols) for r in m.records)
        words.append(f"{failed} failed")
        twins = ", nor an isomorphic twin of one" if study.twins else ""
        words.append(
            f"none that a score was chosen on{twins}"
            if study.fresh
            else "**`volume` was chosen on rows of these**"
        )
        yield ", ".join(words) + "."
    for name in missing:
        yield f"- Left out, as the table was not there: `{name}`."


def leading(compared: Taus) -> Iterator[str]:
    """Scores and baselines in every column, and their mean."""
    yield f"| Kendall tau | {' | '.join(titles(compared.columns))} | mean (95 % interval) |"
    yield f"|---|{'---|' * (len(compared.columns) + 1)}"
    labels = [VOLUME, f"static twin of {VOLUME}", WIDTH_DEPTH, "InTrain", PAPER, *_baselines()]
    for label in labels:
        cells = [decimals(compared.of(label, i).value) for i in range(len(compared.columns))]
        whole = with_interval(*astuple(compared.mean(label)))
        yield f"| {label} | {' | '.join(cells)} | {whole} |"


def _baselines() -> list[str]:
    return [baseline.title for baseline in BASELINES.values()]


def differences(compared: Taus) -> Iterator[str]:
    """Mean of `volume` minus that of the others, paired."""
    best = max(TWINS, key=lambda label: compared.mean(label).value or 0.0)
    yield "| mean tau of `volume` minus that of | difference (95 % interval) |"
    yield "|---|---|"
    for label in (*TWINS, SIZE_AND_DEPTH, PARAMETERS, WIDTH_DEPTH, "InTrain", *_baselines()[1:-1]):
        which = " (the best twin)" if label == best else ""
        yield f"| {label}{which} | {with_interval(*astuple(compared.mean_difference(VOLUME, label)))} |"


AGAINST = (PARAMETERS, SIZE_AND_DEPTH, f"static twin of {VOLUME}", WIDTH_DEPTH, "InTrain")


def below(compared: Taus) -> Iterator[str]:
    """`volume` against #Params, its static twin and the other scores in each column."""
    yield f"| tau of `volume` minus that of | {' | '.join(AGAINST)} |"
    yield f"|---|{'---|' * len(AGAINST)}"
    for index, title in enumerate(titles(compared.columns)):
        cells = [compared.difference(VOLUME, other, index) for other in AGAINST]
        yield f"| {title} | {' | '.join(with_interval(*astuple(cell)) for cell in cells)} |"
    yield ""
    for other in AGAINST:
        lost = ", ".join(_lost(compared, other)) or "nowhere"
        yield f"- More than {-LOST:g} below {other}: {lost}."


def _lost(compared: Taus, other: str) -> Iterator[str]:
    for index, title in enumerate(titles(compared.columns)):
        value = compared.difference(VOLUME, other, index).value
        if value is not None and value < LOST:
            yield f"{title} ({decimals(value)})"


def within(found: Sequence[tuple[Measured, Summary]]) -> Iterator[str]:
    """Tau among networks of equal depth, equal size, and one family, mean over the data sets."""
    yield "| space | measure | all | equal layers | fifths of #Params | families |"
    yield "|---|---|---|---|---|---|"
    for measured, result in found:
        for group, name in (
            (measured.study.protocols[-1], "volume"),
            ("baseline", "#Params"),
            ("baseline", SIZE_AND_DEPTH),
        ):
            row = next(r for r in result.measures if (r.group, r.name) == (group, name))
            rankings = list(row.results.values())
            cells = [_mean([r.tau for r in rankings])]
            for key in (summary.EQUAL_LAYERS, summary.EQUAL_SIZE, summary.FAMILIES):
                cells.append(_mean([r.within[key] for r in rankings if key in r.within]))
            yield f"| {measured.space.title} | {name} | {' | '.join(cells)} |"


def _mean(found: Sequence[Interval]) -> str:
    values = [i.value for i in found if i.value is not None]
    return decimals(float(np.mean(values))) if values else ""


def zoo(measured: Measured) -> Iterator[str]:
    """Pairs within a family in order, and Kendall's tau of the families' medians."""
    family = measured.space.family
    assert family is not None
    names = np.array([family(entry.architecture) for entry in measured.entries])
    truth = next(iter(accuracies(measured.entries).values()))
    yield "| measure | pairs within families in order | tau of the families' medians |"
    yield "|---|---|---|"
    for label, found in compared_measures(measured).items():
        values = worst_where_missing(found)
        right = pairs = 0
        for i, j in product(range(len(names)), repeat=2):
            if names[i] == names[j] and truth[i] > truth[j]:
                pairs += 1
                right += int(values[i] > values[j])
        medians = [
            (np.median(values[names == n]), np.median(truth[names == n])) for n in dict.fromkeys(names)
        ]
        x, y = map(np.array, zip(*medians, strict=True))
        yield f"| {label} | {right} of {pairs} | {decimals(tau(x, y))} |"


def every_measure(found: Sequence[tuple[Measured, Summary]]) -> Iterator[str]:
    heads = [
        (s, dataset, f"{m.space.title} {dataset}") for m, s in found for dataset in s.measures[0].results
    ]
    yield f"| Kendall tau (95 % interval) | {' | '.join(head for *_, head in heads)} | s |"
    yield f"|---|{'---|' * (len(heads) + 1)}"
    if not found:
        return
    for first in found[0][1].measures:
        cells = []
        for result, dataset, _ in heads:
            row = next((r for r in result.measures if (r.group, r.name) == (first.group, first.name)), None)
            cells.append(with_interval(*astuple(row.results[dataset].tau)) if row else "")
        seconds = "" if first.seconds is None else f"{first.seconds:.2f}"
        yield f"| {first.group}: {first.name} | {' | '.join(cells)} | {seconds} |"


def reachable(measured: Measured) -> Iterator[str]:
    """NAS-Bench-201 without what is cut off."""
    rows = measured.rows
    names = {measured.space.describe(row) for row in rows if row["reachable_only"] == "1"}
    part = measured.subset(lambda entry: entry.architecture in names)
    result = summarised(part)
    heads = list(result.measures[0].results)
    yield f"| Kendall tau (95 % interval), {result.architectures} architectures | {' | '.join(heads)} |"
    yield f"|---|{'---|' * len(heads)}"
    for row in result.measures:
        cells = (with_interval(*astuple(row.results[head].tau)) for head in heads)
        yield f"| {row.group}: {row.name} | {' | '.join(cells)} |"
    yield from over_aggregates(part)


def over_aggregates(measured: Measured) -> Iterator[str]:
    """`volume` minus the aggregates of proxies, paired, in each data set."""
    found = {m.name: m.values for m in measures(measured.records) if m.group == "aggregate"}
    if not found:
        return
    found[VOLUME] = compared_measures(measured)[VOLUME]
    truth = accuracies(measured.entries)
    compared = taus([Column(t, 1.0, {t: y}, found) for t, y in truth.items()], rounds=ROUNDS, seed=SEED)
    yield ""
    yield f"| tau of `volume` minus that of | {' | '.join(titles(compared.columns))} |"
    yield f"|---|{'---|' * len(truth)}"
    for name in sorted(found.keys() - {VOLUME}):
        cells = (with_interval(*astuple(compared.difference(VOLUME, name, i))) for i in range(len(truth)))
        yield f"| {name} | {' | '.join(cells)} |"


def ablation(found: Sequence[tuple[Measured, Summary]]) -> Iterator[str]:
    """Forms of the paper's score under `architecture`, mean over the data sets of a space."""
    shown = [(m, s.ablation["architecture"]) for m, s in found if "architecture" in s.ablation]
    yield f"| axis | choice | {' | '.join(m.space.title for m, _ in shown)} |"
    yield f"|---|---|{'---|' * len(shown)}"
    for place, first in enumerate(shown[0][1] if shown else ()):
        cells = []
        for _, rows in shown:
            values = [v for v in rows[place].tau.values() if v is not None]
            cells.append(decimals(float(np.mean(values))) if values else "")
        yield f"| {first.axis} | {first.choice} | {' | '.join(cells)} |"


def settings_table(rows: Sequence[SettingsRow]) -> Iterator[str]:
    scores = [(r.group, r.name) for r in rows[0].measures if r.group in BOTH] if rows else []
    yield f"| images | {' | '.join(f'{group}: {name}' for group, name in scores)} | seconds, architecture |"
    yield f"|---|{'---|' * (len(scores) + 1)}"
    for row in rows:
        by_name = {(r.group, r.name): r for r in row.measures}
        cells = (decimals(by_name[key].results["CIFAR-10"].tau.value) for key in scores)
        seconds = by_name["architecture", "intrain"].seconds
        yield f"| {row.batch} of {row.size}x{row.size} | {' | '.join(cells)} | {seconds:.2f} |"
