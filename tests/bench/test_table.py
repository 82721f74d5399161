"""Tables of accuracies: what is read, kept, sampled and refused."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

import pytest

from intrain_onnx.bench.spaces import SPACES
from intrain_onnx.bench.table import Condition, entries, read
from intrain_onnx.errors import SettingsError

SPACE = SPACES["nasbench201"]


def rows(count: int) -> list[dict[str, str]]:
    rng = random.Random(0)
    names = list(dict.fromkeys(SPACE.sample(rng) for _ in range(3 * count)))[:count]
    return [
        {"arch_str": name, "cifar10_test": f"{80 + i}", "source": "a+b" if i % 2 else "c"}
        for i, name in enumerate(names)
    ]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz"])
def test_a_table_is_read_compressed_or_not(tmp_path: Path, suffix: str):
    path = tmp_path / f"table.{suffix}"
    text = "arch_str,cifar10_test\n|x~0|,90.5\n"
    path.write_bytes(gzip.compress(text.encode()) if suffix.endswith("gz") else text.encode())
    assert read(path) == [{"arch_str": "|x~0|", "cifar10_test": "90.5"}]


@pytest.mark.parametrize("content", [None, b"", b"arch_str\n", b"\x1f\x8bbroken"])
def test_what_is_no_table_is_refused_by_name(tmp_path: Path, content: bytes | None):
    path = tmp_path / ("table.csv.gz" if content and content[0] == 0x1F else "table.csv")
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"table\.csv"):
        read(path)


def test_a_sample_is_decided_by_its_seed_and_grows_with_its_size():
    table = rows(20)
    small = entries(table, SPACE, sample=5, seed=1)
    assert [e.architecture for e in small] == [
        e.architecture for e in entries(table, SPACE, sample=9, seed=1)
    ][:5]
    assert small != entries(table, SPACE, sample=5, seed=2)
    assert len(entries(table, SPACE)) == 20


def test_an_architecture_counts_once():
    table = rows(3)
    assert len(entries([*table, *table], SPACE)) == 3


def test_accuracies_are_those_of_the_row():
    table = rows(4)
    table[2]["cifar10_test"] = ""
    truth = {row["arch_str"]: float(row["cifar10_test"]) if row["cifar10_test"] else None for row in table}
    assert {e.architecture: e.accuracies["CIFAR-10"] for e in entries(table, SPACE)} == truth
    assert set(entries(table, SPACE)[0].accuracies) == {"CIFAR-10"}


def test_conditions_keep_rows():
    table = rows(10)
    kept = entries(table, SPACE, where=[Condition.parse("source~b")])
    assert {e.architecture for e in kept} == {row["arch_str"] for row in table[1::2]}
    assert (
        len(entries(table, SPACE, where=[Condition.parse("source=c"), Condition.parse("cifar10_test=80")]))
        == 1
    )


@pytest.mark.parametrize(
    ("text", "column", "value", "contains"),
    [
        ("a=b", "a", "b", False),
        ("a~b=c", "a", "b=c", True),
        ("a=b~c", "a", "b~c", False),
        ("a=", "a", "", False),
    ],
)
def test_a_condition_is_split_at_its_first_mark(text: str, column: str, value: str, contains: bool):
    assert Condition.parse(text) == Condition(column, value, contains)


@pytest.mark.parametrize("text", ["a", "", "=b", "~"])
def test_what_is_no_condition_is_refused(text: str):
    with pytest.raises(SettingsError, match="COLUMN=VALUE"):
        Condition.parse(text)


def test_missing_columns_name_those_that_are_there():
    table = rows(2)
    with pytest.raises(SettingsError, match=r"no column 'hash'.*'arch_str'"):
        entries(table, SPACE, where=[Condition.parse("hash=1")])
    with pytest.raises(SettingsError, match="none of the columns 'cifar10_test'"):
        entries([{"arch_str": table[0]["arch_str"]}], SPACE)
    with pytest.raises(SettingsError, match="no row"):
        entries(table, SPACE, where=[Condition.parse("source=z")])


def test_an_accuracy_that_is_no_number_is_refused():
    table = rows(2)
    table[0]["cifar10_test"] = "good"
    with pytest.raises(SettingsError, match="'cifar10_test' holds 'good'"):
        entries(table, SPACE)
