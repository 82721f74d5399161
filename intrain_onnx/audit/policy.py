"""The audit policy: a TOML file, parsed strictly into frozen dataclasses.

Each field is declared once, with type, limits and help. `fields` validates files by that, and the run
settings and the default policy are generated from it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from importlib import resources
from pathlib import Path, PurePath
from typing import Annotated, Any, Literal

from msgspec import Meta

from intrain_onnx import untrusted
from intrain_onnx.audit.fields import Field, fields_of, limit, read, refuse_unknown, says, table, value, whole
from intrain_onnx.audit.table import CHECKS, SEVERITIES, Check, Options, Severity
from intrain_onnx.config import Device
from intrain_onnx.diff.rows import Expected
from intrain_onnx.errors import SettingsError, path_text
from intrain_onnx.loading.limits import Limits, parsed, whole_number

Deploy = Literal["float32", "float16", "bfloat16", "int8"]
FailOn = Literal[Severity, "never"]
Setting = Literal[Severity, "off"]

_VERSION = 1
_Shape = Annotated[tuple[Annotated[int, whole(1)], ...], says(hint="Write [1, 3, 64, 64]")]
_Axis = Annotated[
    Annotated[int, whole(0)] | Literal["none"] | None,
    says(hint='Write the axis that holds samples, or "none"'),
]
_Given = Annotated[
    int | float | tuple[int | float, ...] | str, says(hint='Write 1.0, [1, 2, 3] or "@FILE.npy"')
]
_Amount = Annotated[int | float | str, says(hint='Write 400, 4e9 or "4G"')]
_Text = Annotated[str, Meta(pattern=r"\S", extra={"hint": "A waiver names a check and says why"})]


@dataclass(frozen=True)
class RunSettings:
    """How the model is measured; field names are those of ``ScoreConfig``, ``limits`` and ``providers``."""

    seed: Annotated[int, whole(0)] = 0
    seeds: Annotated[int, whole(1)] = 3
    batch: Annotated[int, whole(1)] = 16
    max_macs: Annotated[float, limit("0: 1e15, on CUDA 1e17")] = 0.0
    max_memory: Annotated[_Amount, says('bytes for a run, such as "4G"; 0: what is free')] = 0
    threads: Annotated[int, whole(0, "0: OMP_NUM_THREADS, or all cores")] = 0
    device: Device = "auto"
    parity: Annotated[bool, says("compare with onnxruntime")] = True
    providers: Annotated[
        tuple[str, ...],
        says("execution providers of onnxruntime that it is deployed on; none: not looked at"),
    ] = ()
    input_shapes: Mapping[str, _Shape] = field(default_factory=dict)
    batch_axes: Mapping[str, _Axis] = field(default_factory=dict)
    inputs: Mapping[str, _Given] = field(default_factory=dict)
    limits: Mapping[str, _Amount] = field(default_factory=dict)

    def memory(self) -> int:
        """``max_memory`` in bytes; 0 for what is free.

        Raises:
            SettingsError: it is no size.
        """
        if self.max_memory == 0:
            return 0
        try:
            return whole_number(str(self.max_memory))
        except ValueError as error:
            raise SettingsError(f"run.max_memory: {error}", hint='Write 400, 4e9 or "4G"') from None

    def allowed(self) -> Limits:
        """``limits``, with the defaults of all others.

        Raises:
            SettingsError: no limit is called that, or no such value.
        """
        try:
            return parsed(f"{name}={amount}" for name, amount in self.limits.items())
        except ValueError as error:
            raise SettingsError(f"run.limits has {error}") from None


@dataclass(frozen=True)
class Rule:
    """A check as configured: its severity, which may be ``off``, and its options."""

    check: Check[Any]
    severity: Setting
    options: Options


@dataclass(frozen=True, kw_only=True)
class Waiver:
    """An accepted finding.

    Attributes:
        check: glob pattern of check ids.
        layer: glob pattern of the layer, node or initializer of a finding.
        reason: why it is accepted.
        expires: last day of validity; None for no end.
        model: glob pattern of the model's path as it is given, with ``/`` between its parts; ``*`` matches
            ``/`` too.
    """

    check: _Text
    layer: str = "*"
    reason: _Text
    expires: Annotated[datetime.date | None, says(hint="Write a date: 2027-01-31")] = None
    model: str = "*"

    def matches(self, check: str, place: str | None) -> bool:
        """Whether it applies to a finding of that check at that place, in a model that it is for."""
        return fnmatchcase(check, self.check) and fnmatchcase(place or "", self.layer)

    def covers(self, path: str) -> bool:
        """Whether it is for the model of that path."""
        return fnmatchcase(PurePath(path).as_posix(), self.model)

    def expired(self, today: datetime.date) -> bool:
        """Whether its last day is past."""
        return self.expires is not None and self.expires < today


@dataclass(frozen=True, kw_only=True)
class Demands:
    """Contents of a policy file.

    Attributes:
        version: of the file format.
        fail_on: lowest severity that fails the audit, or ``never``.
        deploy: element type that the model is deployed in.
        expect: what the model is, where a reference is given.
        run: measurement settings.
        rules: by id, for every check; ``checks`` in the file.
        waivers: accepted findings, in file order.
    """

    version: Literal[1] = 1
    fail_on: Annotated[FailOn, says("The least severity that fails the audit")] = "error"
    deploy: Annotated[Deploy, says("The element type that the model will run in")] = "float32"
    expect: Annotated[Expected, says("What the model is beside a reference")] = "conversion"
    run: Annotated[
        RunSettings, says("How the model is measured; the names are those of `intrain-onnx score`")
    ] = field(default_factory=RunSettings)
    rules: Mapping[str, Rule] = field(metadata={"name": "checks"})
    waivers: tuple[Waiver, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Policy(Demands):
    """A policy with its source, for the record, and the path of its file as it was given."""

    source: str = "default"
    path: str | None = None

    def fails(self, severity: Severity) -> bool:
        """Whether a finding of that severity fails the audit."""
        if self.fail_on == "never":
            return False
        return SEVERITIES.index(severity) <= SEVERITIES.index(self.fail_on)


def default_text() -> str:
    """The shipped default policy, with its comments."""
    return resources.files("intrain_onnx.audit").joinpath("default_policy.toml").read_text(encoding="utf-8")


def default() -> Policy:
    """The policy used if none is given."""
    return parse(default_text(), "default")


def load(path: Path) -> Policy:
    """Read a policy file; fields that it omits have their defaults.

    Raises:
        SettingsError: it cannot be read, is not TOML, or names a check or a field that does not exist.
    """
    try:
        text = untrusted.text_of(path, untrusted.SETTINGS_BYTES)
    except (OSError, untrusted.UnreadableError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SettingsError(f"cannot read the policy: {reason}", path=str(path)) from error
    try:
        return replace(parse(text, path_text(path.name)), path=str(path))
    except SettingsError as error:
        error.at(path=str(path))
        raise


def parse(text: str, source: str = "policy") -> Policy:
    """Parse a policy.

    Raises:
        SettingsError: not TOML, or an unknown check, field or value.
    """
    try:
        told = untrusted.toml_table(text)
    except untrusted.UnreadableError as error:
        raise SettingsError(f"cannot read the policy: {error}") from error
    fields = fields_of(Demands)
    refuse_unknown(told, fields, "the policy")
    version = told.pop("version", _VERSION)
    if version != _VERSION:
        raise SettingsError(f"policy version {version!r}", hint=f"This version reads {_VERSION}")
    values = {f.attribute: _part(f, told[f.name]) for f in fields.values() if f.name in told}
    policy = Policy(**{"rules": _rules({}), **values}, source=source)
    policy.run.allowed()
    policy.run.memory()
    return policy


def _part(field: Field, told: object) -> Any:
    return _TABLES[field.name](told) if field.name in _TABLES else value(told, field.type, field.name)


def _rules(told: object) -> dict[str, Rule]:
    rows = table(told, "checks")
    refuse_unknown(rows, CHECKS, "checks", "No check is called that; see `intrain-onnx audit --explain list`")
    return {name: _rule(check, rows.get(name, {})) for name, check in CHECKS.items()}


def _rule(check: Check[Any], told: object) -> Rule:
    place = f"checks.{check.id}"
    rows, fields = table(told, place), fields_of(check.options)
    refuse_unknown(rows, ("severity", *fields), place)
    severity: Setting = value(rows.get("severity", check.severity), Setting, place)
    options = {
        name: None
        if rows[name] is False and field.may_be_off
        else value(rows[name], field.type, f"{place}.{name}")
        for name, field in fields.items()
        if name in rows
    }
    return Rule(check, severity, check.options(**options))


def _waivers(told: object) -> tuple[Waiver, ...]:
    if not isinstance(told, list):
        raise SettingsError("waivers is not a list of tables", hint="Write [[waivers]]")
    return tuple(_waiver(row, f"waiver {number}") for number, row in enumerate(told, start=1))


def _waiver(told: object, place: str) -> Waiver:
    waiver = read(told, Waiver, place, f"{place}: ")
    if not any(fnmatchcase(name, waiver.check) for name in CHECKS):
        raise SettingsError(f"{place}: no check is called {waiver.check!r}")
    return replace(waiver, reason=waiver.reason.strip())


_TABLES: Mapping[str, Callable[[object], Any]] = {
    "run": partial(read, kind=RunSettings, place="run", prefix="run."),
    "checks": _rules,
    "waivers": _waivers,
}
"""Readers of the nested tables of a policy file; all other fields are plain values."""
