"""Generates the default policy, the reference of checks and the JSON Schema of audits.

``scripts/generate`` writes default_policy.toml, the reference part of docs/audit.md and audit.schema.json
from the table of checks and the rows; a test fails when a file is out of date.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from intrain_onnx.audit.fields import Field, fields_of, literal
from intrain_onnx.audit.policy import Demands, RunSettings
from intrain_onnx.audit.rows import SCHEMA_VERSION, Document
from intrain_onnx.audit.table import CHECKS, Check
from intrain_onnx.report.json_schema import text_of

_BEFORE = """\
# The default policy of `intrain-onnx audit`: it holds where no policy is given, and what a policy of your own
# leaves out is as here. Made from the table of checks by `scripts/generate`.

"""
_AFTER = """\
# [run.input_shapes]
# images = [1, 3, 224, 224]

# [run.batch_axes]   # the axis that holds samples, or "none"
# images = 0

# [run.inputs]       # a number, a list, or a file of arrays in place of noise
# images = "@samples.npz"

# An accepted finding. `model` is a pattern of the model's path as it is given, `layer` one of what a finding
# names; without `expires` it has no end.
# [[waivers]]
# check = "dead-channels"
# model = "models/detector-*.onnx"
# layer = "backbone/block3/*"
# reason = "pruned on purpose, removed in the next release"
# expires = 2027-01-31
"""
_COMMENT = 19
"""Column of the comments on run settings."""

_BEGIN, _END = "<!-- checks: begin -->", "<!-- checks: end -->"


def default_policy() -> str:
    """The text of default_policy.toml."""
    return _BEFORE + _head() + _AFTER + "".join(_table(check) for check in CHECKS.values())


def _head() -> str:
    """The policy fields with enumerated values, then the run settings."""
    fields = fields_of(Demands)
    lines = []
    for field in (f for f in fields.values() if f.choices):
        lines += [f"# {field.help}: {_either(field.choices)}."] if field.help else []
        lines += [f"{field.name} = {literal(field.default)}", ""]
    lines += [f"# {fields['run'].help}.", "[run]"]
    for field in (f for f in fields_of(RunSettings).values() if f.default != {}):
        line = f"{field.name} = {literal(field.default)}"
        lines.append(f"{line:<{_COMMENT}}# {field.help}" if field.help else line)
    return "\n".join([*lines, "", ""])


def _either(choices: Sequence[object]) -> str:
    *others, last = map(literal, choices)
    return f"{', '.join(others)}{',' if len(others) > 1 else ''} or {last}"


def _table(check: Check[Any]) -> str:
    comment = textwrap.fill(
        f"{check.title}. {check.explanation}", 110, initial_indent="# ", subsequent_indent="# "
    )
    lines = ["", comment, f"[checks.{check.id}]", f'severity = "{check.severity}"']
    options = fields_of(check.options).values()
    lines += [f"{o.name} = {literal(o.default)}  # {_help(o)}" for o in options]
    return "\n".join(lines) + "\n"


def _help(option: Field) -> str:
    return option.help + ("; false: no limit" if option.may_be_off else "")


def markdown() -> str:
    """The reference of all checks for docs/audit.md, in Markdown."""
    rows = ["| check | severity | what it looks for |", "|---|---|---|"]
    rows += [f"| [`{c.id}`](#{c.id}) | {c.severity} | {c.title} |" for c in CHECKS.values()]
    return "\n".join(rows) + "\n\n" + "\n".join(_section(check) for check in CHECKS.values())


def _section(check: Check[Any]) -> str:
    lines = [
        f"### {check.id}",
        "",
        f"{check.title}. {check.explanation}",
        "",
        f"What to do: {check.remedy}",
        "",
    ]
    lines = [line for text in lines for line in (textwrap.wrap(text, 120) or [""])]
    options = fields_of(check.options).values()
    if options:
        lines += ["| option | default | |", "|---|---|---|"]
        lines += [f"| `{o.name}` | `{literal(o.default)}` | {_help(o)} |" for o in options]
        lines.append("")
    return "\n".join(lines)


def with_reference(page: str) -> str:
    """A page with its reference part regenerated.

    Raises:
        ValueError: the page has no such part.
    """
    before, _, rest = page.partition(_BEGIN)
    _, found, after = rest.partition(_END)
    if not found:
        raise ValueError(f"the page lacks {_BEGIN} or {_END}")
    return f"{before}{_BEGIN}\n{markdown()}{_END}{after}"


def schema() -> str:
    """The text of audit.schema.json."""
    return text_of(Document, "audit", SCHEMA_VERSION)
