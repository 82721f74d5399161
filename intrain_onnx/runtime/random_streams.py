"""Random generators that depend on a seed and on what they fill, and on nothing that came before."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator_for(seed: int, key: str) -> torch.Generator:
    """The CPU generator of one tensor: the same for the same seed and key, independent for others."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


@contextmanager
def random_nodes_from(seed: int) -> Iterator[None]:
    """Let random nodes without a seed of their own draw from this one: they read torch's initial seed.

    Without it, that differs from process to process. The state of torch's generator is put back.
    """
    state = torch.get_rng_state()
    try:
        torch.default_generator.manual_seed(seed)
        yield
    finally:
        torch.set_rng_state(state)
