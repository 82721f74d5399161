"""Tables of names and values: settings, environment, and optional parts of a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from intrain_onnx.report.numbers import count, decimal, power, quantity, shape, tally
from intrain_onnx.report.page.shown import Pairs, Table
from intrain_onnx.report.rows import Document, FedInput, FreeSize, NamedScore, Proxy, Row, Standing, Value
from intrain_onnx.scores.baselines import BASELINES

_MOST_ITEMS = 8


def model(report: Document) -> Pairs:
    """Producer, opsets, sizes, inputs and outputs of the model, as names and values."""
    found = report.model
    opsets = ", ".join(
        str(v) if k == "ai.onnx" else f"{k} {v}" for k, v in sorted(found.opset_imports.items())
    )
    return [
        ("Producer", found.producer or "unknown"),
        ("Opset", opsets),
        ("Parameters", count(found.parameters)),
        ("MACs a sample", count(found.macs)),
        ("Canonical layers", str(found.canonical_layers)),
        ("Nodes", str(found.nodes)),
        *((f"Input {v.name}", _value(v)) for v in found.inputs),
        *((f"Output {v.name}", _value(v)) for v in found.outputs),
    ]


def _value(value: Value) -> str:
    return f"{value.dtype or 'unknown type'} {shape(value.shape)}"


def facts(report: Document) -> list[tuple[str, Pairs]]:
    """Provenance of the score: settings, inputs, nodes, environment, times."""
    settings, environment, file = report.settings, report.environment, report.model
    fed = [(f"input {x.name}", _fed(x)) for x in settings.inputs_fed]
    losses = [
        (f"loss of {x.output}", f"{x.loss or 'none'} at {x.attached_to}, {short(x.value)}")
        for x in settings.losses
    ]
    free = [x for x in settings.free_sizes if x.source != "samples"]
    sizes = dict.fromkeys((x.name or f"axis {x.axis} of {x.input}", _size(x)) for x in free)
    return [
        ("Settings", _pairs(settings, but=("inputs_fed", "free_sizes", "losses"))),
        ("Inputs and losses", fed + losses),
        *([("Among reference networks", _standing(report.standing))] if report.standing else []),
        *([("Sizes that the file leaves open", [*sizes])] if sizes else []),
        ("Fate of the nodes", _pairs(report.nodes)),
        (
            "Environment",
            [
                *_pairs(environment, but=("packages",)),
                ("intrain-onnx", short(report.tool.version)),
                *((name, short(version)) for name, version in environment.packages.items()),
            ],
        ),
        (
            "File",
            [
                ("path", short(file.path)),
                ("sha256", file.sha256),
                ("bytes", short(file.bytes)),
                ("ir version", short(file.ir_version)),
                *file.external_sha256.items(),
            ],
        ),
        ("Times in seconds", [(k, decimal(v, 2)) for k, v in report.timings_s.items()]),
    ]


def _standing(found: Standing) -> Pairs:
    percentiles = [(f"{name}, percentile", f"{value:.0f} %") for name, value in found.percentiles.items()]
    reason = [("no percentile", found.reason)] if found.reason else []
    nearest = [("nearest", short(found.neighbours)), ("networks", str(found.networks))]
    return [*reason, *percentiles, ("rule", found.rule), *([] if found.reason else nearest)]


def _fed(row: FedInput) -> str:
    told = f"{row.kind} {shape(row.shape)}"
    return told if row.sha256 is None else f"{told}, {row.source}, sha256 {row.sha256}"


def _size(row: FreeSize) -> str:
    told = f"{row.size}, {row.source}"
    return told if row.reason is None else f"{told}: {row.reason}"


def _pairs(row: Row, but: Sequence[str] = ()) -> Pairs:
    """Names and formatted values of all fields of a row except ``but``."""
    names = [name for name in row.__struct_fields__ if name not in but]
    return [(name.replace("_", " "), short(getattr(row, name))) for name in names]


def short(value: object) -> str:
    """A JSON value as a short text."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return power(value) if value and abs(value) < 1e-3 else quantity(value)
    if isinstance(value, Mapping):
        return _some([f"{k} {short(v)}" for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return _some([short(v) for v in value])
    return str(value)


def _some(items: Sequence[str]) -> str:
    more = [f"and {len(items) - _MOST_ITEMS} more"] if len(items) > _MOST_ITEMS else []
    return ", ".join([*items[:_MOST_ITEMS], *more]) or "none"


def scores(named: Mapping[str, NamedScore]) -> Table:
    """Table of the paper's score and its variants, with their static twins."""
    return _table(
        [
            {
                "name": name,
                "value": x.value,
                "standard error": x.standard_error,
                "static twin": x.static,
            }
            for name, x in named.items()
        ]
    )


def baselines(values: Mapping[str, float | None]) -> Table:
    """Table of what can be counted without measuring, which a score has to beat."""
    rows = [[b.title, tally(values.get(name)), b.meaning] for name, b in BASELINES.items()]
    return ["baseline", "value", "what it is"], rows


def proxies(named: Mapping[str, Proxy]) -> Table:
    """Table of other proxies; a proxy with a single part of the same name has that name only once."""
    return _table(
        [
            {
                "name": name,
                "values": x.values[name] if list(x.values) == [name] else x.values,
                "direction": x.direction,
                "error": x.error,
            }
            for name, x in named.items()
        ]
    )


def _table(records: Sequence[Mapping[str, object]]) -> Table:
    """A table with the columns in which at least one record has a value."""
    header = list(dict.fromkeys(k for record in records for k, v in record.items() if v is not None))
    rows = [["" if record[k] is None else short(record[k]) for k in header] for record in records]
    return header, rows
