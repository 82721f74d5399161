"""A child process with limits on memory and time that tells what it touched."""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What became of a function in the cage."""

    error: str | None
    message: str
    megabytes: int
    """How much its peak memory grew."""
    touched: list[str]
    """What it did outside the folder: files opened, made or removed there, programs and connections."""
    code: int
    """0, or the exit code or negative signal of a child that did not end by itself."""


_LIBRARY = (
    sys.prefix,
    sys.base_prefix,
    os.path.dirname(os.__file__),
    str(Path(__file__).parents[3]),
)


def _watch(folder: Path, touched: list[str]) -> None:
    inside = (str(folder), os.path.realpath(folder))

    def hook(event: str, args: tuple[object, ...]) -> None:
        if event == "open":
            path, _, flags = args
            name = os.fspath(path) if isinstance(path, str | bytes | os.PathLike) else ""
            name = os.fsdecode(name)
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            relative = not os.path.isabs(name)  # opened in a folder that was opened before
            harmless = not writes and (relative or name.startswith((*inside, *_LIBRARY, "/proc/self/statm")))
            if writes or not harmless:
                touched.append(f"open {name}")
        elif event.split(".", 1)[0] in ("socket", "subprocess", "ctypes", "ftplib", "urllib") or event in (
            "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.mkdir", "os.remove", "os.rename",
            "os.link", "os.symlink", "os.rmdir", "os.truncate", "os.chmod", "os.utime",
            "pickle.find_class",
        ):  # fmt: skip
            touched.append(f"{event} {args}"[:200])

    sys.addaudithook(hook)


def _inside(
    function: Callable[[Path], object],
    path: Path,
    folder: Path,
    cap: int,
    cpu: int,
    preload: tuple[str, ...],
    pipe: Connection,
) -> None:
    for name in preload:  # another test may have started the server, without them
        importlib.import_module(name)
    with open("/proc/self/statm") as file:
        held = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (held + cap, held + cap))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu, cpu))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    touched: list[str] = []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _watch(folder, touched)
    try:
        message, error = str(function(path)), None
    except BaseException as caught:
        message, error = str(caught), type(caught).__name__
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024
    pipe.send_bytes(json.dumps([error, message, grown, touched]).encode())


def caged(
    function: Callable[[Path], object],
    path: Path,
    folder: Path,
    *,
    cap: int = 2**30,
    cpu: int = 60,
    wall: float = 120,
    preload: tuple[str, ...] = ("intrain_onnx.pipeline",),
) -> Outcome:
    """Run a module-level function in a child process with limits on memory, CPU time and wall time.

    Args:
        function: called with ``path``; what it returns or raises comes back as text.
        path: the file.
        folder: the only place where it may read and write.
        cap: bytes of address space on top of what an idle child has.
        cpu: seconds of CPU time.
        wall: seconds until the child is killed.
        preload: modules that are imported before anything is counted, by the server if it starts now.
    """
    context = get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    receive, send = context.Pipe(duplex=False)
    child = context.Process(target=_inside, args=(function, path, folder, cap, cpu, preload, send))
    child.start()
    send.close()
    try:
        if not receive.poll(wall):
            return Outcome("TimeoutError", f"still running after {wall} s", 0, [], -9)
        error, message, grown, touched = json.loads(receive.recv_bytes())
    except EOFError:
        child.join(10)
        return Outcome("Killed", f"exit code {child.exitcode}", 0, [], child.exitcode or 0)
    finally:
        if child.is_alive():
            child.join(5)
        if child.is_alive():
            child.kill()
        child.join()
    return Outcome(error, message, grown, touched, 0)


def files_below(folder: Path) -> Iterator[tuple[str, int]]:
    """Every path below a folder and when it last changed, to see that nothing was written."""
    for path in sorted(folder.rglob("*")):
        yield str(path), path.lstat().st_mtime_ns
