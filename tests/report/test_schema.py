"""The schema of a report says of every number what it is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from intrain_onnx.report.document import schema

SCHEMA = schema()


def numbers(node: dict[str, Any], path: str = "") -> Iterator[tuple[str, bool]]:
    """Every property that holds a number, or a list of them, by its path; and whether it is explained."""
    row = node["$ref"].rpartition("/")[2] if "$ref" in node else None
    node = SCHEMA["$defs"][row] if row else node
    for name, value in node.get("properties", {}).items():
        place = f"{path}.{name}"
        if holds_a_number(value):
            yield place, "description" in value
        yield from inside(value, place)


def inside(value: dict[str, Any], place: str) -> Iterator[tuple[str, bool]]:
    yield from numbers(value, place)
    for key in ("items", "additionalProperties"):
        if isinstance(value.get(key), dict):
            yield from inside(value[key], f"{place}[]")
    for choice in value.get("anyOf", []):
        yield from inside(choice, place)


def holds_a_number(value: dict[str, Any]) -> bool:
    kinds = value.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    within = [v for k in ("additionalProperties", "items") if isinstance(v := value.get(k), dict)]
    return bool({"number", "integer"} & set(kinds)) or any(
        holds_a_number(choice) for choice in [*value.get("anyOf", []), *within]
    )


def test_every_number_is_explained():
    found = dict(numbers(SCHEMA))
    assert len(found) > 60
    assert [place for place, explained in found.items() if not explained] == []
