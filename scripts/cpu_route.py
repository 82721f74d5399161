#!/usr/bin/env python
"""What an installation with the extra `cpu` and a CPU build of torch consists of, and how large it is.

    scripts/cpu_route.py             # the packages, and who asks for each
    scripts/cpu_route.py --sizes     # installed bytes here, with and without what is for GPUs alone

Names come from pyproject.toml, and from the metadata of what is installed. Torch's makers publish builds for
the CPU that ask for the same packages, but for those of CUDA: these are left out, whichever build is there.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]

GPU = re.compile(r"^(nvidia-|cuda|triton|pytorch-triton|amd-|rocm|intel-|.*-(gpu|cu\d+|rocm|directml)$)")
"""Names of packages that are for GPUs."""

FROM_TORCH = ("torch", "torchvision")
"""Published as builds for the CPU, too."""

SAME = {"onnxruntime": "onnxruntime-gpu"}
"""Of a package that is not installed, another with the same requirements."""

BEGIN, END = "<!-- packages: begin -->", "<!-- packages: end -->"


def declared(extra: str) -> list[str]:
    """The requirements of the project with an extra, as pyproject.toml has them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [*project["dependencies"], *project["optional-dependencies"][extra]]


def installed(name: str) -> metadata.Distribution | None:
    """A distribution, or one that asks for the same; None if there is neither."""
    for candidate in (name, SAME.get(name)):
        if candidate is not None:
            try:
                return metadata.distribution(candidate)
            except metadata.PackageNotFoundError:
                continue
    return None


def closure(extra: str, *, cpu_build: bool) -> dict[str, str]:
    """All packages of an installation, each with the one that asks for it first.

    Args:
        extra: of the project.
        cpu_build: take torch as its build for the CPU.
    """
    found: dict[str, str] = {}
    waiting = [("intrain-onnx", Requirement(text)) for text in declared(extra)]
    while waiting:
        parent, asked = waiting.pop(0)
        name = canonicalize_name(asked.name)
        if name in found or (cpu_build and parent in FROM_TORCH and GPU.match(name)):
            continue
        if asked.marker is not None and not asked.marker.evaluate({"extra": ""}):
            continue
        found[name] = parent
        waiting += [(name, child) for child in _required_by(name, asked.extras)]
    return found


def _required_by(name: str, extras: Iterable[str]) -> Iterator[Requirement]:
    """The requirements of an installed distribution that hold here, with these extras of it."""
    distribution = installed(name)
    for text in (distribution.requires or ()) if distribution is not None else ():
        asked = Requirement(text)
        if asked.marker is None or any(asked.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            asked.marker = None
            yield asked


def listing() -> str:
    """The packages of the CPU route as a table of Markdown."""
    rows = sorted(closure("cpu", cpu_build=True).items())
    head = [f"Resolved with {versions()}.", "", "| package | asked for by |", "|---|---|"]
    return "\n".join([*head, *(f"| {name} | {parent} |" for name, parent in rows)])


def versions() -> str:
    """Those that decide what else is installed."""
    names = ("torch", "onnx", "onnx-ir")
    return ", ".join(f"{name} {metadata.version(name).partition('+')[0]}" for name in names)


def with_listing(page: str) -> str:
    """docs/install.md with the table of today."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{listing()}\n{END}{after}"


def of_other_versions(page: str) -> str:
    """Why the packages of this environment make another table."""
    found = re.search(r"Resolved with (.*)\.", page)
    return f"written with {found[1]}" if found and found[1] != versions() else ""


def bytes_of(name: str) -> int:
    """Installed size of a distribution; 0 if it is not there."""
    try:
        files = metadata.files(name) or ()
    except metadata.PackageNotFoundError:
        return 0
    paths = (Path(str(file.locate())) for file in files)
    return sum(path.stat().st_size for path in paths if path.is_file())


def sizes() -> Mapping[str, int]:
    """Installed bytes by part: for GPUs alone, torch's own, and all other packages of either route."""
    everything = {*closure("gpu", cpu_build=False), *closure("cpu", cpu_build=True)}
    told = {name: bytes_of(name) for name in everything}
    parts = {"for GPUs alone": 0, "torch and torchvision": 0, "others": 0}
    for name, size in told.items():
        part = "for GPUs alone" if GPU.match(name) else "others"
        parts["torch and torchvision" if name in FROM_TORCH else part] += size
    return parts


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the list or the sizes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sizes", action="store_true", help="installed megabytes of 10^6 bytes by part")
    if not parser.parse_args(arguments).sizes:
        print(listing())
        return 0
    found = sizes()
    for part, size in {**found, "in all": sum(found.values())}.items():
        print(f"{part:24}{size / 1e6:8.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
