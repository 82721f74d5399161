"""Small files read as large ones are: with the data of their tensors left in them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from intrain_onnx.loading import file_contents

LEAST_DATA = 40
SMALL = {"_LEAST_FILE": 1, "_LEAST_DATA": LEAST_DATA, "_PIECE": 64}


def from_now_on() -> None:
    """For this process."""
    for name, size in SMALL.items():
        setattr(file_contents, name, size)


@contextmanager
def inside() -> Iterator[None]:
    """For a block."""
    with pytest.MonkeyPatch.context() as patched:
        for name, size in SMALL.items():
            patched.setattr(file_contents, name, size)
        yield
