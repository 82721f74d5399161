"""The imports of a package, read from its files without running any.

    python tests/import_graph.py [FOLDER OF A PACKAGE]

counts them. A *place* is a module directly in the package, or a sub-package with all that is in it. Every
import statement counts, those inside functions and for type checkers too.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path


@dataclass(frozen=True)
class Import:
    """One module that another imports: ``network.layers`` of the package itself, ``torch`` of another.

    Attributes:
        target: its name.
        runs: when: as the module is loaded, when a function is called, or never (for type checkers).
    """

    target: str
    runs: str


def place(name: str) -> str:
    """The module or sub-package directly in the package that a module is, or is in."""
    return name.partition(".")[0]


class Package:
    """The modules of a package by their names below it: ``ops`` is ops/__init__.py, ``ops.math`` ops/math.py.

    Attributes:
        files: of all modules.
        trees: the modules, parsed.
        imports: what each imports.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {self._name(file): file for file in sorted(folder.rglob("*.py"))}
        self.trees = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in self.files.items()}
        self.imports = {name: frozenset(self._imports(tree)) for name, tree in self.trees.items()}

    def _name(self, file: Path) -> str:
        parts = file.relative_to(self.folder).with_suffix("").parts
        return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)

    def _imports(self, tree: ast.Module) -> Iterator[Import]:
        for node, runs in _statements(tree.body, "on load"):
            for target in self._targets(node):
                yield Import(self._short(target), runs)

    def _targets(self, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        assert node.level == 0, f"line {node.lineno}: imports in the package are absolute"
        for alias in node.names:
            below = f"{node.module}.{alias.name}"
            yield below if below.removeprefix(f"{self.folder.name}.") in self.files else str(node.module)

    def _short(self, target: str) -> str:
        own, _, below = target.partition(".")
        if own != self.folder.name:
            return own
        return below or "__init__"

    def arrows(self) -> dict[str, set[str]]:
        """The modules of the package that each imports, at whatever time."""
        return {n: {i.target for i in self.imports[n] if i.target in self.files} for n in self.files}

    def reached(self, name: str) -> set[str]:
        """All that loading a module loads, through others and through the packages that they are in too."""
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            current = waiting.pop()
            if current not in seen:
                seen.add(current)
                if current in self.files:
                    waiting += [i.target for i in self.imports[current] if i.runs == "on load"]
                    waiting += [parent for parent in [current.rpartition(".")[0]] if parent]
        return seen - {name}


def _statements(body: Iterable[ast.AST], runs: str) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
    for node in body:
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node, runs
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from _statements(node.body, "never")
            yield from _statements(node.orelse, runs)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from _statements(node.body, "on call" if runs == "on load" else runs)
        else:
            yield from _statements(ast.iter_child_nodes(node), runs)


def by_place(arrows: Mapping[str, set[str]]) -> dict[str, set[str]]:
    """The same between places."""
    found: dict[str, set[str]] = {place(n): set() for n in arrows}
    for name, targets in arrows.items():
        found[place(name)] |= {place(t) for t in targets} - {place(name)}
    return found


def circles(arrows: Mapping[str, set[str]]) -> list[list[str]]:
    """Sets of two or more that all reach each other (the strongly connected components of the graph)."""
    behind = {n: _behind(arrows, n) for n in arrows}
    groups = {frozenset({n} | {m for m in behind[n] if n in behind[m]}) for n in arrows}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _behind(arrows: Mapping[str, set[str]], name: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(arrows[name])
    while waiting:
        current = waiting.pop()
        if current not in seen:
            seen.add(current)
            waiting += arrows[current]
    return seen


def levels(arrows: Mapping[str, set[str]]) -> int:
    """Length of the longest chain of imports, where a circle counts as one."""
    of = {n: n for n in arrows} | {n: group[0] for group in circles(arrows) for n in group}
    merged: dict[str, set[str]] = {of[n]: set() for n in arrows}
    for name, targets in arrows.items():
        merged[of[name]] |= {of[t] for t in targets} - {of[name]}
    depth: dict[str, int] = {}
    for name in TopologicalSorter(merged).static_order():
        depth[name] = 1 + max((depth[t] for t in merged[name]), default=0)
    return max(depth.values())


def in_folders(package: Package) -> Counter[str]:
    """Number of modules in each folder, ``__init__`` left out."""
    files = [f for f in package.files.values() if f.name != "__init__.py"]
    return Counter(f.parent.relative_to(package.folder).as_posix() for f in files)


def main() -> None:
    """Print the counts of one package."""
    default = Path(__file__).parents[1] / "intrain_onnx"
    package = Package(Path(sys.argv[1]) if len(sys.argv) > 1 else default)
    modules = package.arrows()
    places = by_place(modules)
    for what, arrows in (("modules", modules), ("places", places)):
        number = sum(map(len, arrows.values()))
        print(f"{len(arrows)} {what}, {number} arrows, {levels(arrows)} levels, circles {circles(arrows)}")
    print("modules in a folder:", ", ".join(f"{n} {k}" for k, n in in_folders(package).most_common(8)))


if __name__ == "__main__":
    main()
