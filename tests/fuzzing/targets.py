"""What a coverage-guided fuzzer calls with bytes: each returns, or raises an `IntrainError`.

A target raises anything else only for a bug. ``seeds`` are the files that a run starts from; ``damaged``
makes files that get past a parser, where random bytes would end.
"""

from __future__ import annotations

import json
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from intrain_onnx import inspection, pipeline
from intrain_onnx.audit import policy
from intrain_onnx.errors import IntrainError
from intrain_onnx.loading import file_contents
from intrain_onnx.loading.load import load
from intrain_onnx.report import comparison, document
from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.runtime.convert import convert

from . import mutate, sources
from .subjects import CONFIG

Target = Callable[[bytes], None]
LARGEST_SEED = 20_000
"""Bytes: the fuzzer runs some hundred files a second of this size."""


def _at_a_path(data: bytes, suffix: str, function: Callable[[Path], object]) -> None:
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        file.write(data)
        file.flush()
        try:
            function(Path(file.name))
        except IntrainError:
            return


def loader(data: bytes) -> None:
    """The loader, and what onnx_ir makes of what it let through; also with tensors left in the file."""
    _at_a_path(data, ".onnx", lambda path: load(path).fresh())
    with mock.patch.multiple(file_contents, _LEAST_FILE=1, _LEAST_DATA=40):
        _at_a_path(data, ".onnx", lambda path: load(path).fresh())


def network(data: bytes) -> None:
    """The static pass with all rewrites of the protocol, and the conversion to torch."""

    def analyse(path: Path) -> None:
        inspection.inspect(path, CONFIG, rewrites=True)
        model = load(path).fresh()
        normalise(model)
        convert(model)

    _at_a_path(data, ".onnx", analyse)


def report(data: bytes) -> None:
    """A saved report: read, and compared with itself."""

    def read(path: Path) -> None:
        layers = comparison.network_of_report(document.Report.load(path))
        comparison.compare(layers, layers)

    _at_a_path(data, ".json", read)


def policies(data: bytes) -> None:
    """A policy of an audit."""
    _at_a_path(data, ".toml", policy.load)


TARGETS: dict[str, Target] = {"loader": loader, "network": network, "report": report, "policy": policies}


def seeds(name: str) -> list[bytes]:
    """The files that a target starts from."""
    if name in ("loader", "network"):
        found = sources.networks() | sources.single_nodes()
        return [data for _, data in sorted(found.items()) if len(data) <= LARGEST_SEED]
    if name == "policy":
        return [policy.default_text().encode()]
    return [pipeline.score(sources.ROOT / "samples/jax_cnn.onnx", CONFIG).to_json().encode()]


def damaged(name: str, data: bytes, seed: int) -> bytes:
    """A damaged copy of a file that the target would read."""
    rng = random.Random(seed)
    try:
        if name in ("loader", "network"):
            return mutate.mutant(data, seed)[0]
        if name == "report":
            return json.dumps(_changed(json.loads(data), rng)).encode()
    except Exception:  # whatever the fuzzer made before is no model or report
        return mutate.of_bytes(data, rng)
    return _policy(data, rng)


_VALUES: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    2**70,
    1e300,
    0.5,
    "",
    "x",
    "\x1b[2J",
    [],
    [1],
    {},
    {"x": 1},
    [[]],
)


def _changed(value: Any, rng: random.Random) -> Any:
    """A JSON value with another one somewhere in it."""
    if rng.random() < 0.15 or not isinstance(value, dict | list) or not value:
        return rng.choice(_VALUES)
    keys = list(value) if isinstance(value, dict) else range(len(value))
    key = rng.choice(list(keys))
    if rng.random() < 0.1:
        del value[key]
    else:
        value[key] = _changed(value[key], rng)
    return value


_WORDS = (
    b"true",
    b"-1",
    b"1e400",
    b"nan",
    b"9" * 40,
    b'""',
    b"[]",
    b"{}",
    b"[[checks]]",
    b"1979-05-27",
    b"'x'",
    b"= =",
)


def _policy(data: bytes, rng: random.Random) -> bytes:
    """Lines of a policy with another value, doubled, cut or swapped."""
    lines = data.split(b"\n")
    for _ in range(rng.randrange(1, 4)):
        at, how = rng.randrange(len(lines)), rng.randrange(5)
        if how == 0 and b"=" in lines[at]:
            lines[at] = lines[at].split(b"=", 1)[0].lstrip(b"# ") + b"= " + rng.choice(_WORDS)
        elif how == 1:
            lines.insert(rng.randrange(len(lines)), lines[at])
        elif how == 2 and len(lines) > 1:
            lines.pop(at)
        elif how == 3:
            lines[at] = lines[at].lstrip(b"# ")
        else:
            lines[at] = mutate.of_bytes(lines[at], rng)
    return b"\n".join(lines)
