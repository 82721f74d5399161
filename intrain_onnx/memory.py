"""Free memory of this machine, the limits derived from it, in bytes, and errors that say it ran out."""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Final

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

from intrain_onnx.errors import LimitError

_COPIES = 3
"""A weight is held as a parameter, as its gradient, and for a while as the copy it is drawn into; an array
that is fed, as it was read, in the graph's type, and as a tensor."""

LESS: Final = "Take a smaller --batch or --input-shape, or a machine with more memory"
"""Hint where memory ran out."""

_SAID: Final = (
    *("allocate memory", "bad_alloc", "bad allocation", "not enough memory", "Arena alloc failed"),
    "Failed to serialize proto",  # what was parsed can be written, if there is room
)
"""Parts of the messages of libraries without an exception for it: torch on the CPU, C++, protobuf."""

_TOO_LONG: Final = ("larger than max_size()", "Storage size calculation overflowed")
"""Parts of the messages for a size that no memory has: of C++ containers, and of torch."""

_most: ContextVar[int] = ContextVar("memory_limit", default=0)


def available() -> int:
    """Bytes that may be taken: those that are free, or fewer (see :func:`at_most`)."""
    most = _most.get()
    return min(_free(), most) if most else _free()


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Set the most bytes that may be taken inside the ``with`` block; 0 for all that are free."""
    token = _most.set(size)
    try:
        yield
    finally:
        _most.reset(token)


def ran_out(error: BaseException) -> bool:
    """Whether an error of any library says that an allocation failed, or could never succeed."""
    if isinstance(error, OSError):  # no room to map a file
        return error.errno == errno.ENOMEM
    torch = sys.modules.get("torch")
    if isinstance(error, MemoryError) or (torch is not None and isinstance(error, torch.OutOfMemoryError)):
        return True
    return any(part in str(error) for part in _SAID + _TOO_LONG)


def _free() -> int:
    """Bytes free on this machine, or fewer by the limits of this process."""
    return min([_free_here(), *_left_by_limits()])


def _left_by_limits() -> list[int]:
    """Bytes that the limits on the address space and on its data leave, where they are set."""
    if resource is None:
        return []
    limits = [
        (field, resource.getrlimit(getattr(resource, name))[0])
        for name, field in (("RLIMIT_AS", "VmSize:"), ("RLIMIT_DATA", "VmData:"))
        if hasattr(resource, name)
    ]
    return [
        max(limit - _held(field), 0) for field, limit in limits if limit not in (resource.RLIM_INFINITY, 0)
    ]


def _free_here() -> int:
    """Bytes available without swapping (Linux: MemAvailable); else physical memory, else 16 GiB."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError):
        if hasattr(os, "sysconf"):
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return 2**34


def fits(size: int) -> bool:
    """Whether so many bytes are free, with a half more for what is made of them."""
    return 1.5 * size <= available()


def require_for_weights(tensor_bytes: int) -> None:
    """Refuse a model whose weights do not fit, before they are copied.

    Raises:
        LimitError: they need more memory than there is.
    """
    _require(
        tensor_bytes, "the tensors of this model take", "scoring needs", "Use a machine with more memory"
    )


def require_for_inputs(array_bytes: int) -> None:
    """Refuse an array that is to be fed and does not fit, before it is read.

    Raises:
        LimitError: it needs more memory than there is.
    """
    _require(array_bytes, "the array takes", "feeding it needs", "Give fewer samples")


def _require(size: int, takes: str, needs: str, hint: str) -> None:
    free = available()
    if _COPIES * size > free:
        raise LimitError(
            f"{takes} {size / 2**30:.1f} GiB; {needs} {_COPIES} times that, and {free / 2**30:.1f} GiB are "
            "free",
            hint=hint,
        )


def cap_process(size: int | None = None) -> None:
    """Set RLIMIT_DATA to the data segment and so many bytes more: an allocation beyond raises MemoryError.

    The default is all available memory.

    Otherwise Linux overcommits, and its out-of-memory killer ends a process. Does nothing where CUDA may be
    used, which reserves far more address space than it fills, and on systems without RLIMIT_DATA.
    """
    if resource is None or not hasattr(resource, "RLIMIT_DATA") or Path("/dev/nvidiactl").exists():
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = (available() if size is None else size) + _held("VmData:")
    limits = [v for v in (wanted, soft, hard) if v != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))


RETURN_WHAT_IS_FREED: Final[Mapping[str, str]] = {"MALLOC_MMAP_THRESHOLD_": str(2**20)}
"""Variables with which a process that is started then returns each block from a mebibyte on when it is freed.

Otherwise glibc raises that threshold to 32 MiB, and keeps what is freed between blocks that stay: a run in
segments had up to twice the resident set of its tensors. It costs time, as each block is mapped anew.
"""


def _held(field: str) -> int:
    """Bytes that this process has, by a field of Linux's status of it; 0 elsewhere."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), 0)


@contextmanager
def collector_paused() -> Iterator[None]:
    """Keep Python's cycle collector off: for code that makes many objects which stay, and runs no model.

    It looks at all objects again and again while a graph of thousands of nodes is built, which takes as long
    as building it. What holds large tensors is to be collected, so nothing that runs a model is paused.
    """
    paused = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if paused:
            gc.enable()


def keep_imports() -> None:
    """Exempt all objects there are from cycle collection, once: those that imports made stay in any case.

    For a process of this package's own: torch alone makes 350,000, and each full collection looks at them.
    """
    if not gc.get_freeze_count():
        gc.freeze()


MOST_ELEMENTS: Final = 2**31
"""Of one operator's output, however much is free."""


def elements_of_one_tensor() -> int:
    """Most float32 elements of one operator's output: a quarter of the free memory, at most 2**31."""
    return min(MOST_ELEMENTS, available() // 16)
