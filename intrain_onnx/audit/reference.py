"""What is made from the table of checks: the default policy and the reference part of docs/audit.md.

``scripts/generate`` writes both; a test fails when either differs.
"""

from __future__ import annotations

import textwrap

from intrain_onnx.audit.table import CHECKS, Check, Option

_HEAD = """\
# The default policy of `intrain-onnx audit`: it holds where no policy is given, and what a policy of your own
# leaves out is as here. Made from the table of checks by `scripts/generate`.

version = 1

# The least severity that fails the audit: "error", "warning", "note", or "never".
fail_on = "error"

# The element type that the model will run in: "float32" or "float16".
deploy = "float32"

# How the model is measured; the names are those of `intrain-onnx score`.
[run]
seed = 0
seeds = 3
batch = 16
threads = 0        # 0: all cores
device = "auto"
parity = true      # compare with onnxruntime

# [run.input_shapes]
# images = [1, 3, 224, 224]

# An accepted finding. `layer` is a pattern of what a finding names; without `expires` it has no end.
# [[waivers]]
# check = "dead-channels"
# layer = "backbone/block3/*"
# reason = "pruned on purpose, removed in the next release"
# expires = 2027-01-31
"""
_BEGIN, _END = "<!-- checks: begin -->", "<!-- checks: end -->"


def literal(value: object) -> str:
    """A value as TOML writes it; no limit is ``false``."""
    if value is None:
        return "false"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return "[" + ", ".join(f'"{v}"' for v in value) + "]"
    if isinstance(value, float):
        text = f"{value:g}"
        return text if any(c in text for c in ".e") else f"{text}.0"
    return str(value)


def default_policy() -> str:
    """The text of default_policy.toml."""
    return _HEAD + "".join(_table(check) for check in CHECKS.values())


def _table(check: Check) -> str:
    comment = textwrap.fill(
        f"{check.title}. {check.explanation}", 110, initial_indent="# ", subsequent_indent="# "
    )
    lines = ["", comment, f"[checks.{check.id}]", f'severity = "{check.severity}"']
    lines += [f"{o.name} = {literal(o.default)}  # {_help(o)}" for o in check.options]
    return "\n".join(lines) + "\n"


def _help(option: Option) -> str:
    return option.help + ("; false: no limit" if option.may_be_off else "")


def markdown() -> str:
    """The reference of all checks for docs/audit.md."""
    rows = ["| check | severity | what it looks for |", "|---|---|---|"]
    rows += [f"| [`{c.id}`](#{c.id}) | {c.severity} | {c.title} |" for c in CHECKS.values()]
    return "\n".join(rows) + "\n\n" + "\n".join(_section(check) for check in CHECKS.values())


def _section(check: Check) -> str:
    lines = [
        f"### {check.id}",
        "",
        f"{check.title}. {check.explanation}",
        "",
        f"What to do: {check.remedy}",
        "",
    ]
    lines = [line for text in lines for line in (textwrap.wrap(text, 120) or [""])]
    if check.options:
        lines += ["| option | default | |", "|---|---|---|"]
        lines += [f"| `{o.name}` | `{literal(o.default)}` | {_help(o)} |" for o in check.options]
        lines.append("")
    return "\n".join(lines)


def with_reference(page: str) -> str:
    """A page with its reference part as the table has it.

    Raises:
        ValueError: the page has no such part.
    """
    before, _, rest = page.partition(_BEGIN)
    _, found, after = rest.partition(_END)
    if not found:
        raise ValueError(f"the page lacks {_BEGIN} or {_END}")
    return f"{before}{_BEGIN}\n{markdown()}{_END}{after}"
