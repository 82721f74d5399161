"""Fields of dataclasses that a policy fills: what they take, and what an error says of each kind."""

from __future__ import annotations

import datetime
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest

from intrain_onnx.audit.fields import fields_of, limit, literal, read, says, whole
from intrain_onnx.errors import SettingsError


@dataclass(frozen=True, kw_only=True)
class Machine:
    name: Annotated[str, says(hint="Give it a name")]
    cores: Annotated[int, whole(1, "how many")] = 2
    speed: Annotated[float, limit("in GHz", 0.5, 9)] = 3.0
    most: Annotated[int, limit("of jobs")] | None = 7
    kind: Literal["old", "new"] = "new"
    parts: tuple[str, ...] = ()
    on: bool = True
    built: datetime.date | None = None
    sizes: Mapping[str, Annotated[int, whole(0)]] = field(default_factory=dict, metadata={"name": "size"})


def machine(text: str) -> Machine:
    return read(tomllib.loads(text), Machine, "machine", "machine.")


def test_what_is_left_out_has_its_default():
    assert machine('name = "a"') == Machine(name="a")


def test_values_are_of_the_type_that_the_field_has():
    text = 'name = "a"\ncores = 4\nspeed = 1\nparts = ["x"]\non = false\nbuilt = 2026-01-02\n[size]\nx = 0\n'
    made = machine(text)
    assert made == Machine(
        name="a", cores=4, speed=1.0, parts=("x",), on=False, built=datetime.date(2026, 1, 2), sizes={"x": 0}
    )
    assert isinstance(made.speed, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "machine has no name. Give it a name"),
        ("name = 3", "machine has no name. Give it a name"),
        ("cores = 0", "machine.cores is 0. It must be a whole number from 1"),
        ("cores = true", "machine.cores is True. It must be a whole number from 1"),
        ("speed = 'x'", "machine.speed is 'x'. It must be a number (float)"),
        ("speed = 10", "machine.speed is 10. It must lie from 0.5 to 9"),
        ("speed = nan", "machine.speed is nan. It must lie from 0.5 to 9"),
        ("most = 1.0", "machine.most is 1.0. It must be a number (int)"),
        ("most = -1", "machine.most is -1. It must lie from 0 to inf"),
        ("kind = 'odd'", "machine.kind is 'odd'. Use one of old, new"),
        ("parts = [1]", "machine.parts is [1]. It must be a list of strings"),
        ("on = 1", "machine.on is 1. It must be true or false"),
        ("size = 1", "machine.size is 1. It must be a table"),
        ("[size]\nx = -1", "machine.size.x is -1. It must be a whole number from 0"),
        ("[size]\nx = 1\ny = 'z'", "machine.size.y is 'z'. It must be a whole number from 0"),
        ("b = 1\na = 2", "machine has no 'a', 'b'. It has name, cores, speed, most, kind, parts, on, built, size"),
    ],
)  # fmt: skip
def test_an_error_names_the_field_and_what_it_takes(text: str, message: str):
    with pytest.raises(SettingsError) as caught:
        machine(text if text in ("", "name = 3") else f'name = "a"\n{text}')
    assert str(caught.value) == message


def test_a_table_is_asked_for_by_its_name():
    with pytest.raises(SettingsError, match=r"machine is 3\. It must be a table"):
        read(3, Machine, "machine")


def test_what_stands_in_an_annotation_is_found():
    found = fields_of(Machine)
    assert list(found) == [*[*Machine.__dataclass_fields__][:-1], "size"]
    assert found["size"].attribute == "sizes"
    assert [name for name, f in found.items() if f.required] == ["name"]
    assert [name for name, f in found.items() if f.may_be_off] == ["most", "built"]
    assert [found[name].help for name in ("cores", "speed", "most", "on")] == [
        "how many",
        "in GHz",
        "of jobs",
        "",
    ]
    assert found["kind"].choices == ("old", "new")


@pytest.mark.parametrize("value", [True, 3, 2.0, 1e-10, 1e8, "a b", ("x", "y"), ()])
def test_a_literal_is_read_back_as_it_was(value: Any):
    told = tomllib.loads(f"x = {literal(value)}")["x"]
    assert (tuple(told) if isinstance(told, list) else told) == value
    assert type(told) is (list if isinstance(value, tuple) else type(value))


def test_no_limit_is_false():
    assert literal(None) == "false"
