"""Writes ``operators.json``: ``python -m intrain_onnx.operator_table``."""

from __future__ import annotations

import json
from pathlib import Path

from intrain_onnx import ops


def table() -> dict[str, dict[str, list[int]]]:
    """Versions with a handler, by domain and operator, from the registry."""
    found: dict[str, dict[str, list[int]]] = {}
    for handler in ops.supported():
        versions = found.setdefault(handler.domain or "ai.onnx", {}).setdefault(handler.op_type, [])
        versions.extend(handler.versions)
    return {d: {o: sorted(v) for o, v in sorted(operators.items())} for d, operators in sorted(found.items())}


def text() -> str:
    """The table as it is stored: one operator a line, so that changes read well."""
    domains = []
    for domain, operators in table().items():
        rows = ",\n".join(f"  {json.dumps(o)}: {json.dumps(v)}" for o, v in operators.items())
        domains.append(f"{json.dumps(domain)}: {{\n{rows}\n}}")
    return "{\n" + ",\n".join(domains) + "\n}\n"


if __name__ == "__main__":
    (Path(__file__).parent / "opset" / "operators.json").write_text(text(), encoding="utf-8")
