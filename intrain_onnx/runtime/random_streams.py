"""Random generators keyed by a seed and a name, independent of the order in which they are used."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def generator_for(seed: int, key: str) -> torch.Generator:
    """A CPU generator seeded by 63 bits of the BLAKE2b hash of seed and key."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)


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
