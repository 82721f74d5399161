"""The tables of the page of benchmarks, from stored records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import astuple
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from nas_studies import BOTH, SEED, Measured, SettingsRow

from intrain_onnx.bench import summary
from intrain_onnx.bench.across import Column, Taus, taus
from intrain_onnx.bench.measures import Measure, measures
from intrain_onnx.bench.ranking import Array, Interval, tau
from intrain_onnx.bench.records import Record
from intrain_onnx.bench.summary import Summary, accuracies
from intrain_onnx.bench.table import Entry
from intrain_onnx.report.numbers import decimals, with_interval
from intrain_onnx.scores.baselines import BASELINES
from intrain_onnx.scores.run_values import RunValues
from intrain_onnx.scores.variants import VARIANTS, inner_width, live_size, mean, width

ROUNDS = 1000
PAPER, TWIN = "InTrain, `paper`", "static twin of `volume`"
SIZE_AND_DEPTH = "log #Params x log(1 + layers)"
OVER = ("`volume`", TWIN, "`width_depth`", "InTrain")
"""Scores of the leading table, before the baselines."""

COUNTED = {
    "nasbench201": 1.0,
    "nasbench101": 1.0,
    "nats_size": 1.0,
    "macro": 1.0,
    "transnas_macro": 1.0,
    "nds_resnet/ResNet": 0.5,
    "nds_resnet/ResNeXt": 0.5,
    "torchvision": 1.0,
    "openlm": 1.0,
}
"""Weights in the mean over the spaces; NAS-Bench-NLP and the digits are shown beside it."""

SPLIT = ("nds_resnet", "digits")
"""Spaces whose families are columns of their own."""


def page(
    found: Sequence[Measured], settings: Sequence[SettingsRow], time: str, missing: Sequence[str]
) -> str:
    """The page: the template with its tables."""
    columns = [column for measured in found for column in columns_of(measured)]
    compared = taus(columns, rounds=ROUNDS, seed=SEED)
    summaries = [summary.summarise(m.entries, m.records, family=m.space.family, seed=SEED) for m in found]
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


def main_protocol(measured: Measured) -> str:
    """The protocol that columns show: the last one that was measured."""
    return measured.study.protocols[-1]


def columns_of(measured: Measured) -> Iterator[Column]:
    """A column of a space, and one of each family where families are shown apart."""
    name, family = measured.study.space, measured.space.family
    parts = {name: measured}
    if name in SPLIT and family is not None:
        families = sorted({family(entry.architecture) for entry in measured.entries})
        parts |= {f"{name}/{f}": measured.subset(partial(_is_of, family, f)) for f in families}
    for key, part in parts.items():
        yield Column(key, COUNTED.get(key, 0.0), accuracies(part.entries), compared_measures(part))


def _is_of(family: Callable[[str], str], name: str, entry: Entry) -> bool:
    return family(entry.architecture) == name


def compared_measures(measured: Measured) -> dict[str, Array]:
    """The measures of the leading table, by their labels there."""
    protocol = main_protocol(measured)
    by_key: dict[tuple[str, str], Measure] = {(m.group, m.name): m for m in measures(measured.records)}
    found = {f"`{name}`": by_key[protocol, name].values for name in VARIANTS}
    found["InTrain"] = by_key[protocol, "intrain"].values
    if ("paper", "intrain") in by_key:
        found[PAPER] = by_key["paper", "intrain"].values
    found[TWIN] = values_of(measured.records, protocol, lambda v: VARIANTS["volume"].compute(v.static()))
    return found | {b.title: by_key["baseline", b.title].values for b in BASELINES.values()}


def values_of(records: Sequence[Record], protocol: str, form: Callable[[RunValues], float]) -> Array:
    rows = (record.measured(protocol) for record in records)
    return np.array([np.nan if row is None else form(row.values) for row in rows])


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


def _titles(columns: Sequence[Column]) -> list[str]:
    return [column.name.replace("/", ", ") for column in columns]


def leading(compared: Taus) -> Iterator[str]:
    """Scores and baselines in every column, and their mean."""
    yield f"| Kendall tau | {' | '.join(_titles(compared.columns))} | mean (95 % interval) |"
    yield f"|---|{'---|' * (len(compared.columns) + 1)}"
    labels = [*OVER, PAPER, *(b.title for b in BASELINES.values())]
    for label in labels:
        cells = [decimals(compared.of(label, i).value) for i in range(len(compared.columns))]
        whole = with_interval(*astuple(compared.mean(label)))
        yield f"| {label} | {' | '.join(cells)} | {whole} |"


def differences(compared: Taus) -> Iterator[str]:
    """Mean of `volume` minus that of the others, paired."""
    yield "| mean tau of `volume` minus that of | difference (95 % interval) |"
    yield "|---|---|"
    for label in (TWIN, SIZE_AND_DEPTH, "`width_depth`", "InTrain", *(b.title for b in BASELINES.values())):
        if label != SIZE_AND_DEPTH or label in compared.taus:
            yield f"| {label} | {with_interval(*astuple(compared.mean_difference('`volume`', label)))} |"


def below(compared: Taus) -> Iterator[str]:
    """`volume` against #Params and its static twin in each column."""
    yield "| tau of `volume` minus that of | #Params | its static twin |"
    yield "|---|---|---|"
    for index, title in enumerate(_titles(compared.columns)):
        cells = [compared.difference("`volume`", other, index) for other in ("#Params", TWIN)]
        yield f"| {title} | {' | '.join(with_interval(*astuple(cell)) for cell in cells)} |"


