"""Spaces of one's own: from a file and from another package, through the command, and every way to fail."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from click.testing import CliRunner, Result

from intrain_onnx.bench import find_space, records
from intrain_onnx.bench.find_space import find
from intrain_onnx.bench.spaces import SPACES, Genome, Space
from intrain_onnx.cli import main
from intrain_onnx.errors import SettingsError

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "example_space.py"
QUICK = ("--protocol", "architecture", "--batch", "4")


def bench(*args: object) -> Result:
    result = CliRunner().invoke(main, ["bench", *map(str, args)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def space_file(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a file with a space, of which a part may be replaced."""
    text = EXAMPLE.read_text()

    def write(old: str = "", new: str = "") -> Path:
        assert old in text
        path = tmp_path / "mine.py"
        path.write_text(text.replace(old, new, 1))
        return path

    return write


# The example


@pytest.mark.workers
def test_the_example_runs_through_the_command_in_worker_processes(tmp_path: Path):
    args = (EXAMPLE, "--accuracies", DOCS / "example_space.csv", *QUICK, "-o", tmp_path)
    result = bench(*args, "--workers", 2)
    assert result.exit_code == 0, result.output
    assert {p.name for p in tmp_path.iterdir()} == {
        "results.jsonl",
        "summary.json",
        "table.md",
        "scatter.svg",
    }
    found = json.loads((tmp_path / "summary.json").read_text())
    assert (found["architectures"], found["failures"]) == (12, [])
    assert "unmatched" not in found
    measured = {row["name"]: row["results"]["made up"] for row in found["measures"]}
    assert measured["#Params"]["tau"]["value"] > 0.8
    assert (tmp_path / "table.md").read_text().startswith("### Stacks of convolutions\n")
    assert "12 architectures" in result.output
    assert bench(*args, "--resume").exit_code == 0


def test_the_file_in_the_documentation_is_a_space(tmp_path: Path):
    text = (DOCS / "add-a-space.md").read_text()
    (tmp_path / "widths.py").write_text(re.search(r"```python\n(.*?)```", text, re.DOTALL)[1])
    space = find(str(tmp_path / "widths.py")).space
    made = space.build(space.describe({"width": " 8 "}), fold=False)
    assert isinstance(made, onnx.ModelProto)
    assert {node.op_type for node in made.graph.node} >= {"Conv", "BatchNormalization", "Gemm"}


def test_results_of_another_version_of_a_file_are_not_gone_on_with(
    space_file: Callable[..., Path], tmp_path: Path
):
    args = ("--accuracies", DOCS / "example_space.csv", *QUICK, "--sample", 2, "-o", tmp_path / "out")
    assert bench(space_file(), *args).exit_code == 0
    assert bench(space_file(), *args, "--resume").exit_code == 0
    result = bench(space_file("stride=2 if index else 1", "stride=1"), *args, "--resume")
    assert result.exit_code == 2
    assert "space was 'stacks of mine.py" in result.output


def test_the_genome_of_the_example_reaches_what_a_table_may_name():
    space, generator = find(str(EXAMPLE)).space, random.Random(0)
    assert space.genome is not None
    genes = [space.genome.draw(generator) for _ in range(200)]
    names = {space.genome.express(g) for g in genes}
    assert {name.count("-") for name in names} == {1, 2, 3}
    for name in list(names)[:5]:
        made = space.build(name, fold=True)
        assert isinstance(made, onnx.ModelProto)
        convolutions = [node for node in made.graph.node if node.op_type == "Conv"]
        assert len(convolutions) == name.count("-") + 1
    assert space.draw(random.Random(3)) == space.genome.express(space.genome.draw(random.Random(3)))


# Genomes


def even(genes: tuple[int, ...]) -> str:
    """Only genes with an even sum are an architecture."""
    if sum(genes) % 2:
        raise SettingsError("odd")
    return "-".join(map(str, genes))


def test_mutation_changes_one_gene_and_crossing_takes_each_of_a_parent():
    genome, generator = Genome(alleles=(3, 1, 5), express=even), random.Random(1)
    seen = set()
    for _ in range(300):
        one, other = genome.draw(generator), genome.draw(generator)
        assert genome.is_valid(one)
        mutant = genome.mutated(one, generator)
        assert sum(a != b for a, b in zip(one, mutant, strict=True)) == 1
        assert all(0 <= gene < number for gene, number in zip(mutant, genome.alleles, strict=True))
        child = genome.crossed(one, other, generator)
        assert all(gene in pair for gene, *pair in zip(child, one, other, strict=True))
        seen |= {one, mutant}
    assert seen == {(a, 0, b) for a in range(3) for b in range(5)}


def test_operators_of_its_own_take_precedence():
    genome = Genome(
        alleles=(2, 2), express=even, mutate=lambda genes, _: genes[::-1], cross=lambda one, *_: one
    )
    assert genome.mutated((0, 1), random.Random(0)) == (1, 0)
    assert genome.crossed((0, 1), (1, 1), random.Random(0)) == (0, 1)


def test_a_space_without_a_valid_architecture_ends():
    nothing = Genome(alleles=(1, 1), express=lambda genes: even((*genes, 1)))
    with pytest.raises(SettingsError, match="none of 10,000 random genomes is valid"):
        nothing.draw(random.Random(0))
    with pytest.raises(SettingsError, match="cannot be sampled"):
        Space(name="x", describe=str, build=str).draw(random.Random(0))  # type: ignore[arg-type]


# What is wrong with a file


