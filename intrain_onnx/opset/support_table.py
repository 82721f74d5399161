"""The support table: which operator versions ONNX has, which have a handler, and why the others have none.

No torch: what has a handler is stored (see ``support``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import onnx
import onnx.defs

from intrain_onnx.opset import plugins, support

OLDEST_OPSET = 7
"""Operator versions superseded before this opset are not counted as missing."""

STRINGS = "torch has no strings"
IMAGES = "torch decodes no images"
LOOK_UPS = "not a network: it has no gradient"
TRAINING = "training is no part of a network"

EXCLUDED: Mapping[tuple[str, str], str] = {
    ("ai.onnx", "ImageDecoder"): IMAGES,
    ("ai.onnx", "RegexFullMatch"): STRINGS,
    ("ai.onnx", "StringConcat"): STRINGS,
    ("ai.onnx", "StringNormalizer"): STRINGS,
    ("ai.onnx", "StringSplit"): STRINGS,
    ("ai.onnx.ml", "CastMap"): "torch has no maps",
    ("ai.onnx.ml", "CategoryMapper"): STRINGS,
    ("ai.onnx.ml", "DictVectorizer"): "torch has no maps",
    ("ai.onnx.ml", "LabelEncoder"): LOOK_UPS,
    ("ai.onnx.ml", "OneHotEncoder"): LOOK_UPS,
    ("ai.onnx.ml", "SVMClassifier"): LOOK_UPS,
    ("ai.onnx.ml", "SVMRegressor"): LOOK_UPS,
    ("ai.onnx.ml", "TreeEnsemble"): LOOK_UPS,
    ("ai.onnx.ml", "TreeEnsembleClassifier"): LOOK_UPS,
    ("ai.onnx.ml", "TreeEnsembleRegressor"): LOOK_UPS,
    ("ai.onnx.preview.training", "Adagrad"): TRAINING,
    ("ai.onnx.preview.training", "Adam"): TRAINING,
    ("ai.onnx.preview.training", "Gradient"): TRAINING,
    ("ai.onnx.preview.training", "Momentum"): TRAINING,
}
"""Why an operator, by domain and name, has no handler in any version."""

REFUSED_ATTRIBUTES: Mapping[str, frozenset[str]] = {
    "Constant": frozenset({"sparse_value", "value_string", "value_strings"}),
}
"""Attributes of operators of ONNX's own domain that their handlers refuse: strings and sparse tensors."""

WRITTEN_BY_ONNXRUNTIME = {("SimplifiedLayerNormalization", 1), ("LayerNormalization", 1)}
"""Operator versions that ONNX does not define, but onnxruntime's optimiser writes in ONNX's own domain."""


@dataclass(frozen=True, slots=True)
class Row:
    """One operator.

    Attributes:
        domain: "ai.onnx" for ONNX's own.
        op_type: its name.
        handled: versions with a handler.
        known: versions in ONNX's opsets from `OLDEST_OPSET` to the newest; empty if ONNX does not define
            the operator.
        note: why it is excluded, how it is run without a handler, or what its handler refuses.
    """

    domain: str
    op_type: str
    handled: tuple[int, ...]
    known: tuple[int, ...]
    note: str

    @property
    def missing(self) -> tuple[int, ...]:
        """Versions without a handler."""
        return tuple(v for v in self.known if v not in self.handled)


def schemas(domains: Iterable[str] | None = None) -> Iterator[onnx.defs.OpSchema]:
    """Schemas that are not deprecated, and that an opset from `OLDEST_OPSET` to the newest resolves to."""
    versions: dict[tuple[str, str], list[onnx.defs.OpSchema]] = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if domains is None or schema.domain in domains:
            versions.setdefault((schema.domain, schema.name), []).append(schema)
    for (domain, _), found in sorted(versions.items()):
        oldest = OLDEST_OPSET if not domain else 1
        start = max((s.since_version for s in found if s.since_version <= oldest), default=0)
        for schema in sorted(found, key=lambda s: s.since_version):
            if schema.since_version >= start and not schema.deprecated:
                yield schema


def rows(*, plugged: bool = True) -> list[Row]:
    """The whole table, sorted by domain and operator; with the plugins' operators if ``plugged``."""
    known: dict[tuple[str, str], list[int]] = {}
    bodies: set[tuple[str, str]] = set()
    for schema in schemas():
        key = (schema.domain or "ai.onnx", schema.name)
        known.setdefault(key, []).append(schema.since_version)
        if support.has_body(schema):
            bodies.add(key)
    handled = {(d, o): versions for d, found in support.table().items() for o, versions in found.items()}
    added = {(d or "ai.onnx", o): e for (d, o), e in plugins.declared().items()} if plugged else {}
    return [
        Row(
            *key,
            tuple(handled.get(key, ())),
            tuple(known.get(key, ())),
            f"plugin {', '.join(map(plugins.distribution, added[key]))}"
            if key in added
            else _note(*key, bool(handled.get(key)), key in bodies),
        )
        for key in sorted({*known, *handled, *added})
    ]


def _note(domain: str, op_type: str, has_handler: bool, has_body: bool) -> str:
    if (domain, op_type) in EXCLUDED:
        return EXCLUDED[domain, op_type]
    if not has_handler:
        return "expanded by its function body" if has_body else "no handler yet"
    if domain == "ai.onnx" and op_type in REFUSED_ATTRIBUTES:
        return "without " + ", ".join(sorted(REFUSED_ATTRIBUTES[op_type]))
    if domain == "ai.onnx" and any(op_type == name for name, _ in WRITTEN_BY_ONNXRUNTIME):
        return "also version 1, which onnxruntime's optimiser writes"
    return ""


def numbers(versions: Iterable[int]) -> str:
    """Versions as a comma-separated list."""
    return ", ".join(map(str, versions))


def totals(table: Iterable[Row]) -> str:
    """One sentence on the operators of ONNX's own domain."""
    own = [row for row in table if row.domain == "ai.onnx" and row.known]
    versions = sum(len(row.known) for row in own)
    missing = [row for row in own if row.missing]
    return (
        f"ai.onnx: {len(own) - len(missing)} of {len(own)} operators, "
        f"{versions - sum(len(row.missing) for row in missing)} of their {versions} versions."
    )


def markdown() -> str:
    """The page docs/operators.md."""
    table = rows(plugged=False)
    lines = [
        "# Operators",
        "",
        "Written by `scripts/generate`; do not edit it.",
        "",
        f"ONNX's versions are those of onnx {onnx.__version__} that opsets from {OLDEST_OPSET} to "
        f"{onnx.defs.onnx_opset_version()} have. Each version is resolved exactly: a model of an opset whose "
        "version of an operator has no handler is refused, with all such operators and their counts. An "
        "operator of ONNX's that has no handler but a function body is expanded by it.",
        "",
        totals(table),
        "",
        "Add an operator of your own: [add-an-operator.md](add-an-operator.md).",
    ]
    for domain in dict.fromkeys(row.domain for row in table):
        lines += ["", f"## {domain}", "", "| operator | handler | in ONNX | |", "|---|---|---|---|"]
        lines += [
            f"| {row.op_type} | {numbers(row.handled) or '-'} | {numbers(row.known) or '-'} | {row.note} |"
            for row in table
            if row.domain == domain
        ]
    return "\n".join(lines) + "\n"
