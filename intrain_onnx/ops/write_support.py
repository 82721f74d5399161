"""Generates ``opset/operators.json``, the handled versions for modules that do not import torch."""

from __future__ import annotations

import json

from intrain_onnx.ops.registry import supported


def table() -> dict[str, dict[str, list[int]]]:
    """Versions with a handler, by domain and operator, from the registry."""
    found: dict[str, dict[str, list[int]]] = {}
    for handler in supported():
        versions = found.setdefault(handler.domain or "ai.onnx", {}).setdefault(handler.op_type, [])
        versions.extend(handler.versions)
    return {d: {o: sorted(v) for o, v in sorted(operators.items())} for d, operators in sorted(found.items())}


def text() -> str:
    """The table as JSON text, one operator a line, for readable diffs."""
    domains = []
    for domain, operators in table().items():
        rows = ",\n".join(f"  {json.dumps(o)}: {json.dumps(v)}" for o, v in operators.items())
        domains.append(f"{json.dumps(domain)}: {{\n{rows}\n}}")
    return "{\n" + ",\n".join(domains) + "\n}\n"
