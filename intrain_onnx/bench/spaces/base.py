"""Type of a search space, and helpers to parse descriptions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from intrain_onnx import untrusted
from intrain_onnx.errors import SettingsError

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """A set of architectures, each identified by a description from which its network is built.

    Attributes:
        name: short name for commands.
        title: name in its publication.
        source: the publication.
        describe: canonical description of the architecture in a row of a table; raises SettingsError.
        build: ``build(description, *, fold, size=None, classes=None)`` builds the network, BatchNorm folded
            or kept, for the image size and classes of this space or others; raises SettingsError.
        accuracies: column of the test accuracy, by data set.
        losses: the data sets whose column holds a loss or a perplexity, of which less is better.
        sample: draws the description of a random architecture.
        keep: whether a row of a table was trained as the others were; None if all are.
        family: of a description, within which ranks are compared too; None for a space of one family.
        size: default height and width of images, or number of tokens.
        batch: default number of samples.
        classes: default number of classes, or of words.
    """

    name: str
    title: str
    source: str
    describe: Callable[[Mapping[str, str]], str]
    build: Callable[..., onnx.ModelProto]
    accuracies: Mapping[str, str]
    losses: frozenset[str] = frozenset()
    sample: Callable[[random.Random], str]
    keep: Callable[[Mapping[str, str]], bool] | None = None
    family: Callable[[str], str] | None = None
    size: int
    batch: int
    classes: int


def column(row: Mapping[str, str], name: str) -> str:
    """A cell of a table, stripped of whitespace.

    Raises:
        SettingsError: the table lacks the column, or the row a value in it.
    """
    value = (row.get(name) or "").strip()
    if not value:
        raise SettingsError(
            f"no value in column {name!r}", hint=f"The table needs a column {name!r} in each row"
        )
    return value


def bad(description: str, space: str, why: str) -> SettingsError:
    """The error for a description that is not an architecture of a space."""
    return SettingsError(f"{description!r} is no architecture of {space}: {why}")


def fields(description: str, space: str) -> dict[str, Any]:
    """Keys and values of a description that is a JSON object.

    Raises:
        SettingsError: it is not a JSON object.
    """
    try:
        values = untrusted.json_value(description)
    except untrusted.UnreadableError as error:
        raise bad(description, space, str(error)) from error
    if not isinstance(values, dict):
        raise bad(description, space, "not a JSON object")
    return values


def compact(values: Mapping[str, object]) -> str:
    """A description as JSON without whitespace."""
    return json.dumps(values, separators=(",", ":"))


def common(value: Any) -> Any:
    """The value that all entries of a list repeat: published code writes some settings once per block."""
    if isinstance(value, list) and value and all(entry == value[0] for entry in value):
        return value[0]
    return value


def is_count(value: object, most: int) -> bool:
    """Whether a value is an integer from 1 to a limit that bounds the network's size."""
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def is_ratio(value: object) -> bool:
    """Whether a value is a valid ratio of widths, in (0, 16]."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= 16
