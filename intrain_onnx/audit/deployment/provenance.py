"""What the ``metadata_props`` of a file say of its origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

KEYS: Mapping[str, tuple[str, ...]] = {
    "licence": ("model_license", "license", "licence", "licenses"),
    "author": ("model_author", "author", "authors"),
    "version": ("model_version", "version"),
    "description": ("description", "model_description"),
    "datasets": ("datasets", "dataset", "training_data", "trained_on"),
}
"""Keys that are read, the first that is there; capitals do not matter.

``model_license`` and ``model_author`` are those that ONNX recommends, the plain ones those of Ultralytics'
exporters and of the model cards of Hugging Face.
"""

_LISTS = ("author", "datasets")


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from, as its metadata say; empty where they do not.

    Attributes:
        licence: a name, an SPDX expression or an address.
        author: names.
        version: of the model, not of its exporter.
        description: one text.
        datasets: that it was trained on.
    """

    licence: str = ""
    author: tuple[str, ...] = ()
    version: str = ""
    description: str = ""
    datasets: tuple[str, ...] = ()


def provenance(metadata: Mapping[str, str]) -> Provenance:
    """What the metadata say. Authors and data sets are lists with commas or brackets, or one name."""
    folded = {key.casefold(): value.strip() for key, value in metadata.items()}
    found = {what: next((folded[key] for key in keys if folded.get(key)), "") for what, keys in KEYS.items()}
    return Provenance(
        **{what: _names(text) if what in _LISTS else text for what, text in found.items()}  # type: ignore[arg-type]
    )


def _names(text: str) -> tuple[str, ...]:
    parts = (part.strip(" \t\n\"'") for part in text.strip("[]").split(","))
    return tuple(dict.fromkeys(filter(None, parts)))
