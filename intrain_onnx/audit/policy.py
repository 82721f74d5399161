"""What a deployment demands: a TOML file, read strictly into frozen dataclasses. No torch."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from intrain_onnx.audit.table import CHECKS, SEVERITIES, Check, Option
from intrain_onnx.errors import SettingsError

Deploy = Literal["float32", "float16"]
FAIL_ON = (*SEVERITIES, "never")
_VERSION = 1
_TOP = ("version", "fail_on", "deploy", "run", "checks", "waivers")
_RUN = ("seed", "seeds", "batch", "threads", "device", "parity", "input_shapes")
_WAIVER = ("check", "layer", "reason", "expires")


@dataclass(frozen=True)
class RunSettings:
    """How the model is measured; the names are those of ``ScoreConfig``."""

    seed: int = 0
    seeds: int = 3
    batch: int = 16
    threads: int = 0
    device: str = "auto"
    parity: bool = True
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Rule:
    """One check as the policy wants it: its severity, ``off`` included, and its options."""

    check: Check
    severity: str
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Waiver:
    """An accepted finding.

    Attributes:
        check: id of the check, or a pattern of ids.
        layer: pattern of the layer, node or initializer that a finding names, with ``*`` and ``?``.
        reason: why it is accepted.
        expires: the last day on which it holds; None for no end.
    """

    check: str
    layer: str
    reason: str
    expires: datetime.date | None = None

    def matches(self, check: str, place: str | None) -> bool:
        """Whether it is about a finding of that check at that place."""
        return fnmatchcase(check, self.check) and fnmatchcase(place or "", self.layer)

    def expired(self, today: datetime.date) -> bool:
        """Whether its last day is over."""
        return self.expires is not None and self.expires < today


@dataclass(frozen=True)
class Policy:
    """All demands.

    Attributes:
        rules: by check id, every check included.
        fail_on: least severity that fails the audit, or ``never``.
        deploy: element type that the model will run in.
        run: how it is measured.
        waivers: accepted findings, in the order of the file.
        source: where it came from, for the record.
    """

    rules: Mapping[str, Rule]
    fail_on: str = "error"
    deploy: Deploy = "float32"
    run: RunSettings = field(default_factory=RunSettings)
    waivers: tuple[Waiver, ...] = ()
    source: str = "default"

    def fails(self, severity: str) -> bool:
        """Whether a finding of that severity fails the audit."""
        if self.fail_on == "never":
            return False
        return SEVERITIES.index(severity) <= SEVERITIES.index(self.fail_on)


def default_text() -> str:
    """The default policy as it is shipped, with its comments."""
    return resources.files("intrain_onnx.audit").joinpath("default_policy.toml").read_text(encoding="utf-8")


def default() -> Policy:
    """The policy that holds where none is given."""
    return parse(default_text(), "default")


def load(path: Path) -> Policy:
    """Read a policy file; what it leaves out is as in the default policy.

    Raises:
        SettingsError: it cannot be read, is not TOML, or names a check or a field that does not exist.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise SettingsError(f"cannot read the policy: {reason}", path=str(path)) from error
    try:
        return parse(text, path.name)
    except SettingsError as error:
        error.at(path=str(path))
        raise


def parse(text: str, source: str = "policy") -> Policy:
    """Read a policy from its text.

    Raises:
        SettingsError: not TOML, an unknown check, field or value.
    """
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"the policy is not valid TOML: {error}") from error
    _known(data, _TOP, "the policy")
    if data.get("version", _VERSION) != _VERSION:
        raise SettingsError(f"policy version {data['version']!r}", hint=f"This version reads {_VERSION}")
    return Policy(
        rules=_rules(_table(data.get("checks", {}), "checks")),
        fail_on=_choice(data.get("fail_on", "error"), FAIL_ON, "fail_on"),
        deploy=_choice(data.get("deploy", "float32"), ("float32", "float16"), "deploy"),
        run=_run(_table(data.get("run", {}), "run")),
        waivers=_waivers(data.get("waivers", [])),
        source=source,
    )


