"""The shape of the package and its tests: imports run one way, files are small, tests lie where one looks."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from import_graph import Package, by_place, circles, in_folders, place

import intrain_onnx

PACKAGE = Package(Path(intrain_onnx.__file__).parent)
ARROWS = PACKAGE.arrows()

GROUND = ("errors", "versions", "memory", "untrusted", "progress", "vocabulary", "proxy_table", "config")
ENGINE = ("engine",)
BELOW_TORCH = ("opset", "loading", "network", "rewrites")
WITH_TORCH = ("ops", "runtime", "measure", "parity", "proxies")
BEHIND_TORCH = ("scores", "report")
ENTRIES = ("inspection", "pipeline", "backend", "failure", "jobs")
USERS = ("bench", "diff", "audit", "rank", "checkpoints", "search", "commands", "cli", "__init__", "__main__")

ORDER = GROUND + ENGINE + BELOW_TORCH + WITH_TORCH + BEHIND_TORCH + ENTRIES + USERS
"""Modules and sub-packages: each may import what stands before it, and nothing that stands behind."""

TORCH = {*WITH_TORCH, "pipeline", "backend"}
"""All others do without: a graph is inspected and a saved report drawn in milliseconds."""

TORCH_MODULES = {
    "audit.activation_ranges",
    "audit.deployment.latency",
    "audit.deployment.precision",
    "audit.vary",
    "bench.measure",
    "bench.torchvision_export",
    "checkpoints.measure",
    "checkpoints.tensorboard",
    "diff.activations",
    "diff.feeding",
    "diff.run",
    "search.hand_over",
}
"""Modules elsewhere that run a model: others import them when they do."""

LIGHT_MODULES = {
    "measure.trace",
    "parity.onnxruntime_process",
    "parity.onnxruntime_sessions",
    "parity.onnxruntime_worker",
    "parity.telemetry",
    "proxies.aggregate",
    "proxies.document",
}
"""Modules beside those with torch that do without: what others read of a run, and a process of its own."""

ALONE = {"errors", "versions", "untrusted", "vocabulary", "loading.limits", "measure.trace", "opset.kinds"}
"""Import nothing of the package."""

IMPORTED_BY = {
    "audit": {"checkpoints.measure", "commands"},
    "checkpoints": {"commands", "__init__"},
    "diff": {"audit", "checkpoints.measure", "commands"},
    "bench": {"commands", "search"},
    "report.annotate": {"commands", "jobs"},
    "report.page": {"audit.page", "checkpoints", "commands", "diff.page", "rank.tables", "search.page"},
    "pipeline": {
        "audit",
        "bench",
        "checkpoints.measure",
        "commands",
        "diff",
        "jobs",
        "rank",
        "search",
        "__init__",
    },
    "rank": {"checkpoints", "commands", "search"},
    "search": {"commands"},
    "fsspec": {"rank.remote"},
    "model_signing": {"audit.deployment.signature"},
    "pandas": {"report.frames.table"},
    "pyarrow": {"report.frames.table"},
    "pymoo": {"search.evolution"},
    "ray": {"engine.ray_actors"},
    "multiprocessing": {"engine"},
    "click": {"cli", "commands"},
    "cyclonedx": {"audit.formats.bom"},
    "rich": {"audit.formats.terminal", "commands.terminal", "report.console"},
    "jinja2": {"report.templates"},
    "onnxruntime": {"parity.telemetry"},
    "onnx2torch": {"runtime.onnx2torch_converter"},
    "scipy": {
        "audit.checks",
        "bench",
        "diff.weights",
        "scores.expected_health",
        "scores.rank_correlation",
        "scores.scoring",
    },
    "matplotlib": {"bench.plot"},
    "subprocess": {"parity.onnxruntime_process"},
}
"""Who alone may import these: modules, or packages with all that is in them."""


TESTS = Path(__file__).parents[1]
SHORT = 60
"""Lines up to which a module needs no test file of its name."""

ONE_FILE_AN_ENTRY = ("ops", "proxies", "bench.spaces")
"""May be of any size; their tests go by families, or by what every entry has in common."""

TESTED_BY = {
    "engine.ray_actors": "engine/test_ray.py",
    "engine.outcomes": "engine/test_processes.py",
    "engine.worker": "engine/test_processes.py",
    "engine.worker_process": "engine/test_processes.py",
    "jobs": "commands/test_isolation.py",
    "commands.compare": "report/test_comparison.py",
    "commands.rank": "rank/test_command.py",
    "commands.terminal.progress": "rank/test_command.py",
    "commands.terminal.ranks": "rank/test_command.py",
    "rank.job": "rank/test_run.py",
    "rank.remote": "rank/test_run.py",
    "rank.results": "rank/test_run.py",
    "rank.rows": "rank/test_run.py",
    "checkpoints.heat": "checkpoints/test_page.py",
    "checkpoints.results": "checkpoints/test_run.py",
    "checkpoints.rows": "checkpoints/test_run.py",
    "commands.series": "checkpoints/test_command.py",
    "commands.terminal.series": "checkpoints/test_command.py",
    "commands.diff": "diff/test_command.py",
    "commands.terminal.diff": "diff/test_command.py",
    "diff.activations": "diff/test_run.py",
    "diff.feeding": "diff/test_run.py",
    "diff.page": "diff/test_command.py",
    "diff.rows": "diff/test_command.py",
    "diff.thresholds": "diff/test_run.py",
    "diff.weights": "diff/test_run.py",
    "network.signature.shape_conflicts": "rewrites/test_solve_sizes.py",
    "network.recognise": "network/test_layers.py",
    "measure.search_sizes": "measure/test_node_hints.py",
    "measure.trial": "rewrites/test_solve_sizes.py",
    "measure.statistics.ledger": "measure/statistics/test_moments.py",
    "measure.statistics.through_weights": "measure/test_calibration.py",
    "network.signature.mask_polarity": "measure/test_settle_values.py",
    "audit.activation_ranges": "audit/test_checks.py",
    "audit.deployment.facts": "audit/test_checks.py",
    "audit.deployment.gather": "audit/deployment/test_latency.py",
    "audit.deployment.rows": "audit/test_formats.py",
    "audit.evidence": "audit/test_needs.py",
    "audit.facts": "audit/test_checks.py",
    "audit.rows": "audit/test_formats.py",
    "audit.run": "audit/test_command.py",
    "audit.table": "audit/test_checks.py",
    "audit.static": "audit/test_checks.py",
    "audit.suspects": "audit/test_vary.py",
    "audit.weights": "audit/test_checks.py",
    "backend": "conformance/test_backend.py",
    "bench.ablation": "scores/test_variants.py",
    "bench.measures": "bench/test_command.py",
    "bench.run": "bench/test_command.py",
    "bench.summary": "bench/test_command.py",
    "bench.token_writer": "bench/test_spaces.py",
    "bench.writer": "bench/test_spaces.py",
    "commands.audit": "audit/test_command.py",
    "commands.bench": "bench/test_command.py",
    "commands.shared": "commands/test_failures.py",
    "commands.terminal.compare": "report/test_comparison.py",
    "commands.terminal.inspect": "commands/test_inspect.py",
    "commands.terminal.modules": "commands/test_modules.py",
    "commands.terminal.ranking": "commands/test_ranking.py",
    "commands.terminal.shared": "commands/test_ranking.py",
    "commands.terminal.summary": "commands/test_score.py",
    "inspection": "commands/test_inspect.py",
    "loading.external_data": "loading/test_load.py",
    "loading.function_checks": "loading/test_load.py",
    "loading.allowance": "loading/test_limits.py",
    "loading.model_checks": "loading/test_load.py",
    "measure.trace": "scores/test_scoring.py",
    "network.channel_parts": "network/test_layers.py",
    "network.known_values": "rewrites/test_unroll.py",
    "network.layer_keys": "rewrites/test_canonical.py",
    "network.marks": "rewrites/test_unroll.py",
    "network.values": "rewrites/test_computed_weights.py",
    "opset.kinds": "opset/test_traits.py",
    "opset.node_checks": "loading/test_operator_checks.py",
    "opset.plugins": "opset/test_support_table.py",
    "opset.rules": "loading/test_operator_checks.py",
    "opset.support": "opset/test_support_table.py",
    "opset.table": "opset/test_traits.py",
    "parity.onnxruntime_worker": "parity/test_onnxruntime_process.py",
    "pipeline": "whole/test_invariance.py",
    "__init__": "whole/test_api.py",
    "proxy_table": "proxies/test_measure.py",
    "runtime.live_memory": "whole/test_hostile_runtime.py",
    "report.assemble": "commands/test_score.py",
    "report.derived": "report/test_page.py",
    "report.document": "commands/test_score.py",
    "report.model_warnings": "commands/test_score.py",
    "report.schema_versions": "report/test_rows.py",
    "rewrites.fold_weights": "rewrites/test_normalise.py",
    "rewrites.infer_shapes": "rewrites/test_normalise.py",
    "rewrites.inline_functions": "loading/test_load.py",
    "rewrites.loop_rounds": "rewrites/test_unroll.py",
    "rewrites.forms.written_out": "rewrites/test_unroll.py",
    "runtime.arrays": "ops/test_cast.py",
    "runtime.convert": "ops/test_types.py",
    "scores.run_values": "scores/test_variants.py",
    "scores.counting": "search/test_costs.py",
    "commands.search": "search/test_command.py",
    "search.evolution": "search/test_walk.py",
    "search.hand_over": "search/test_command.py",
    "search.job": "search/test_command.py",
    "search.results": "search/test_command.py",
    "search.rows": "search/test_command.py",
    "search.run": "search/test_command.py",
}
"""Of a module without a test file of its name, the one that tests it; below `TESTS`."""


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
    folders = {folder.replace("/", "."): number for folder, number in in_folders(PACKAGE).items()}
    assert {f: n for f, n in folders.items() if n > 16 and f not in ONE_FILE_AN_ENTRY} == {}


def lies_at(name: str) -> Iterator[Path]:
    """Where the tests of a module lie: under its own name, or under that of a sub-package that it is in."""
    parts = name.split(".")
    for depth in range(len(parts), min(len(parts), 2) - 1, -1):
        yield TESTS.joinpath(*parts[: depth - 1], f"test_{parts[depth - 1]}.py")


def needs_tests(name: str) -> bool:
    lines = len(PACKAGE.files[name].read_text(encoding="utf-8").splitlines())
    return lines > SHORT and not any(is_in(name, package) for package in ONE_FILE_AN_ENTRY)


@pytest.mark.parametrize("name", [name for name in PACKAGE.files if needs_tests(name)])
def test_the_tests_of_a_module_are_found_by_its_name(name: str):
    found = any(path.is_file() for path in lies_at(name))
    wanted = next(lies_at(name)).relative_to(TESTS.parent)
    assert found or name in TESTED_BY, f"write {wanted}, or say in TESTED_BY who tests {name}"


@pytest.mark.parametrize("name", TESTED_BY)
def test_the_table_of_tests_is_short_and_true(name: str):
    assert needs_tests(name), f"{name} needs no row"
    assert not any(path.is_file() for path in lies_at(name)), f"{name} has tests of its name"
    assert (TESTS / TESTED_BY[name]).is_file()


@pytest.mark.parametrize("path", sorted(TESTS.glob("test_*.py")), ids=lambda p: p.name)
def test_what_lies_on_top_tests_a_module_on_top(path: Path):
    """What is about the whole lies in tests/whole."""
    assert path.stem.removeprefix("test_") in PACKAGE.files


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
