"""What a search space is."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intrain_onnx.errors import SettingsError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A set of architectures, each with a description that its network is written from.

    Attributes:
        name: short, for commands.
        title: as its authors call it.
        source: where it was published.
        describe: the canonical description of the architecture in a row of a table; raises SettingsError.
        build: ``build(description, *, fold, size=None, classes=None)`` writes the network, with BatchNorm
            folded away or kept, for images and classes of this space or others; raises SettingsError.
        accuracies: the column of the test accuracy for each data set.
        sample: draws the description of a random architecture.
        size: side of the images that it is scored on.
        batch: samples that it is scored with.
        classes: outputs of the network.
    """

    name: str
    title: str
    source: str
    describe: Callable[[Mapping[str, str]], str]
    build: Callable[..., onnx.ModelProto]
    accuracies: Mapping[str, str]
    sample: Callable[[random.Random], str]
    size: int
    batch: int
    classes: int


def column(row: Mapping[str, str], name: str) -> str:
    """A cell of a table, without blanks around it.

    Raises:
        SettingsError: the table has no such column, or the row no value in it.
    """
    value = (row.get(name) or "").strip()
    if not value:
        raise SettingsError(
            f"no value in column {name!r}", hint=f"The table needs a column {name!r} in each row"
        )
    return value


def bad(description: str, space: str, why: str) -> SettingsError:
    """The error for a description that names no architecture of a space."""
    return SettingsError(f"{description!r} is no architecture of {space}: {why}")


def fields(description: str, space: str) -> dict[str, Any]:
    """The keys and values of a description that is a JSON object.

    Raises:
        SettingsError: it is none.
    """
    try:
        values = json.loads(description)
    except ValueError as error:
        raise bad(description, space, f"not JSON: {error}") from error
    if not isinstance(values, dict):
        raise bad(description, space, "not a JSON object")
    return values


def compact(values: Mapping[str, object]) -> str:
    """A description in JSON without blanks."""
    return json.dumps(values, separators=(",", ":"))


def common(value: Any) -> Any:
    """The entry that a list repeats, since published code writes some settings once for each block."""
    if isinstance(value, list) and value and all(entry == value[0] for entry in value):
        return value[0]
    return value


def is_count(value: object, most: int) -> bool:
    """Whether a value of a description is a whole number from 1 to a limit that keeps networks sane."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def is_ratio(value: object) -> bool:
    """Whether a value of a description can be the ratio of two widths."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 16
