"""Limits on what an untrusted model may take: of its file, of its graph, and of a run."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from decimal import Decimal, InvalidOperation
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on one model; over one of them it is refused with a LimitError that names it.

    ONNX's own tools leave exhaustion to the user, and a small file can ask for much: 2 bytes make an empty
    tensor of 170 bytes in memory, 2 kB of functions make half a billion nodes, 800 bytes of loops run for
    years. The defaults keep any file within some minutes and some GB before it is measured, and the largest
    public models stay below all of them. Raise one with ``dataclasses.replace``, with ``--limit NAME=VALUE``
    or under ``[run.limits]`` of an audit policy, for a file that you trust.
    """

    file_bytes: int = 2**31 - 1
    """Size of the model file. Protobuf itself takes no more than this; larger models keep their weights in
    external files."""

    external_bytes: int = 2**42
    """Sum of the external files (4 TiB), which are mapped; the largest open models have 1.5 TB."""

    hashed_bytes: int = 2**38
    """Sum of the external files, as each is read to its end for its hash: 256 GiB take five minutes. The size
    counts and not the space on the disk, as holes take as long, and not all file systems tell of them."""

    tensor_bytes: int = 2**42
    """Sum over all tensors, as if each had its own data: many tensors may name one range of one file."""

    fields: int = 20_000_000
    """Protobuf fields in the file. Reading one takes 0.3 microseconds; models have 20 for each node."""

    messages: int = 5_000_000
    """Protobuf messages in the file: each takes at least 150 bytes in memory, even when empty."""

    nodes: int = 200_000
    """Nodes as stored, in all graphs and functions. Exports of networks with 100 layers have some 20,000;
    each takes 1 kB and 20 microseconds as a Python object."""

    expanded_nodes: int = 200_000
    """Nodes once functions are expanded and loops over layers unrolled."""

    function_depth: int = 100
    """Functions that call each other in a chain. Exports of nested modules have some 10."""

    tensors: int = 250_000
    """Initializers and tensor attributes. The mixtures of experts with the most have 50,000."""

    values: int = 2_000_000
    """Inputs and outputs of all nodes together."""

    graph_depth: int = 20
    """Nesting of If, Loop and Scan. Exporters write 2 or 3; protobuf allows 31."""

    rank: int = 32
    """Dimensions of a tensor. Networks have up to 8; numpy and torch end at 64."""

    name_length: int = 10_000
    """Bytes of a name. Exporters that join module paths write some 500."""

    elements: int = 0
    """Elements of one tensor. 0: 2**36 in the file, of which the largest embeddings have a sixteenth, and for
    what an operator makes a quarter of the free memory in float32, at most 2**31."""

    folded_elements: int = 2**26
    """Elements that the graph makes out of constants alone, beyond those of the constants, in all: filled
    weights, ranges, expanded masks. A causal mask of 8,192 tokens has as many."""

    memory: int = 0
    """Bytes that a run takes on top of what the process holds. 0: what is free."""

    loop_rounds: int = 100_000
    """Rounds of all Loops, Scans and SequenceMaps together, nested ones included, in one run of the graph."""

    seconds: float = 14_400.0
    """Wall-clock time from reading the file to the report (4 hours). It is looked at between nodes, between
    rounds and between steps of the static pass: one node is never cut short."""

    cpu_seconds: float = 0.0
    """CPU time of all threads of the process that works on one model, which the kernel holds. 0: no limit."""

    macs: float = 0.0
    """Multiply-accumulate operations of a score. 0: 1e15 on the CPU, 1e17 on CUDA; ``--max-macs`` sets it
    too."""

    def __post_init__(self) -> None:
        for row in fields(self):
            value = getattr(self, row.name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
                raise ValueError(f"{row.name} is {value!r}, not a number from 0")


STORED_ELEMENTS = 2**36
"""Elements of one tensor of a file, unless ``elements`` is set."""

MORE = 10
"""Factor to the value that a hint names, where counting stopped at a limit and the need is not known."""

_SUCH = "a number such as 400, 4e9, 4G or 4Gi"
_SUFFIXES = {"": 1, **{p: 1000**i for i, p in enumerate("kMGT", 1)}}
_SUFFIXES |= {f"{p}i": 1024**i for i, p in enumerate("KMGT", 1)}
_NUMBER = re.compile(r"([0-9]{1,30}(?:\.[0-9]{1,30})?(?:[eE]\+?[0-9]{1,2})?)([kMGT]|[KMGT]i)?")


def names() -> list[str]:
    """The names of all limits."""
    return [row.name for row in fields(Limits)]


def parsed(settings: Iterable[str], limits: Limits | None = None) -> Limits:
    """Limits with some set by ``NAME=VALUE``; a value is a number such as 400, 4e9, 4G or 4Gi.

    Raises:
        ValueError: no such name, or no such number; the message says what there is.
    """
    changes: dict[str, Any] = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in names():
            raise ValueError(f"{setting!r}: no limit is called {name!r}; there are {', '.join(names())}")
        value = _number(text)
        if value is None or value <= 0:
            raise ValueError(f"{setting!r} is not NAME=VALUE with {_SUCH}")
        changes[name] = float(value) if isinstance(getattr(Limits(), name), float) else math.ceil(value)
    return replace(limits or Limits(), **changes)


def whole_number(text: str) -> int:
    """The number of a text such as 400, 4e9, 4G or 4Gi, rounded up.

    Raises:
        ValueError: it is none, or not above 0; the message says what is.
    """
    value = _number(text)
    if value is None or value <= 0:
        raise ValueError(f"{text!r} is not {_SUCH}")
    return math.ceil(value)


def _number(text: str) -> Decimal | None:
    found = _NUMBER.fullmatch(text)
    try:
        return Decimal(found[1]) * _SUFFIXES[found[2] or ""] if found is not None else None
    except InvalidOperation:
        return None


def option(name: str, needed: float) -> str:
    """The option that allows as much as is needed, such as ``--limit elements=4.1e9``, as a hint."""
    return f"If you trust the file, allow it with --limit {name}={enough(needed)}"


def enough(needed: float) -> str:
    """A short number of at least that size."""
    whole = math.ceil(needed)
    if whole < 10**6:
        return str(whole)
    digits = len(str(whole)) - 2
    head = -(-whole // 10**digits)
    return f"{head // 10}{f'.{head % 10}' if head % 10 else ''}e{digits + 1}"
