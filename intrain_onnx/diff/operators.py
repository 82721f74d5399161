"""Compares the operators of two graphs and their attributes, in any order. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

from intrain_onnx.network.subgraphs import every_node

Kind = tuple[str, tuple[tuple[str, str], ...]]
"""An operator, with those of its attributes that are numbers or texts."""

_PLAIN = frozenset(
    {
        ir.AttributeType.FLOAT,
        ir.AttributeType.FLOATS,
        ir.AttributeType.INT,
        ir.AttributeType.INTS,
        ir.AttributeType.STRING,
        ir.AttributeType.STRINGS,
    }
)


def kinds(model: ir.Model) -> Counter[Kind]:
    """The operators of a graph, subgraphs included, and how often each occurs."""
    return Counter(map(_kind, every_node(model.graph)))


def _kind(node: ir.Node) -> Kind:
    plain = [a for a in node.attributes.values() if a.type in _PLAIN]
    return node.op_type, tuple(sorted((a.name, _text(a)) for a in plain))


def _text(attribute: ir.Attr) -> str:
    value = attribute.value
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def differences(a: Counter[Kind], b: Counter[Kind]) -> Iterator[tuple[str, str]]:
    """For each operator that differs: its name, and what it is here and in the reference."""
    here, there = b - a, a - b
    for name in sorted({kind[0] for kind in (*here, *there)}):
        yield name, f"{_said(name, here)} here, {_said(name, there)} in the reference"


def _said(name: str, of: Counter[Kind]) -> str:
    parts = [
        f"{count} with {', '.join(f'{n} {v}' for n, v in attributes)}" if attributes else f"{count}"
        for (op, attributes), count in of.items()
        if op == name
    ]
    return " and ".join(parts) or "none"
