"""Look-ups in the table of operator traits, by operator or node.

Every analysis classifies operators here. An operator without a row has no property and no parameter: a
constant that it reads is reported as not recognised.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir

from intrain_onnx.opset.kinds import Kind, Property, Traits
from intrain_onnx.opset.table import ROWS

UNKNOWN = Traits(Kind.OTHER)
"""The traits of an operator without a row."""

_PLAIN = {"ai.onnx": ""}

WITHOUT_BODIES = frozenset(
    op for (domain, op), row in ROWS.items() if not domain and row.kind is not Kind.CONTROL
)
"""Operators of ONNX's own domain that are known to have no subgraphs."""


def of(domain: str, op_type: str) -> Traits:
    """The row of an operator, or ``UNKNOWN``."""
    return ROWS.get((_PLAIN.get(domain, domain), op_type), UNKNOWN)


def traits(node: ir.Node) -> Traits:
    """The row of a node's operator, or ``UNKNOWN``."""
    return ROWS.get((node.domain, node.op_type)) or of(node.domain, node.op_type)


def kind(node: ir.Node) -> Kind:
    """The kind of a node's operator."""
    row = ROWS.get((node.domain, node.op_type))  # no call of `traits`: every analysis asks for every node
    return row.kind if row is not None else of(node.domain, node.op_type).kind


def of_call(meta: Mapping[str, Any]) -> Traits:
    """The row of the operator that an fx node was converted from, named in its ``meta``."""
    return of(meta.get("onnx_domain") or "", meta.get("onnx_op") or "")


def has(node: ir.Node, properties: Property) -> bool:
    """Whether all of these properties hold of a node's operator."""
    row = ROWS.get((node.domain, node.op_type))
    return (row if row is not None else of(node.domain, node.op_type)).has(properties)


def is_op(node: ir.Node | None, *op_types: str) -> bool:
    """Whether a node is one of these operators of ONNX's own domain."""
    return node is not None and node.op_type in op_types and not node.domain


def is_view(node: ir.Node) -> bool:
    """Whether a node only changes the shape, axis order or type of its first input."""
    return kind(node) is Kind.VIEW


def trainable_inputs(node: ir.Node) -> list[tuple[int, str]]:
    """Index and role of each present input of a node that a framework would train if it is constant."""
    roles = traits(node).parameters or {}
    return [(i, role) for i, role in roles.items() if i < len(node.inputs) and node.inputs[i] is not None]
