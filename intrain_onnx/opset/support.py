"""Which operator versions have a handler, without importing torch.

The table in ``operators.json`` is written by ``scripts/generate`` from the handlers themselves; a test fails
when the two differ.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from functools import lru_cache
from importlib import resources
from typing import Any

import onnx.defs
import onnx_ir as ir

from intrain_onnx.opset import plugins

registered: dict[tuple[str, str], set[int]] = {}
"""Versions of operators that ``register_op`` added in this process, by domain and operator."""


@lru_cache(maxsize=4096)
def since_version(domain: str, op_type: str, opset: int) -> int:
    """The version of an operator in an opset; 1 if onnx has no schema of it (contrib domains)."""
    try:
        return int(onnx.defs.get_schema(op_type, opset, domain).since_version)
    except onnx.defs.SchemaError:
        return 1


def known_versions(domain: str, op_type: str) -> set[int]:
    """Versions of an operator that onnx has ever defined."""
    schemas = onnx.defs.get_all_schemas_with_history()
    return {s.since_version for s in schemas if (s.domain, s.name) == (domain, op_type)}


def has_body(schema: Any) -> bool:  # onnx's stubs leave these properties out
    """Whether onnx defines the operator by a function body of other operators."""
    return bool(schema.has_function or schema.has_context_dependent_function)


def handled_version(domain: str, op_type: str, opset: int, versions: Iterable[int]) -> int | None:
    """The one of a handler's versions that an opset resolves to; None if it has no such handler.

    If onnx has a schema it is exactly the schema's version; otherwise the newest that is not above the opset.
    """
    if onnx.defs.has(op_type, domain):
        version = since_version(domain, op_type, opset)
        return version if version in versions else None
    return max((v for v in versions if v <= opset), default=None)


def versioned_name(domain: str, op_type: str, opset: int) -> str:
    """An operator as errors name it, such as ``ai.onnx::Resize-19``."""
    return f"{domain or 'ai.onnx'}::{op_type}-{since_version(domain, op_type, opset)}"


@lru_cache(maxsize=1)
def table() -> dict[str, dict[str, list[int]]]:
    """Versions with a handler, by domain (ONNX's own is "ai.onnx") and operator."""
    text = resources.files("intrain_onnx.opset").joinpath("operators.json").read_text(encoding="utf-8")
    return dict(json.loads(text))


def is_supported(domain: str, op_type: str, opset: int) -> bool:
    """Whether the operator has a handler for exactly its version in the opset.

    A plugin's operator counts in every version: its versions are known only once it is imported.
    """
    versions = {
        *table().get(domain or "ai.onnx", {}).get(op_type, []),
        *registered.get((domain, op_type), ()),
    }
    return handled_version(domain, op_type, opset, versions) is not None or (
        (domain, op_type) in plugins.declared()
    )


def unsupported(model: ir.Model, has: Callable[[str, str, int], bool] = is_supported) -> dict[str, int]:
    """Number of nodes of each operator without a handler, subgraphs included, by `versioned_name`."""
    counts: Counter[str] = Counter()
    for (domain, op_type), number in Counter((n.domain, n.op_type) for n in model.graph.all_nodes()).items():
        opset = model.opset_imports.get(domain, 1)
        if not has(domain, op_type, opset):
            counts[versioned_name(domain, op_type, opset)] += number
    return dict(sorted(counts.items()))
