"""Search spaces: build the ONNX network of an architecture directly from its description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Final

from intrain_onnx.bench.spaces.base import Genome, Space, bad, column

__all__ = ["SPACES", "Genome", "Space", "bad", "column"]

_NAMES: Final = (
    "nasbench201",
    "nasbench101",
    "nats_size",
    "macro",
    "transnas_macro",
    "mobilenet_v2",
    "nds_resnet",
    "autoformer",
    "pit",
    "digits",
    "gpt2",
    "openlm",
    "nas_bench_nlp",
    "torchvision",
)


class _Spaces(Mapping[str, Space]):
    """Spaces by name. The module of each is imported on access, as onnx is slow to load."""

    def __getitem__(self, name: str) -> Space:
        if name not in _NAMES:
            raise KeyError(name)
        space: Space = import_module(f"{__name__}.{name}").SPACE
        return space

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


SPACES: Final[Mapping[str, Space]] = _Spaces()
"""All search spaces by name."""
