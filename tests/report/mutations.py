"""Documents that differ from a given one in one place, to ask two readers the same questions."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

Path = tuple[str | int, ...]

DIGEST = "0" * 64
REPLACEMENTS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 64, 10**30, -(10**30), 10**400),
    *(0.0, 1.0, -1.0, 0.5, 1.5, -0.5, 1e300, 1e-300),
    *("", "x", "measured", "weight", DIGEST, DIGEST[1:], DIGEST + "\n", "G" * 64),
    *([], [1], [-1], [1.0], [True], ["x"], [None], [1, 2], [1.5, 2.5], [1, 2, 3], [[]], [{}]),
    *({}, {"x": 1}, {"x": -1}, {"x": 1.0}, {"x": True}, {"x": "y"}, {"x": None}, {"x": []}, {"x": {}}),
    *({"weight": 1}, {"x": DIGEST}, {"x": [1, 2]}, {"intrain": 1}),
)


def shortened(value: Any, items: int = 2) -> Any:
    """The same with so many items of each list, so that a mutant is checked in a millisecond."""
    if isinstance(value, dict):
        return {k: shortened(v, items) for k, v in value.items()}
    return [shortened(v, items) for v in value[:items]] if isinstance(value, list) else value


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a JSON value, itself included."""
    yield path
    children = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, child in children:
        yield from places(child, (*path, key))


def kind(path: Path) -> Path:
    """A place without its indices: items of a list are of one kind."""
    return tuple("[]" if isinstance(key, int) else key for key in path)


def at(value: Any, path: Path) -> Any:
    """What is at a place."""
    for key in path:
        value = value[key]
    return value


def replaced(value: Any, path: Path, new: Any) -> Any:
    """A copy with something else at a place."""
    if not path:
        return new
    made = copy.deepcopy(value)
    at(made, path[:-1])[path[-1]] = new
    return made


def variants(value: Any) -> Iterator[Any]:
    """What may stand in the place of a value: other types, other bounds, more and fewer members."""
    yield from (r for r in REPLACEMENTS if type(r) is not type(value) or r != value)
    if isinstance(value, dict):
        yield value | {"more": 1}
        for key in value:
            yield {k: v for k, v in value.items() if k != key}
    elif isinstance(value, list):
        yield from ([*value, None], [*value, *value], value[1:], value[:1], [*value, 0.5], [*value, "x"])
    elif isinstance(value, str):
        yield from (value + "x", value.upper(), value[:-1])
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from (float(value), -value, str(value), value + 1, value + 0.5)


def mutants(document: Any) -> Iterator[tuple[Path, Any]]:
    """Every variant of every kind of place in a document, with the place."""
    for path in places(document):
        for new in variants(at(document, path)):
            yield path, replaced(document, path, new)
