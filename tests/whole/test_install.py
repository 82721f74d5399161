"""What is installed: package and converters by every way, metadata, and no GPU package by the CPU route."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from email import message_from_string
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
FRAMEWORKS = sorted(file.stem.removeprefix("from_") for file in ROOT.glob("converters/from_*.py"))
BUILD = "import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"


def script(name: str) -> ModuleType:
    """A module of scripts/."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


CPU_ROUTE = script("cpu_route")
LONG = script("long_description")


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a build reads, apart from the clone: builds leave folders behind."""
    folder = tmp_path_factory.mktemp("sources")
    unwanted = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("intrain_onnx", "converters", "docs"):
        shutil.copytree(ROOT / name, folder / name, ignore=unwanted)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def built(kind: str, sources: Path, folder: Path) -> Path:
    """A wheel or an sdist."""
    done = run(sys.executable, "-c", BUILD, f"build_{kind}", folder, cwd=sources)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", sources, tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Any:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA")]
        return message_from_string(archive.read(name).decode())


@pytest.fixture(scope="module", params=["wheel", "sdist", "editable"])
def installed(
    request: pytest.FixtureRequest, sources: Path, wheel: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of commands of a fresh environment with the package alone, which sees what this one has."""
    folder = tmp_path_factory.mktemp(str(request.param))
    venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    python = folder / "bin" / "python"
    place = run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").stdout.strip()
    (Path(place) / "beside.pth").write_text(
        f"{sysconfig.get_path('purelib')}\n{sysconfig.get_path('platlib')}\n"
    )
    what = {"wheel": [wheel], "editable": ["-e", sources]}.get(request.param)
    what = what or [built("sdist", sources, folder)]
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--ignore-installed"]
    done = run(sys.executable, "-m", "pip", "--python", python, "install", *options, *what)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "bin"


def command(installed: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return run(installed / arguments[0], *arguments[1:], cwd=cwd, env=kept)


def test_the_converters_come_with_the_package(installed: Path, tmp_path: Path):
    told = command(installed, "intrain-onnx-convert", "--help", cwd=tmp_path)
    assert told.returncode == 0, told.stderr
    assert re.findall(r"^  (\w+)  +\w", told.stdout.partition("Commands:")[2], re.MULTILINE) == FRAMEWORKS
    helped = command(installed, "intrain-onnx-convert", "keras", "--help", cwd=tmp_path)
    assert helped.returncode == 0, helped.stderr
    assert helped.stdout.startswith("usage: intrain-onnx-convert keras ")
    assert "--import FILE.py" in helped.stdout
    where = (
        "import intrain_onnx, intrain_onnx_converters as c; print(intrain_onnx.__file__, list(c.__path__)[0])"
    )
    package, scripts = command(installed, "python", "-c", where, cwd=tmp_path).stdout.split()
    assert not Path(package).is_relative_to(ROOT)
    assert not Path(scripts).is_relative_to(ROOT)


def test_the_command_converts(installed: Path, tmp_path: Path):
    arguments = ("--factory", "torch.nn:Linear", "--kwargs", '{"in_features": 4, "out_features": 3}')
    options = ("--exporter", "torchscript", "--input", "1x4", "-o", "m.onnx")
    done = command(installed, "intrain-onnx-convert", "pytorch", *arguments, *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "15 parameters" in done.stdout
    assert (tmp_path / "m.onnx").is_file()
    assert "15 parameters" in command(installed, "intrain-onnx", "inspect", "m.onnx", cwd=tmp_path).stdout


def test_every_package_and_its_files_are_in_the_wheel(wheel: Path):
    """pyproject.toml names packages one by one, as one of them lies elsewhere."""
    tracked = run("git", "ls-files", "intrain_onnx", cwd=ROOT)
    if tracked.returncode:
        pytest.skip("no clone of git")
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    there = {file for file in tracked.stdout.split() if (ROOT / file).is_file()}
    assert there - held == set(), "add its package to `packages`, its files to `package-data`"
    assert {f"intrain_onnx_converters/from_{name}.py" for name in FRAMEWORKS} <= held


def test_the_base_brings_no_onnxruntime_and_the_extras_one_each():
    assert not [name for name in PROJECT["project"]["dependencies"] if "onnxruntime" in name]
    holds = {name for name, asked in EXTRAS.items() if any("onnxruntime" in text for text in asked)}
    assert holds == {"cpu", "gpu"}
    assert [re.split("[>;]", text)[0] for text in EXTRAS["cpu"]] == ["onnxruntime"]
    assert {re.split("[>;]", text)[0] for text in EXTRAS["gpu"]} == {"onnxruntime-gpu", "onnxruntime"}
    bounds = {re.search(r">=[\d.]+", text)[0] for name in holds for text in EXTRAS[name]}  # type: ignore[index]
    assert len(bounds) == 1


def test_the_cpu_route_asks_for_no_gpu_package():
    found = CPU_ROUTE.closure("cpu", cpu_build=True)
    assert {"torch", "onnx", "onnxruntime", "sympy", "numpy"} <= set(found), "transitively"
    assert [name for name in found if CPU_ROUTE.GPU.match(name)] == []


@pytest.mark.skipif(sys.platform != "linux", reason="torch for CUDA is the common build on Linux")
def test_the_other_route_does_so_the_test_can_fail():
    found = CPU_ROUTE.closure("gpu", cpu_build=False)
    assert [name for name in found if CPU_ROUTE.GPU.match(name)]


@pytest.mark.parametrize(
    ("name", "of_gpu"),
    [
        ("nvidia-cublas", True),
        ("nvidia-cudnn-cu13", True),
        ("triton", True),
        ("cuda-bindings", True),
        ("onnxruntime-gpu", True),
        ("onnxruntime", False),
        ("torch", False),
        ("nvtabular", False),
    ],
)
def test_what_counts_as_a_gpu_package(name: str, of_gpu: bool):
    assert bool(CPU_ROUTE.GPU.match(name)) is of_gpu


def test_the_hook_asks_for_what_the_extra_brings():
    [hook] = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8"))
    assert hook["additional_dependencies"] == EXTRAS["cpu"]


STEPS = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))["runs"]["steps"]


