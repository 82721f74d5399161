"""Random generators that depend on a seed and on what they fill, and on nothing that came before."""

from __future__ import annotations

import hashlib

import torch


def generator_for(seed: int, key: str) -> torch.Generator:
    """The CPU generator of one tensor: the same for the same seed and key, independent for others."""
    digest = hashlib.blake2b(f"{seed}:{key}".encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)
