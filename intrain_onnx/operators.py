"""Which operator versions have a handler, without importing torch.

The table in ``operators.json`` is written by ``python -m intrain_onnx.operator_table`` from the handlers
themselves; a test fails when the two differ.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from importlib import resources

import onnx.defs
import onnx_ir as ir


@lru_cache(maxsize=4096)
def since_version(domain: str, op_type: str, opset: int) -> int:
    """The version of an operator that an opset has; 1 where onnx knows no schema (contrib domains)."""
    try:
        return int(onnx.defs.get_schema(op_type, opset, domain).since_version)
    except onnx.defs.SchemaError:
        return 1


def versioned_name(domain: str, op_type: str, opset: int) -> str:
    """An operator as errors name it, such as ``ai.onnx::Resize-19``."""
    return f"{domain or 'ai.onnx'}::{op_type}-{since_version(domain, op_type, opset)}"


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, list[int]]]:
    """Versions with a handler, by domain (ONNX's own is "ai.onnx") and operator."""
    text = resources.files("intrain_onnx").joinpath("operators.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def is_supported(domain: str, op_type: str, opset: int) -> bool:
    """Whether the operator has a handler at exactly the version that the opset has."""
    versions = table().get(domain or "ai.onnx", {}).get(op_type, [])
    return since_version(domain, op_type, opset) in versions


def unsupported(model: ir.Model, has: Callable[[str, str, int], bool] = is_supported) -> dict[str, int]:
    """Operators without a handler, with the number of nodes of each, in subgraphs too."""
    counts: Counter[str] = Counter()
    for node in model.graph.all_nodes():
        opset = model.opset_imports.get(node.domain, 1)
        if not has(node.domain, node.op_type, opset):
            counts[versioned_name(node.domain, node.op_type, opset)] += 1
    return dict(sorted(counts.items()))
