"""Random generators keyed by a seed and a name, independent of the order in which they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import fx


def generator_for(seed: int, key: str) -> torch.Generator:
    """A CPU generator seeded by 63 bits of the BLAKE2b hash of seed and key."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


def may_draw(module: fx.GraphModule) -> bool:
    """Whether a run may depend on random numbers: a node has a stream, or a function from elsewhere."""
    parts = [part for part in module.modules() if isinstance(part, fx.GraphModule)]
    calls = [node for part in parts for node in part.graph.nodes if node.op == "call_function"]
    return any("stream" in call.kwargs or not _is_known(call.target) for call in calls)


def _is_known(function: Any) -> bool:
    """Whether a function is of this package, torch or Python; torch's built-in ones name no module."""
    package = (getattr(function, "__module__", None) or "torch").partition(".")[0]
    return package in (__name__.partition(".")[0], "torch", "_operator")


@contextmanager
def random_nodes_from(seed: int) -> Iterator[None]:
    """Seed torch's default generator, whose initial seed random nodes without a ``seed`` attribute read.

    The state of the generator is restored on exit.
    """
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(state)
