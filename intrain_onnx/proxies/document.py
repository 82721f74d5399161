"""Generates ``docs/proxies.md`` from the table and each module's docstring. No torch."""

from __future__ import annotations

import ast
from importlib import resources

from intrain_onnx.proxy_table import PROXIES, Proxy

_INTRODUCTION = """# Peers' zero-cost proxies

`intrain-onnx score --proxies all` (or a list of names) measures them beside the InTrain score, on the
weights and inputs of its first run. Raw values go into the report; ranks over a population, and the
aggregates of AZ-NAS and VKDNW that are made of ranks, are formed in `intrain_onnx.proxies.aggregate`. A
value that a network cannot have, or that is not finite, is null, and the report says why. This page is made
by `scripts/generate`.

Agreement is Kendall's tau with the published values of 200 NAS-Bench-201 networks (NAS-Bench-Suite-Zero,
CIFAR-10), by `benchmarks/published_proxies.py`. Theirs come from other inputs, labels and weights. GraSP
depends on the weights most: drawn as PyTorch draws them, it goes from .62 to .79 on 30 networks.
"""


def markdown() -> str:
    """The text of the page."""
    return "\n".join([_INTRODUCTION, *(_section(proxy) for proxy in PROXIES.values())])


def _section(proxy: Proxy) -> str:
    rows = [
        ("formula", f"`{proxy.formula}`"),
        ("source", proxy.source),
        ("better", "higher" if proxy.direction == 1 else "lower"),
        ("values", ", ".join(f"`{part}`" for part in proxy.parts)),
        ("needs", proxy.needs),
    ]
    if proxy.agreement is not None:
        rows.append(("agreement", f"{proxy.agreement:.2f}"))
    table = "\n".join(f"- {label}: {text}" for label, text in rows)
    return f"## `{proxy.name}`: {proxy.title}\n\n{table}\n\n{_description(proxy.name)}\n"


def _description(name: str) -> str:
    """The module's docstring without its first paragraph, parsed without an import."""
    code = resources.files("intrain_onnx.proxies").joinpath(f"{name}.py").read_text(encoding="utf-8")
    text = ast.get_docstring(ast.parse(code)) or ""
    return text.partition("\n\n")[2].strip()
