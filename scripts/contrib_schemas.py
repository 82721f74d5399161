"""The schemas of onnxruntime's own operators, as ``intrain_onnx/opset/schemas.py`` reads them."""

from __future__ import annotations

import json
from typing import Any

import onnx.defs
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as native

_DOMAINS = ("", "com.microsoft", "com.microsoft.nchwc")
_UNBOUNDED = 2**31 - 1


def text() -> str:
    """One line for each operator that is not in ``onnx.defs``: attributes, ``!`` where required; operands."""
    domains: dict[str, dict[str, Any]] = {}
    for found in sorted(native.get_all_operator_schema(), key=lambda s: (s.domain, s.name, s.since_version)):
        if found.domain in _DOMAINS and not _is_of_onnx(found):
            domains.setdefault(found.domain or "ai.onnx", {})[found.name] = _row(found)
    blocks = []
    for domain, rows in domains.items():
        lines = [f"  {json.dumps(name)}: {json.dumps(row)}" for name, row in rows.items()]
        blocks.append(f" {json.dumps(domain)}: {{\n" + ",\n".join(lines) + "\n }")
    head = f'{{\n"onnxruntime": "{onnxruntime.__version__}",\n"schemas": {{\n'
    return head + ",\n".join(blocks) + "\n}\n}\n"


def of_another_onnxruntime(stored: str) -> str:
    """Why this onnxruntime, which may know other operators, makes another table."""
    try:
        version = str(json.loads(stored)["onnxruntime"])
    except (ValueError, KeyError, TypeError):
        return ""
    return f"written with onnxruntime {version}" if version != onnxruntime.__version__ else ""


def _is_of_onnx(found: Any) -> bool:
    try:
        known = onnx.defs.get_schema(found.name, found.since_version, found.domain)
    except onnx.defs.SchemaError:
        return False
    return bool(known.since_version == found.since_version)


def _row(found: Any) -> dict[str, Any]:
    return {
        "attributes": {
            a.name: a.type.name + ("!" if a.required else "")
            for a in sorted(found.attributes.values(), key=lambda a: a.name)
        },
        "inputs": _span(found.min_input, found.max_input),
        "needed": [i for i, v in enumerate(found.inputs) if v.option.name == "Single"],
        "outputs": _span(found.min_output, found.max_output),
    }


def _span(least: int, most: int) -> list[int | None]:
    return [least, None if most == _UNBOUNDED else most]