def _rules(told: Mapping[str, Any]) -> dict[str, Rule]:
    _known(told, tuple(CHECKS), "checks", "No check is called that; see `intrain-onnx audit --explain list`")
    rules = {}
    for name, check in CHECKS.items():
        fields = _table(told.get(name, {}), f"checks.{name}")
        _known(fields, ("severity", *(o.name for o in check.options)), f"checks.{name}")
        severity = _choice(fields.get("severity", check.severity), (*SEVERITIES, "off"), f"checks.{name}")
        options = {o.name: _value(fields, o, name) for o in check.options}
        rules[name] = Rule(check, severity, options)
    return rules


def _value(fields: Mapping[str, Any], option: Option, check: str) -> Any:
    """A value of the option's kind; ``false`` takes a limit away where an option may have none."""
    if option.name not in fields:
        return option.default
    where, value = f"checks.{check}.{option.name}", fields[option.name]
    if value is False and option.may_be_off:
        return None
    if option.kind is list:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise SettingsError(f"{where} is {value!r}", hint="It must be a list of strings")
        return tuple(value)
    if option.kind is bool:
        if not isinstance(value, bool):
            raise SettingsError(f"{where} is {value!r}", hint="It must be true or false")
        return value
    numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not numeric or (option.kind is int and not isinstance(value, int)):
        raise SettingsError(f"{where} is {value!r}", hint=f"It must be a number ({option.kind.__name__})")
    if not option.low <= value <= option.high:
        raise SettingsError(
            f"{where} is {value!r}", hint=f"It must lie from {option.low:g} to {option.high:g}"
        )
    return option.kind(value)


def _run(told: Mapping[str, Any]) -> RunSettings:
    _known(told, _RUN, "run")
    shapes = _table(told.get("input_shapes", {}), "run.input_shapes")
    for name, shape in shapes.items():
        if not isinstance(shape, list) or not all(isinstance(d, int) and d > 0 for d in shape):
            raise SettingsError(f"run.input_shapes.{name} is {shape!r}", hint="Write [1, 3, 64, 64]")
    least = {"seed": 0, "seeds": 1, "batch": 1, "threads": 0}
    for name, low in least.items():
        value = told.get(name, low)
        if not isinstance(value, int) or isinstance(value, bool) or value < low:
            raise SettingsError(f"run.{name} is {value!r}", hint=f"It must be a whole number from {low}")
    if not isinstance(told.get("parity", True), bool):
        raise SettingsError(f"run.parity is {told['parity']!r}", hint="It must be true or false")
    _choice(told.get("device", "auto"), ("auto", "cuda", "cpu"), "run.device")
    return RunSettings(**{**told, "input_shapes": {n: tuple(s) for n, s in shapes.items()}})


def _waivers(told: Any) -> tuple[Waiver, ...]:
    if not isinstance(told, list):
        raise SettingsError("waivers is not a list of tables", hint="Write [[waivers]]")
    found = []
    for number, row in enumerate(told, start=1):
        where = f"waiver {number}"
        _known(_table(row, where), _WAIVER, where)
        for name in ("check", "reason"):
            if not isinstance(row.get(name), str) or not row[name].strip():
                raise SettingsError(f"{where} has no {name}", hint="A waiver names a check and says why")
        if not any(fnmatchcase(name, row["check"]) for name in CHECKS):
            raise SettingsError(f"{where}: no check is called {row['check']!r}")
        if not isinstance(row.get("layer", "*"), str):
            raise SettingsError(f"{where}: layer is {row['layer']!r}", hint="It must be a string")
        expires = row.get("expires")
        if isinstance(expires, datetime.datetime) or not isinstance(expires, (datetime.date, type(None))):
            raise SettingsError(f"{where}: expires is {expires!r}", hint="Write a date: 2027-01-31")
        found.append(Waiver(row["check"], row.get("layer", "*"), row["reason"].strip(), expires))
    return tuple(found)


def _table(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise SettingsError(f"{where} is {value!r}", hint="It must be a table")
    return value


def _known(told: Mapping[str, Any], names: tuple[str, ...], where: str, hint: str | None = None) -> None:
    unknown = sorted(set(told) - set(names))
    if unknown:
        raise SettingsError(
            f"{where} has no {', '.join(map(repr, unknown))}", hint=hint or f"It has {', '.join(names)}"
        )


def _choice(value: Any, allowed: tuple[str, ...], where: str) -> Any:
    if value not in allowed:
        raise SettingsError(f"{where} is {value!r}", hint=f"Use one of {', '.join(allowed)}")
    return value
