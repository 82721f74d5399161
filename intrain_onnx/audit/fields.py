"""Fields of dataclasses that a policy fills: type, limits, help and hint stand in the annotation of each.

msgspec holds every value against its annotation. A table is read field by field, so that an error names the
field as the file does and says what it may hold.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta

from intrain_onnx.errors import SettingsError

_T = TypeVar("_T")


def says(help: str = "", *, hint: str | None = None) -> Meta:
    """Annotates a field: what it says in half a sentence, and what to write where a type says too little."""
    return Meta(description=help, extra={"hint": hint} if hint else {})


def limit(help: str, low: float = 0, high: float = math.inf) -> Meta:
    """Annotates a number: its help, and the range that it must lie in."""
    return Meta(description=help, ge=low, le=None if math.isinf(high) else high, extra={})


def whole(low: int, help: str = "") -> Meta:
    """Annotates a whole number with its least value."""
    return Meta(description=help, ge=low, extra={"hint": f"It must be a whole number from {low}"})


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a dataclass.

    Attributes:
        name: in the file.
        attribute: in Python.
        type: its annotation.
        default: its value where the file leaves it out.
        required: there is no default.
        help: what it says, in half a sentence.
        may_be_off: a limit that ``false`` takes away; it is None then.
        choices: the values that it may have, where they are listed.
    """

    name: str
    attribute: str
    type: Any
    default: Any
    required: bool
    help: str
    may_be_off: bool
    choices: tuple[Any, ...]


def fields_of(kind: type) -> dict[str, Field]:
    """The fields of a dataclass in their order, by name in the file."""
    types = get_type_hints(kind, include_extras=True)
    rows = [_field(row, types[row.name]) for row in dataclasses.fields(kind)]
    return {row.name: row for row in rows}


def _field(row: dataclasses.Field[Any], kind: Any) -> Field:
    factory = row.default_factory
    default = factory() if factory is not dataclasses.MISSING else row.default
    plain, meta = _parts(kind)
    return Field(
        name=row.metadata.get("name", row.name),
        attribute=row.name,
        type=kind,
        default=default,
        required=default is dataclasses.MISSING,
        help=meta.description or "",
        may_be_off=plain is not kind and NoneType in get_args(kind),
        choices=get_args(plain) if get_origin(plain) is Literal else (),
    )


def _parts(kind: Any) -> tuple[Any, Meta]:
    """An annotation without None and without `Annotated`, and what it was annotated with."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is not Annotated:
        return kind, Meta()
    plain, *others = get_args(kind)
    return plain, next((m for m in others if isinstance(m, Meta)), Meta())


def read(told: object, kind: type[_T], place: str, prefix: str = "") -> _T:
    """A table as a dataclass.

    Args:
        told: the table.
        kind: the dataclass.
        place: what the table is called in errors.
        prefix: what is put before the names of its fields in errors.

    Raises:
        SettingsError: an unknown field, one that is missing, or a value that the annotation does not allow.
    """
    fields, told = fields_of(kind), table(told, place)
    refuse_unknown(told, fields, place)
    values = {}
    for name, field in fields.items():
        if field.required and not _fits(told.get(name), field.type):
            raise SettingsError(f"{place} has no {name}", hint=_hint(field.type, None))
        if name in told:
            values[field.attribute] = value(told[name], field.type, f"{prefix}{name}")
    return kind(**values)


def value(told: Any, kind: Any, place: str) -> Any:
    """A value of an annotated type.

    Raises:
        SettingsError: it is none.
    """
    plain, _ = _parts(kind)
    if get_origin(plain) is Mapping:
        _, of = get_args(plain)
        return {name: value(row, of, f"{place}.{name}") for name, row in table(told, place).items()}
    try:
        return _converted(told, kind)
    except msgspec.ValidationError as error:
        raise SettingsError(f"{place} is {told!r}", hint=_hint(kind, told)) from error


def _converted(told: Any, kind: Any) -> Any:
    return msgspec.convert(told, kind, builtin_types=(datetime.date, datetime.datetime))


def _fits(told: Any, kind: Any) -> bool:
    try:
        _converted(told, kind)
    except msgspec.ValidationError:
        return False
    return True


def _hint(kind: Any, told: Any) -> str:
    """What a value of a type must be; of a number that is out of range, the range."""
    plain, meta = _parts(kind)
    if meta.extra and "hint" in meta.extra:
        return str(meta.extra["hint"])
    if get_origin(plain) is Literal:
        return f"Use one of {', '.join(map(str, get_args(plain)))}"
    if get_origin(plain) is tuple:
        return "It must be a list of strings"
    if plain is bool:
        return "It must be true or false"
    if plain is str:
        return "It must be a string"
    if not _fits(told, plain):
        return f"It must be a number ({plain.__name__})"
    high = math.inf if meta.le is None else meta.le
    return f"It must lie from {meta.ge:g} to {high:g}"


def table(told: object, place: str) -> dict[str, Any]:
    """A value that must be a table.

    Raises:
        SettingsError: it is none.
    """
    if not isinstance(told, dict):
        raise SettingsError(f"{place} is {told!r}", hint="It must be a table")
    return told


def refuse_unknown(told: Iterable[str], names: Iterable[str], place: str, hint: str | None = None) -> None:
    """Hold the names in a table against those that it may have.

    Raises:
        SettingsError: others, all of them.
    """
    unknown = sorted({*told} - {*names})
    if unknown:
        raise SettingsError(
            f"{place} has no {', '.join(map(repr, unknown))}", hint=hint or f"It has {', '.join(names)}"
        )


def literal(value: object) -> str:
    """A value as TOML writes it; no limit is ``false``."""
    if value is None:
        return "false"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{v}"' for v in value) + "]"
    if isinstance(value, float):
        text = f"{value:g}"
        return text if any(c in text for c in ".e") else f"{text}.0"
    return str(value)
