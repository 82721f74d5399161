"""Tables of names and values: settings, environment, and parts that later versions of a report may have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from intrain_onnx.report.derived import count
from intrain_onnx.report.page.numbers import decimal, power, quantity, shape

Row = Mapping[str, Any]
Pairs = list[tuple[str, str]]

_MOST_ITEMS = 8


def model(data: Row) -> Pairs:
    """What the model is, in a few facts."""
    found = data["model"]
    opsets = ", ".join(
        str(v) if k == "ai.onnx" else f"{k} {v}" for k, v in sorted(found["opset_imports"].items())
    )
    return [
        ("Producer", found["producer"] or "unknown"),
        ("Opset", opsets),
        ("#Params", count(found["parameters"])),
        ("MACs a sample", count(found["macs"])),
        ("Canonical layers", str(found["canonical_layers"])),
        ("Nodes", str(found["nodes"])),
        *((f"Input {v['name']}", _value(v)) for v in found["inputs"]),
        *((f"Output {v['name']}", _value(v)) for v in found["outputs"]),
    ]


def _value(value: Row) -> str:
    return f"{value['dtype'] or 'unknown type'} {shape(value['shape'])}"


def facts(data: Row) -> list[tuple[str, Pairs]]:
    """How the score was made: settings, data, nodes, environment, times."""
    settings = {k: v for k, v in data["settings"].items() if k not in ("inputs_fed", "losses")}
    fed = [(f"input {i['name']}", f"{i['kind']} {shape(i['shape'])}") for i in data["settings"]["inputs_fed"]]
    losses = [
        (
            f"loss of {row['output']}",
            f"{row['loss'] or 'none'} at {row['attached_to']}, {short(row['value'])}",
        )
        for row in data["settings"]["losses"]
    ]
    environment = data["environment"]
    machine = {k: v for k, v in environment.items() if k != "packages"}
    versions = [(k, short(v)) for k, v in environment["packages"].items()]
    file = {k: data["model"][k] for k in ("path", "sha256", "bytes", "ir_version")}
    return [
        ("Settings", _pairs(settings)),
        ("Inputs and losses", fed + losses),
        ("Fate of the nodes", _pairs(data["nodes"])),
        (
            "Environment",
            [*_pairs(machine), ("intrain-onnx", short(data["tool"]["version"])), *versions],
        ),
        ("File", _pairs(file) + [(k, v) for k, v in data["model"]["external_sha256"].items()]),
        ("Times in seconds", [(k, decimal(v, 2)) for k, v in data["timings_s"].items()]),
    ]


def _pairs(values: Row) -> Pairs:
    return [(k.replace("_", " "), short(v)) for k, v in values.items()]


def short(value: Any) -> str:
    """A JSON value in a few words."""
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


def generic(value: Any) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a table of what is not known beforehand: names with values, or with records.

    >>> generic({"full": 1.5, "plain": 2.0})
    (['name', 'value'], [['full', '1.5'], ['plain', '2']])
    >>> generic({"naswot": {"values": {"naswot": 3.0}, "error": None}})
    (['name', 'values'], [['naswot', '3']])
    """
    if isinstance(value, Mapping):
        records = [{"name": k, **(v if isinstance(v, Mapping) else {"value": v})} for k, v in value.items()]
    elif isinstance(value, (list, tuple)):
        records = [dict(v) if isinstance(v, Mapping) else {"value": v} for v in value]
    else:
        records = [{"value": value}]
    records = [{k: _alone(v, record.get("name")) for k, v in record.items()} for record in records]
    header = list(dict.fromkeys(k for record in records for k, v in record.items() if v is not None))
    rows = [["" if record.get(k) is None else short(record[k]) for k in header] for record in records]
    return [k.replace("_", " ") for k in header], rows


def _alone(value: Any, name: Any) -> Any:
    """A value that stands alone under its record's own name."""
    return value[name] if isinstance(value, Mapping) and list(value) == [name] else value