def step(name: str) -> Any:
    [found] = [s for s in STEPS if s.get("name", s.get("uses")) == name]
    return found


def key(action: Path, folder: Path, package: str) -> dict[str, str]:
    """What the step that names the cache tells the next ones."""
    told = {"PACKAGE": package, "ACTION": str(action), "SYSTEM": "Linux-X64", "PYTHON": "3.12"}
    told |= {"GITHUB_OUTPUT": str(folder / "outputs"), "RUNNER_TEMP": str(folder)}
    (folder / "outputs").unlink(missing_ok=True)
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step("Key of the cache")["run"]]
    done = run(*command, env=os.environ | told, cwd=folder)
    assert done.returncode == 0, done.stderr
    return dict(line.split("=", 1) for line in (folder / "outputs").read_text().splitlines())


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_cache_of_the_action_follows_from_what_is_asked_for(tmp_path: Path):
    (tmp_path / "action").mkdir()
    (tmp_path / "action" / "pyproject.toml").write_text("one")
    first = key(tmp_path / "action", tmp_path, "")
    assert first == key(tmp_path / "action", tmp_path, "")
    assert re.fullmatch(r"intrain-onnx-Linux-X64-3\.12-[0-9a-f]{16}", first["key"])
    assert key(tmp_path / "action", tmp_path, "intrain-onnx[cpu]==1")["key"] != first["key"]
    (tmp_path / "action" / "pyproject.toml").write_text("two")
    assert key(tmp_path / "action", tmp_path, "")["key"] != first["key"]
    kept, order = step("actions/cache@v4"), [s.get("name", s.get("uses")) for s in STEPS]
    assert order.index("Key of the cache") < order.index("actions/cache@v4") < order.index("Install")
    assert kept["with"]["path"] == step("Install")["env"]["UV_CACHE_DIR"] == "${{ steps.key.outputs.folder }}"
    assert kept["with"]["key"] == "${{ steps.key.outputs.key }}"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_action_installs_by_the_cpu_route(tmp_path: Path):
    """Its script with a `python` that notes what it is asked; uv reads the rest from the environment."""
    install = step("Install")
    assert install["env"]["UV_TORCH_BACKEND"] == "cpu"
    assert install["env"]["PACKAGE"] == "${{ inputs.package || format('{0}[cpu]', github.action_path) }}"
    note = tmp_path / "python"
    note.write_text(f'#!/bin/sh\nprintf "%s|" "$@" >> "{tmp_path}/asked"; echo >> "{tmp_path}/asked"\n')
    note.chmod(0o755)
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", install["run"]]
    done = run(*command, env=os.environ | {"PATH": path, "PACKAGE": "/a folder[cpu]"}, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "asked").read_text().splitlines()
    assert first.startswith("-m|pip|install|")
    assert second == "-m|uv|pip|install|--system|/a folder[cpu]|"


def test_the_metadata_says_what_an_index_shows(metadata: Any):
    assert metadata["License-Expression"] == "Apache-2.0"
    found = metadata.get_all("Classifier")
    assert not [name for name in found if name.startswith("License ::")]  # as PEP 639 has it
    for start in (
        "Development Status ::",
        "Programming Language :: Python :: 3.11",
        "Topic ::",
        "Typing :: Typed",
    ):
        assert [name for name in found if name.startswith(start)], start
    assert metadata["Description-Content-Type"] == "text/markdown"
    declared = {line.split(", ", 1)[1] for line in metadata.get_all("Project-URL")}
    assert declared == set(PROJECT["project"]["urls"].values())
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(url in readme or "Source" in PROJECT["project"]["urls"] for url in declared)


def test_no_link_of_the_page_is_relative(metadata: Any):
    page = metadata.get_payload()
    assert "## Install, and score a sample" in page
    assert re.findall(r"\]\((?![a-z]+://|#)[^)]*\)", page) == []
    assert re.findall(r"(?:src|href)=[\"'](?![a-z]+://|#)", page) == []
    assert "(docs/rank.md)" in page or "blob/HEAD/docs/rank.md" in page, "told, if it can't be a link"


def test_the_page_is_rendered(wheel: Path, metadata: Any):
    renderer = pytest.importorskip("readme_renderer.markdown")
    page = metadata.get_payload()
    html = renderer.render(page)
    assert html is not None
    assert html.count("<table>") == len(re.findall(r"^\|(?:---\|)+$", page, re.MULTILINE)) > 1
    assert "Written by" not in html
    pytest.importorskip("twine")
    done = run(sys.executable, "-m", "twine", "check", "--strict", wheel)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_address_makes_links_of_the_files():
    page = "![Output](docs/a.svg)\n\nSee [rank](docs/rank.md#by) and [samples/](samples/README.md), "
    page += "[x](https://a.b/c), [y](#z)."
    there = LONG.absolute(page, "https://host.example/owner/name")
    assert "![Output](https://host.example/owner/name/raw/HEAD/docs/a.svg)" in there
    assert "[rank](https://host.example/owner/name/blob/HEAD/docs/rank.md#by)" in there
    none = LONG.absolute(page, "")
    assert none == "\n\nSee rank (docs/rank.md) and samples/, [x](https://a.b/c), [y](#z)."
