"""Limits are set by name, add up, and each error names an option that is enough when it is typed."""

from __future__ import annotations

import re
import shlex
import time
from dataclasses import fields
from pathlib import Path

import pytest
from builders import model, weight
from click.testing import CliRunner, Result

from intrain_onnx import cli, memory
from intrain_onnx.errors import LimitError
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import Limits, enough, option, parsed
from intrain_onnx.loading.load import load

from .hostile import budgets, functions

NETWORK = model(
    "(float[N,8] x) => (float[N,5] y) { h = MatMul(x, v) r = Relu(h) y = MatMul(r, w) }",
    {"v": weight(8, 8), "w": weight(8, 5)},
)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7", 7),
        ("4e9", 4 * 10**9),
        ("1.5e3", 1500),
        ("2k", 2000),
        ("3G", 3 * 10**9),
        ("4Gi", 2**32),
        ("0.1", 1),
    ],
)
def test_amounts(text: str, value: int):
    assert parsed([f"elements={text}"]).elements == value


@pytest.mark.parametrize(
    "text",
    [
        "elements",
        "elements=",
        "nothing=1",
        "elements=-1",
        "elements=0",
        "elements=nan",
        "elements=1e999",
        "elements=inf",
        "elements=1_0",
        "elements=\u0661",
        "=1",
        "elements=1KG",
    ],
)
def test_what_is_no_limit_is_refused(text: str):
    with pytest.raises(ValueError, match=re.escape(repr(text))):
        parsed([text])


@pytest.mark.parametrize("needed", [1, 999_999, 10**6, 1_000_001, 536_870_912, 2**36, 10**12 + 1, 99_500_001])
def test_what_a_hint_names_is_enough_and_little_more(needed: int):
    value = parsed([f"elements={enough(needed)}"]).elements
    assert needed <= value <= 1.1 * needed
    assert option("elements", needed).endswith(f"--limit elements={enough(needed)}")


def typed(path: Path, *more: str, command: str = "inspect") -> Result:
    return CliRunner().invoke(cli.main, [command, str(path), *more])


@pytest.fixture(autouse=True)
def _uncapped(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "cap_process", lambda: None)


LOWERED = {
    "file_bytes": 100,
    "tensor_bytes": 100,
    "fields": 20,
    "messages": 5,
    "tensors": 1,
    "values": 3,
    "nodes": 1,
    "elements": 30,
    "rank": 1,
    "name_length": 1,
}


@pytest.mark.parametrize("name", LOWERED)
def test_an_error_names_the_limit_and_its_option_is_enough(name: str, tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_bytes(NETWORK.SerializeToString())
    found = typed(path, "--limit", f"{name}={LOWERED[name]}")
    assert found.exit_code == 6, found.output
    options = shlex.split(re.search(r"--limit \S+", found.stderr)[0])
    assert options[1].startswith(f"{name}=")
    assert typed(path, *options).exit_code == 0


def test_expanded_nodes_are_allowed_as_the_hint_says(tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_bytes(functions.doubling(5).SerializeToString())
    found = typed(path, "--limit", "expanded_nodes=10")
    assert found.exit_code == 6
    assert typed(path, *shlex.split(re.search(r"--limit \S+", found.stderr)[0])).exit_code == 0


@pytest.mark.parametrize("command", ["score", "inspect", "audit"])
def test_every_command_has_the_clock(command: str, tmp_path: Path):
    path = tmp_path / "m.onnx"
    path.write_bytes(NETWORK.SerializeToString())
    more = ["-o", str(tmp_path / "r.json")] if command == "score" else []
    found = typed(path, "--limit", "seconds=0.000001", *more, command=command)
    assert found.exit_code == 6, found.output
    assert "--limit seconds=" in found.stderr


def test_a_policy_sets_them_and_the_command_line_overrules_it(tmp_path: Path):
    path, policy = tmp_path / "m.onnx", tmp_path / "p.toml"
    path.write_bytes(NETWORK.SerializeToString())
    policy.write_text("[run.limits]\nnodes = 1\nseconds = '1k'\n")
    refused = typed(path, "--policy", str(policy), command="audit")
    assert refused.exit_code == 6
    assert "nodes=1" in refused.stderr
    allowed = ["--limit", "nodes=9", "--seeds", "1", "--no-parity"]
    assert typed(path, "--policy", str(policy), *allowed, command="audit").exit_code in (0, 1)
    policy.write_text("[run.limits]\nnods = 1\n")
    assert typed(path, "--policy", str(policy), command="audit").exit_code == 2


def test_a_sparse_terabyte_is_refused_at_once(tmp_path: Path):
    path = budgets.sparse(tmp_path, 10**12)
    started = time.monotonic()
    with pytest.raises(LimitError, match=r"--limit hashed_bytes=1e12"):
        load(path)
    assert time.monotonic() - started < 1
    assert load(path, Limits(hashed_bytes=10**12)).external[0].bytes == 10**12


def test_hashing_looks_at_the_clock(tmp_path: Path):
    loaded = load(budgets.sparse(tmp_path, 10**9))
    with allowance.held(Limits(seconds=1e-9)), pytest.raises(LimitError, match="seconds"):
        loaded.external_sha256()


@pytest.mark.parametrize(
    "error",
    [MemoryError(), MemoryError("std::bad_alloc"), RuntimeError("std::bad_alloc"), OSError(12, "no room")],
    ids=repr,
)
def test_memory_that_runs_out_anywhere_is_a_limit(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def fail(*_: object, **__: object) -> None:
        raise error

    path = tmp_path / "m.onnx"
    path.write_bytes(NETWORK.SerializeToString())
    for place in (
        "loading.load.check_model",
        "loading.load._parse",
        "rewrites.network.normalise",
        "loading.load.onnx.checker.check_model",
    ):
        with monkeypatch.context() as patched:
            patched.setattr(f"intrain_onnx.{place}", fail)
            for command in ("inspect", "audit"):
                found = typed(path, command=command)
                assert found.exit_code == 6, (place, command, found.output)
                assert "out of memory" in found.stderr


def test_a_block_inside_goes_on_with_the_one_around():
    with allowance.held(Limits(seconds=9)) as around:
        with allowance.held() as inner:
            assert inner is around
        with allowance.held(Limits(seconds=5)) as own:
            assert own.limits.seconds == 5
    assert allowance.current().limits == Limits()


def test_every_limit_may_be_set_and_none_is_negative():
    for row in fields(Limits):
        assert getattr(parsed([f"{row.name}=5"]), row.name) == 5
        with pytest.raises(ValueError, match=row.name):
            Limits(**{row.name: -1})
