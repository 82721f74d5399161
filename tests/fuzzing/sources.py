"""Valid models to damage: ONNX's own tests, the samples, the fixtures, and files that were found before."""

from __future__ import annotations

import tarfile
import warnings
from functools import lru_cache
from pathlib import Path

import onnx.backend.test.loader

ROOT = Path(__file__).parents[2]
LARGEST = 120_000
"""Bytes; a larger model costs seconds a mutant and has no other operators."""


@lru_cache(maxsize=1)
def networks() -> dict[str, bytes]:
    """Whole networks, by name."""
    files = [*sorted((ROOT / "samples").glob("*.onnx")), *sorted((ROOT / "tests/forms").glob("*.onnx"))]
    found = {file.stem: file.read_bytes() for file in files if file.stat().st_size <= LARGEST}
    # A graph attention network of other sizes is searched for half a minute.
    for archive in sorted((ROOT / "tests/fixtures").glob("*.tar.xz")):
        with tarfile.open(archive) as packed:
            for member in packed.getmembers():
                if member.name.endswith(".onnx") and member.size <= LARGEST and "gat" not in member.name:
                    held = packed.extractfile(member)
                    assert held is not None
                    found[Path(member.name).stem] = held.read()
    return found


@lru_cache(maxsize=1)
def single_nodes() -> dict[str, bytes]:
    """ONNX's tests of single operators, their function bodies written out among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's overflow warnings while onnx makes its data
        cases = onnx.backend.test.loader.load_model_tests(kind="node")
    made = {case.name: case.model.SerializeToString() for case in cases if case.model is not None}
    return {name: data for name, data in made.items() if len(data) <= LARGEST}


@lru_cache(maxsize=1)
def everything() -> list[tuple[str, bytes]]:
    """Networks and single operators in turn, so that each half of the mutants is of one kind."""
    nets, nodes = sorted(networks().items()), sorted(single_nodes().items())
    pairs: list[tuple[str, bytes]] = []
    for i in range(max(len(nets), len(nodes))):
        pairs += [nets[i % len(nets)], nodes[i % len(nodes)]]
    return pairs
