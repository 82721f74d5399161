"""Where a report's scores stand among the reference networks that are like its network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from intrain_onnx.report import rows
from intrain_onnx.report.comparison import that_move_a_score
from intrain_onnx.report.context import references
from intrain_onnx.report.context.inputs import in_words as inputs_in_words
from intrain_onnx.report.context.references import FEWEST, Neighbours
from intrain_onnx.report.numbers import tally
from intrain_onnx.vocabulary import LEADING

_MAY_DIFFER: Final = frozenset({"seed", "seeds", "converter", "execution", "input shapes"})
"""Of the settings that can move a score: any seeds estimate the same mean, converters agree, and the inputs
of a network are compared in words."""

_NAMED = 20
"""Neighbours whose names a report has."""


def compared(settings: rows.Settings) -> dict[str, Any]:
    """The settings that must be those of the reference networks."""
    return {k: v for k, v in that_move_a_score(settings).items() if k not in _MAY_DIFFER}


def standing(document: rows.Document) -> rows.Standing:
    """The percentile of each named score, or why there is none."""
    table, inputs = references.table(), inputs_in_words(document.settings.inputs_fed)
    different = _different(compared(document.settings), table.settings)
    parameters, layers = (document.baselines.get(name) or 0 for name in ("parameters", "layers"))
    found = references.neighbours(document.kind or "other", inputs, parameters, layers)
    reason = different or _few(document, inputs, found)
    rule = (
        f"{document.kind}, {inputs}, #Params within a factor of {found.likeness.parameters:g}, "
        f"layers of {found.likeness.layers:g}"
    )
    if reason:
        return rows.Standing(percentiles={}, networks=0, neighbours=(), rule=rule, reason=reason)
    return rows.Standing(
        percentiles={
            name: round(references.percentile(row.value, [x.scores[name] for x in found.networks]), 1)
            for name, row in document.scores.items()
            if all(name in x.scores for x in found.networks)
        },
        networks=len(found.networks),
        neighbours=tuple(x.name for x in found.networks[:_NAMED]),
        rule=rule,
        reason=None,
    )


def in_words(found: rows.Standing) -> str:
    """One line: above how many neighbours the leading score and InTrain stand, or why it is not known."""
    if found.reason is not None:
        return f"no percentile: {found.reason}"
    shown = {LEADING: LEADING, "intrain": "InTrain"}
    said = [
        f"{title} above {found.percentiles[name]:.0f} %"
        for name, title in shown.items()
        if name in found.percentiles
    ]
    return f"{', '.join(said)} of {found.networks}"


def _different(own: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """What differs in the settings; where the protocol does, that alone, for it sets the others."""
    names = [name for name, value in own.items() if value != theirs.get(name)]
    names = ["protocol"] if "protocol" in names else names
    if not names:
        return ""
    said = ", ".join(f"{name} {_short(own[name])}, theirs {_short(theirs.get(name))}" for name in names)
    return f"settings differ from those of the reference networks: {said}"


def _short(value: object) -> str:
    return (f"of {len(value)} inputs" if value else "none") if isinstance(value, list) else str(value)


def _few(document: rows.Document, inputs: str, found: Neighbours) -> str:
    if len(found.networks) >= FEWEST:
        return ""
    of_kind = [x for x in references.table().networks if x.kind == document.kind]
    known = sorted({x.inputs for x in of_kind})
    if inputs not in known:
        there = f"were fed {' or '.join(known)}" if known else "are of other kinds"
        return f"it was fed {inputs}, and the reference networks of its kind {there}"
    size = (
        f"{tally(document.baselines.get('parameters'))} #Params in {document.baselines.get('layers')} layers"
    )
    return f"only {len(found.networks)} reference networks are like it ({size}), and {FEWEST} are needed"
