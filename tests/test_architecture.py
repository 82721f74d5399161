"""The shape of the package: imports point one way, heavy ones stay where they belong, files stay small.

errors, config <- load, graph, ops … <- convert <- inputs, initialise, probe <- pipeline <- cli
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import intrain_onnx
from intrain_onnx import operator_table
from intrain_onnx.opset import support

PACKAGE = Path(intrain_onnx.__file__).parent
NAME = PACKAGE.name
FILES = sorted(PACKAGE.rglob("*.py"))

STAGES = ["errors", "config", "load", "graph", "convert", "probe", "pipeline", "cli"]
"""The way of the data: none of them imports a later one, not even through others."""

ALONE = {"errors", "limits", "trace"}
"""Import nothing of the package."""

IMPORTED_BY = {
    "cli": {"__main__"},
    "commands": {"cli"},
    "audit": {"commands", "ranges"},
    "ranges": {"audit"},
    "pipeline": {"audit", "bench", "commands", "__init__"},
    "render": {"commands"},
    "click": {"cli", "commands"},
    "annotate": {"commands"},
    "webpage": {"commands"},
    "rich": {"audit", "render"},
    "jinja2": {"webpage"},
    "onnxruntime": {"telemetry"},
    "onnx2torch": {"second_converter"},
    "scipy": {"audit", "bench", "scoring"},
    "matplotlib": {"bench"},
    "subprocess": {"reference"},
}
"""Rooms that few may enter, and third parties that one room alone knows."""

TORCH_ROOMS = {
    "arrays", "backend", "convert", "initialise", "inputs", "interpreter", "operator_table", "ops", "oracle",
    "parity", "pipeline", "preparation", "probe", "proxies", "ranges", "rng", "second_converter", "stats",
}  # fmt: skip
"""All others work without torch: a graph is inspected and a saved report drawn in milliseconds."""

TORCH_MODULES = {"bench.measure"}
"""Modules of other rooms that need it: workers import them."""

LIGHT_MODULES = {"proxies", "proxies.aggregate", "proxies.document"}
"""Modules of those rooms that do without: tables, and what reads stored values."""


def module(file: Path) -> str:
    """``load`` for load.py, ``ops.math`` for ops/math.py, ``ops`` for ops/__init__.py."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module(file): file for file in FILES}


def room(name: str) -> str:
    """A module, or the folder that it is in."""
    return name.partition(".")[0]


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


def statements(body: list[ast.stmt], *, inside: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Import statements that run: not those for type checkers; inside functions only where asked for."""
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from statements(node.orelse, inside=inside)
        elif inside or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for part in ("body", "orelse", "finalbody"):
                yield from statements(getattr(node, part, []), inside=inside)
            for handler in getattr(node, "handlers", []):
                yield from statements(handler.body, inside=inside)


@cache
def imports(name: str, *, inside: bool = True) -> frozenset[str]:
    """What a module imports: modules of the package by their short name, others by their top-level name."""
    found = set()
    for node in statements(tree(name).body, inside=inside):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{name}: imports in the package are absolute"
            below = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [t if t.removeprefix(f"{NAME}.") in MODULES else str(node.module) for t in below]
        for target in targets:
            if target == NAME:
                found.add("__init__")
            elif target.startswith(f"{NAME}."):
                found.add(target.removeprefix(f"{NAME}."))
            else:
                found.add(target.partition(".")[0])
    return frozenset(found)


def reached(name: str, seen: set[str] | None = None) -> set[str]:
    """All that importing a module imports, through others too."""
    seen = set() if seen is None else seen
    for target in imports(name, inside=False):
        if target not in seen:
            seen.add(target)
            if target in MODULES:
                package = target.partition(".")[0]
                if package != target and package not in seen:
                    seen.add(package)
                    reached(package, seen)
                reached(target, seen)
    return seen


def test_stages_point_one_way():
    for index, stage in enumerate(STAGES):
        later = reached(stage) & set(STAGES[index + 1 :])
        assert not later, f"{stage} imports {later}"


@pytest.mark.parametrize("name", sorted(ALONE))
def test_these_stand_alone(name: str):
    assert not imports(name) & set(MODULES)


def test_no_room_imports_itself_through_others():
    entered = {
        r: {room(t) for n in MODULES if room(n) == r for t in imports(n, inside=False) if t in MODULES} - {r}
        for r in map(room, MODULES)
    }
    order = TopologicalSorter(entered)
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize(
    "name", sorted(LIGHT_MODULES | {n for n in MODULES if room(n) not in TORCH_ROOMS} - TORCH_MODULES)
)
def test_torch_stays_in_its_rooms(name: str):
    assert "torch" not in reached(name)
    assert "torch" not in imports(name)


@pytest.mark.parametrize("target", IMPORTED_BY)
def test_few_may_import_these(target: str):
    assert {room(name) for name in MODULES if target in imports(name)} <= IMPORTED_BY[target]


def test_only_the_command_line_prints():
    for name in MODULES:
        for node in ast.walk(tree(name)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "input", "eval", "exec"), f"{name}:{node.lineno}"


def test_nothing_reaches_for_pickles_or_the_network():
    risky = {"pickle", "shelve", "marshal", "socket", "urllib", "http", "ftplib", "ctypes"}
    for name in MODULES:
        assert not imports(name) & risky, name


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.relative_to(PACKAGE).as_posix())
def test_files_stay_small(file: Path):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= 520


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("name", MODULES)
def test_what_is_public_says_what_it_is(name: str):
    assert ast.get_docstring(tree(name)) or name == "__main__"
    silent = [n for n, node in public(tree(name).body) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert silent == []


def test_the_operator_table_is_that_of_the_handlers():
    stored = (PACKAGE / "opset" / "operators.json").read_text(encoding="utf-8")
    assert stored == operator_table.text(), "run `python -m intrain_onnx.operator_table`"
    assert support.table() == json.loads(stored) == operator_table.table()


def test_public_names_resolve():
    for name in intrain_onnx.__all__:
        assert getattr(intrain_onnx, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        intrain_onnx.nothing  # noqa: B018