def within(found: Sequence[tuple[Measured, Summary]]) -> Iterator[str]:
    """Tau among networks of equal depth, equal size, and one family, mean over the data sets."""
    yield "| space | measure | all | equal layers | fifths of #Params | families |"
    yield "|---|---|---|---|---|---|"
    for measured, result in found:
        for group, name in (
            (main_protocol(measured), "volume"),
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
    for label, values in compared_measures(measured).items():
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


WIDTHS: Mapping[str, Callable[[RunValues], float]] = {
    "cuts": width,
    "stages": lambda v: mean([mean(stage) for stage in v.stages]),
    "cuts and stages": inner_width,
    "all layers": lambda v: mean([x.log_corrected for x in v.layers if x.live]),
    "largest layer": lambda v: max((x.log_corrected for x in v.layers if x.live), default=0.0),
    "none": lambda v: 1.0,
}
DEPTHS: Mapping[str, Callable[[RunValues], float]] = {
    "log(1 + sum of log n)": live_size,
    "log(1 + live layers)": lambda v: float(np.log1p(len(v.live_layers))),
    "none": lambda v: 1.0,
}
EXTENTS: Mapping[str, Callable[[RunValues], float]] = {
    "log(1 + sum of PR times positions)": lambda v: float(np.log1p(v.extent)),
    "none": lambda v: 1.0,
}
SIZES: Mapping[str, Callable[[RunValues], float]] = {
    "log live weights": lambda v: float(np.log1p(sum(t.size for t in v.live_weights))),
    "none": lambda v: 1.0,
}


def forms_table(found: Sequence[Measured]) -> Iterator[str]:
    """Every product of one choice on each axis, by its mean; and the choice that leaves one space out."""
    kept = [c for m in found for c in form_columns(m) if c.weight]
    compared = taus(kept, rounds=0, seed=SEED)
    weights = np.array([c.weight for c in kept])
    values = {name: rows[:, 0] for name, rows in compared.taus.items()}
    ordered = sorted(values, key=lambda name: -float(np.average(values[name], weights=weights)))
    yield f"| width | depth | extent | size | {' | '.join(_titles(kept))} | mean |"
    yield f"|---|---|---|---|{'---|' * (len(kept) + 1)}"
    for name in ordered[:12]:
        cells = (decimals(float(value)) for value in values[name])
        mean_of = decimals(float(np.average(values[name], weights=weights)))
        yield f"| {name} | {' | '.join(cells)} | {mean_of} |"
    yield ""
    left = []
    spaces = np.array([c.name.partition("/")[0] for c in kept])
    for index, space in enumerate(spaces):
        others = spaces != space
        best = max(values, key=lambda name: float(np.average(values[name][others], weights=weights[others])))
        left.append(values[best][index])
    whole = decimals(float(np.average(left, weights=weights)))
    yield (
        f"{len(values)} forms. The best form of all other spaces, in the one that is left out: mean {whole} "
        f"({', '.join(f'{t} {decimals(float(v))}' for t, v in zip(_titles(kept), left, strict=True))})."
    )


def form_columns(measured: Measured) -> Iterator[Column]:
    protocol = main_protocol(measured)
    for column, part in zip(columns_of(measured), parts_of(measured), strict=True):
        forms = {}
        for (w, wf), (d, df), (e, ef), (s, sf) in product(
            WIDTHS.items(), DEPTHS.items(), EXTENTS.items(), SIZES.items()
        ):
            if {w, d, e, s} != {"none"}:
                form = partial(_product, (wf, df, ef, sf))
                forms[f"{w} | {d} | {e} | {s}"] = values_of(part.records, protocol, form)
        yield Column(column.name, column.weight, column.truth, forms)


def parts_of(measured: Measured) -> Iterator[Measured]:
    """The space, then its families, in the order of `columns_of`."""
    yield measured
    family = measured.space.family
    if measured.study.space in SPLIT and family is not None:
        for name in sorted({family(entry.architecture) for entry in measured.entries}):
            yield measured.subset(partial(_is_of, family, name))


def _product(factors: Sequence[Callable[[RunValues], float]], values: RunValues) -> float:
    return float(np.prod([factor(values) for factor in factors]))


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
    result = summary.summarise(part.entries, part.records, seed=SEED)
    heads = list(result.measures[0].results)
    yield f"| Kendall tau (95 % interval), {result.architectures} architectures | {' | '.join(heads)} |"
    yield f"|---|{'---|' * len(heads)}"
    for row in result.measures:
        cells = (with_interval(*astuple(row.results[head].tau)) for head in heads)
        yield f"| {row.group}: {row.name} | {' | '.join(cells)} |"


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
