"""Dataclass fields that a policy sets, with type, limits, help and hint in their annotations.

msgspec validates each value against its annotation. Tables are read field by field, so that an error names
the field as the file does and names the valid values.
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
    """Annotation of a field: its help, and a hint if the type alone says too little about valid values."""
    return Meta(description=help, extra={"hint": hint} if hint else {})


def limit(help: str, low: float = 0, high: float = math.inf) -> Meta:
    """Annotation of a number: its help and its range."""
    return Meta(description=help, ge=low, le=None if math.isinf(high) else high, extra={})


def whole(low: int, help: str = "") -> Meta:
    """Annotation of an integer: its minimum and help."""
    return Meta(description=help, ge=low, extra={"hint": f"It must be a whole number from {low}"})


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a dataclass.

    Attributes:
        name: in the file.
        attribute: in Python.
        type: its annotation.
        default: value if the file omits it.
        required: it has no default.
        help: short description.
        may_be_off: ``false`` is valid and removes the limit (None).
        choices: the valid values, if enumerated.
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
    """The fields of a dataclass in order, by name in the file."""
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
    """The type without None and `Annotated`, and its metadata."""
    if get_origin(kind) in (Union, UnionType):
        kind = next(part for part in get_args(kind) if part is not NoneType)
    if get_origin(kind) is not Annotated:
        return kind, Meta()
    plain, *others = get_args(kind)
    return plain, next((m for m in others if isinstance(m, Meta)), Meta())


def read(told: object, kind: type[_T], place: str, prefix: str = "") -> _T:
    """Convert a table to a dataclass.

    Args:
        told: the table.
        kind: the dataclass.
        place: name of the table in error messages.
        prefix: of its field names in error messages.

    Raises:
        SettingsError: an unknown field, a missing one, or an invalid value.
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
    """Convert a value to an annotated type.

    Raises:
        SettingsError: it is not valid for the type.
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
    """What a type accepts; for a number out of range, the range."""
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
    """Check that a value is a table.

    Raises:
        SettingsError: it is not.
    """
    if not isinstance(told, dict):
        raise SettingsError(f"{place} is {told!r}", hint="It must be a table")
    return told


def refuse_unknown(told: Iterable[str], names: Iterable[str], place: str, hint: str | None = None) -> None:
    """Check that a table has only known names.

    Raises:
        SettingsError: lists all unknown names.
    """
    unknown = sorted({*told} - {*names})
    if unknown:
        raise SettingsError(
            f"{place} has no {', '.join(map(repr, unknown))}", hint=hint or f"It has {', '.join(names)}"
        )


def literal(value: object) -> str:
    """A value in TOML syntax; None (no limit) is ``false``."""
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
