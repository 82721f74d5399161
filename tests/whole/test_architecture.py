"""The shape of the package: imports run one way, torch stays in its packages, files and folders small."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from import_graph import Package, by_place, circles, in_folders, place

import intrain_onnx

PACKAGE = Package(Path(intrain_onnx.__file__).parent)
ARROWS = PACKAGE.arrows()

GROUND = ("errors", "versions", "memory", "progress", "vocabulary", "proxy_table", "config")
BELOW_TORCH = ("opset", "loading", "network", "rewrites")
WITH_TORCH = ("ops", "runtime", "measure", "parity", "proxies")
BEHIND_TORCH = ("scores", "report")
ENTRIES = ("inspection", "pipeline", "backend")
USERS = ("bench", "audit", "commands", "cli", "__init__", "__main__")

ORDER = GROUND + BELOW_TORCH + WITH_TORCH + BEHIND_TORCH + ENTRIES + USERS
"""Modules and sub-packages: each may import what stands before it, and nothing that stands behind."""

TORCH = {*WITH_TORCH, "pipeline", "backend"}
"""All others do without: a graph is inspected and a saved report drawn in milliseconds."""

TORCH_MODULES = {"audit.activation_ranges", "bench.measure"}
"""Modules elsewhere that run a model: others import them when they do."""

LIGHT_MODULES = {"measure.trace", "parity.onnxruntime_worker", "proxies.aggregate", "proxies.document"}
"""Modules beside those with torch that do without: what others read of a run, and a process of its own."""

ALONE = {"errors", "versions", "vocabulary", "loading.limits", "measure.trace", "opset.kinds"}
"""Import nothing of the package."""

IMPORTED_BY = {
    "audit": {"commands"},
    "bench": {"commands"},
    "report.annotate": {"commands"},
    "report.page": {"commands"},
    "pipeline": {"audit", "bench", "commands", "__init__"},
    "click": {"cli", "commands"},
    "rich": {"audit.formats.terminal", "commands.terminal"},
    "jinja2": {"report.page"},
    "onnxruntime": {"parity.telemetry"},
    "onnx2torch": {"runtime.onnx2torch_converter"},
    "scipy": {"audit.checks", "bench", "scores.scoring"},
    "matplotlib": {"bench.plot"},
    "subprocess": {"parity.onnxruntime_process"},
}
"""Who alone may import these: modules, or packages with all that is in them."""


def is_in(name: str, package: str) -> bool:
    """Whether a module is another, or in it."""
    return f"{name}.".startswith(f"{package}.")


def test_every_place_has_one_in_the_order():
    assert sorted(ORDER) == sorted(by_place(ARROWS))


@pytest.mark.parametrize("name", ARROWS)
def test_imports_run_one_way(name: str):
    own = ORDER.index(place(name))
    assert not {t for t in ARROWS[name] if ORDER.index(place(t)) > own}


def test_no_circles():
    assert circles(ARROWS) == []
    assert circles(by_place(ARROWS)) == []


@pytest.mark.parametrize("name", sorted(ALONE))
def test_these_stand_alone(name: str):
    assert not ARROWS[name]


@pytest.mark.parametrize(
    "name", sorted(LIGHT_MODULES | {n for n in ARROWS if place(n) not in TORCH} - TORCH_MODULES)
)
def test_torch_stays_in_its_packages(name: str):
    assert "torch" not in PACKAGE.reached(name)
    assert "torch" not in {i.target for i in PACKAGE.imports[name]}


@pytest.mark.parametrize("name", ["__init__", "cli"])
@pytest.mark.parametrize("library", ["msgspec", "onnx", "scipy", "rich"])
def test_starting_loads_little(name: str, library: str):
    assert library not in PACKAGE.reached(name)


@pytest.mark.parametrize("name", [n for n in ARROWS if place(n) in (*BEHIND_TORCH, "inspection")])
def test_what_is_behind_torch_does_not_call_it(name: str):
    called = {i.target for i in PACKAGE.imports[name] if i.runs == "on call"} & set(ARROWS)
    assert not any("torch" in PACKAGE.reached(target) for target in called)


@pytest.mark.parametrize("target", IMPORTED_BY)
def test_few_may_import_these(target: str):
    allowed = IMPORTED_BY[target] | {target}
    for name, found in PACKAGE.imports.items():
        if any(is_in(i.target, target) for i in found if i.runs != "never"):
            assert any(is_in(name, a) for a in allowed), name


def test_only_the_command_line_prints():
    for name, tree in PACKAGE.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("print", "input", "eval", "exec"), f"{name}:{node.lineno}"


def test_nothing_reaches_for_pickles_or_the_network():
    risky = {"pickle", "shelve", "marshal", "socket", "urllib", "http", "ftplib", "ctypes"}
    for name, found in PACKAGE.imports.items():
        assert not {i.target for i in found} & risky, name


@pytest.mark.parametrize("name", PACKAGE.files)
def test_files_stay_small(name: str):
    assert len(PACKAGE.files[name].read_text(encoding="utf-8").splitlines()) <= 520


def test_folders_stay_small():
    one_file_an_entry = {"ops", "proxies", "bench/spaces"}
    assert {f: n for f, n in in_folders(PACKAGE).items() if n > 16 and f not in one_file_an_entry} == {}


def public(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            yield f"{prefix}{node.name}", node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{prefix}{node.name}.")


@pytest.mark.parametrize("name", PACKAGE.files)
def test_what_is_public_says_what_it_is(name: str):
    tree = PACKAGE.trees[name]
    assert ast.get_docstring(tree) or name == "__main__"
    silent = [n for n, node in public(tree.body) if not ast.get_docstring(node)]  # type: ignore[arg-type]
    assert silent == []


def test_public_names_resolve():
    for name in intrain_onnx.__all__:
        assert getattr(intrain_onnx, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        intrain_onnx.nothing  # noqa: B018