@pytest.mark.parametrize(
    ("old", "new", "line", "cause"),
    [
        ("WIDTHS = (4", "WIDTHS = ((4", "SPACE = Space(", None),
        ("DEPTH = 4", "DEPTH = 4 / 0", "DEPTH = 4 / 0", "ZeroDivisionError: division by zero"),
        ("import onnx", "import onyx", "import onyx", "ModuleNotFoundError: No module named 'onyx'"),
        ("map(str, parse", "map(len, parse", "return", "TypeError: object of type 'int' has no len()"),
        ('column(row, "widths")', "row[0]", "row[0]", "KeyError: 0"),
    ],
)
def test_an_error_in_a_file_is_one_line_with_file_line_and_cause(
    space_file: Callable[..., Path], tmp_path: Path, old: str, new: str, line: str, cause: str | None
):
    path = space_file(old, new)
    result = bench(path, "--accuracies", DOCS / "example_space.csv", *QUICK, "-o", tmp_path / "out")
    assert result.exit_code == 2
    (said,) = result.stderr.splitlines()
    start, _, rest = said.removeprefix(f"error: {path}:").partition(": ")
    text = path.read_text().splitlines()
    if cause is None:
        assert rest.startswith("SyntaxError: ")
        assert 1 <= int(start) <= len(text)
    else:
        assert line in text[int(start) - 1]
        assert rest.startswith(cause)


def test_an_error_in_building_is_the_reason_of_that_architecture_alone(
    space_file: Callable[..., Path], tmp_path: Path
):
    path = space_file(
        "    writer, x, before", '    assert description != "8-16", "not this"\n    writer, x, before'
    )
    out = tmp_path / "out"
    result = bench(path, "--accuracies", DOCS / "example_space.csv", *QUICK, "-o", out)
    assert result.exit_code == 0
    failed = [r for r in records.read(out / "results.jsonl") if r.measured("architecture") is None]
    assert [r.architecture for r in failed] == ["8-16"]
    (reason,) = (r.protocols["architecture"].error for r in failed)
    number = next(i for i, line in enumerate(path.read_text().splitlines(), 1) if "not this" in line)
    assert reason == f"{os.path.realpath(path)}:{number}: AssertionError: not this. Repair it"


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("x = 1\n", "", "mine.py has no SPACE"),
        ("SPACE = 3\n", "", "mine.py: SPACE is a int, not a Space"),
        ("x = 3\n", ":y", "mine.py has no y"),
    ],
)
def test_what_is_no_space_is_told(tmp_path: Path, text: str, name: str, said: str):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(SettingsError, match=re.escape(said)):
        find(f"{tmp_path / 'mine.py'}{name}")


def test_what_is_built_must_be_a_model(space_file: Callable[..., Path]):
    space = find(str(space_file("    return writer.model(", "    return len("))).space
    with pytest.raises(SettingsError, match=r"mine\.py:\d+: TypeError"):
        space.build("8", fold=True)
    space = find(str(space_file("    return writer.model(logits", "    return dict(logits=logits"))).space
    with pytest.raises(SettingsError, match=r"build returned a dict, not an onnx\.ModelProto or a path"):
        space.build("8", fold=True)


def test_a_file_may_import_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    (tmp_path / "beside_for_tests.py").write_text("NAME = 'beside'\n")
    (tmp_path / "mine.py").write_text(
        "from beside_for_tests import NAME\nfrom intrain_onnx.bench.spaces import Space\n"
        "OTHER = Space(name=NAME, describe=str, build=str)\n"
    )
    found = find(f"{tmp_path / 'mine.py'}:OTHER")
    assert found.space.name == "beside"
    assert found.reference == f"{os.path.realpath(tmp_path / 'mine.py')}:OTHER"


# By name


def test_the_spaces_of_the_package_are_found_by_their_names():
    for name in SPACES:
        assert find(name) == find_space.Found(SPACES[name], name, name)
    with pytest.raises(
        SettingsError, match=r"there is no space 'nothing'. Name one of nasbench201, .* or FILE\.py"
    ):
        find("nothing")
    with pytest.raises(SettingsError, match="No such file"):
        find("nothing.py")


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package named acme-spaces that declares a space."""

    def install(text: str, name: str = "acme", package: str = "acme-spaces") -> None:
        info = tmp_path / f"{package.replace('-', '_')}-2.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 2.5\n")
        lines = f"[{find_space.GROUP}]\n{name} = acme_spaces_for_tests:SPACE\n"
        (info / "entry_points.txt").write_text(lines)
        (tmp_path / "acme_spaces_for_tests.py").write_text(text)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(__import__("sys").modules, "acme_spaces_for_tests", raising=False)
        find_space.declared.cache_clear()

    return install


def test_a_package_declares_a_space(install: Callable[..., None], tmp_path: Path):
    install(EXAMPLE.read_text())
    found = find("acme")
    assert (found.reference, found.label) == ("acme", "acme of acme-spaces 2.5")
    args = ("--accuracies", DOCS / "example_space.csv", *QUICK, "--sample", 2, "-o", tmp_path / "out")
    assert bench("acme", *args).exit_code == 0
    find_space.declared.cache_clear()


def test_a_broken_package_is_named(install: Callable[..., None]):
    install("1 / 0\n")
    with pytest.raises(SettingsError) as caught:
        find("acme")
    assert str(caught.value) == (
        "package 'acme-spaces' (acme = acme_spaces_for_tests:SPACE) fails to import: "
        "ZeroDivisionError: division by zero. Repair it"
    )
    assert find("nasbench201").label == "nasbench201"


def test_two_packages_of_one_name_are_refused(install: Callable[..., None]):
    install(EXAMPLE.read_text())
    install(EXAMPLE.read_text(), package="other-spaces")
    with pytest.raises(
        SettingsError, match=r"'acme' is declared by (acme|other)-spaces and (acme|other)-spaces"
    ):
        find("acme")
