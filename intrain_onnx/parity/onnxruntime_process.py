"""onnxruntime as a reference, in a child process, as it may crash, hang or run out of memory."""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from intrain_onnx.parity.onnxruntime_worker import read_frame, write_frame
from intrain_onnx.parity.telemetry import missing


class NoReferenceError(Exception):
    """onnxruntime returned no outputs; the message says why."""


_worker: subprocess.Popen[bytes] | None = None
_alive: list[int] = []
"""The writing end of a pipe: the process ends when it is closed, as when this one is killed."""
_lock = threading.Lock()


def start_early() -> None:
    """Start the process that will be asked, if none runs: it loads onnxruntime while this one goes on.

    If it cannot be started, it is tried again when it is asked.
    """
    with _lock, contextlib.suppress(NoReferenceError):
        _start()


def run_reference(
    model: str | bytes,
    inputs: Mapping[str, np.ndarray[Any, Any]],
    *,
    cuda: bool,
    threads: int,
    timeout: float,
    optimised: bool = True,
) -> list[np.ndarray[Any, Any]]:
    """Run a model file or a serialised model in onnxruntime.

    The process is reused for the next model, or replaced if it crashed or hung.

    Args:
        model: a path only for a model with external data.
        inputs: by name; names that the model does not have are left out.
        cuda: use CUDA if onnxruntime supports it.
        threads: for one operator.
        timeout: seconds after which the process is ended.
        optimised: let onnxruntime rewrite the graph first, as it does by default.

    Raises:
        NoReferenceError: onnxruntime is not installed, refuses the model, crashes, or takes too long, or no
            process can be started.
    """
    header = {"task": "run", "cuda": cuda, "threads": threads, "optimised": optimised}
    _, outputs = _ask(header, model, inputs, timeout)
    return list(outputs.values())


def assignment(
    model: str | bytes, providers: Sequence[str], *, threads: int, timeout: float
) -> Mapping[str, Any]:
    """Which execution provider takes which node: see ``onnxruntime_sessions.assignment``.

    Raises:
        NoReferenceError: as for `run_reference`.
    """
    header = {"task": "assignment", "providers": list(providers), "threads": threads}
    return _ask(header, model, {}, timeout)[0]


def optimised_nodes(model: str | bytes, *, timeout: float) -> Mapping[str, Any]:
    """The nodes that providers are asked for: see ``onnxruntime_sessions.optimised_nodes``.

    Raises:
        NoReferenceError: as for `run_reference`.
    """
    return _ask({"task": "optimised nodes"}, model, {}, timeout)[0]


def timed(
    model: str | bytes,
    inputs: Mapping[str, np.ndarray[Any, Any]],
    providers: Sequence[str],
    *,
    threads: int,
    runs: int,
    seconds: float,
    timeout: float,
) -> Mapping[str, Any]:
    """How long runs take: see ``onnxruntime_sessions.timed``.

    Raises:
        NoReferenceError: as for `run_reference`.
    """
    header = {
        "task": "timed",
        "providers": list(providers),
        "threads": threads,
        "runs": runs,
        "seconds": seconds,
    }
    return _ask(header, model, inputs, timeout)[0]


def _ask(
    header: Mapping[str, Any],
    model: str | bytes,
    inputs: Mapping[str, np.ndarray[Any, Any]],
    timeout: float,
) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
    """Send a request about a model; the answer's header and arrays."""
    with _lock:
        worker = _start()
        assert worker.stdin is not None
        assert worker.stdout is not None
        path = model if isinstance(model, str) else None
        timer = threading.Timer(timeout, worker.kill)
        timer.start()
        try:
            write_frame(worker.stdin, {**header, "path": path}, inputs, b"" if path is not None else model)  # type: ignore[arg-type]
            answer, outputs, _ = read_frame(worker.stdout)
        except (EOFError, OSError):
            timed_out = not timer.is_alive()
            code = _stop()
            raise NoReferenceError(
                f"onnxruntime took longer than {timeout:.0f} s"
                if timed_out
                else f"onnxruntime crashed ({code})"
            ) from None
        except BaseException:  # half a frame was read: the next answer would be this one's rest
            _stop()
            raise
        finally:
            timer.cancel()
    if answer["error"] is not None:
        raise NoReferenceError(f"onnxruntime: {answer['error']}")
    return answer, outputs


def _start() -> subprocess.Popen[bytes]:
    global _worker  # noqa: PLW0603 - one process serves all models
    if _worker is None or _worker.poll() is not None:
        absent = missing()
        if absent is not None:
            raise NoReferenceError(absent)
        try:
            _let_go()
            read, write = os.pipe()
            _alive.append(write)
            _worker = subprocess.Popen(  # noqa: S603 - this module, and a number
                [sys.executable, "-m", "intrain_onnx.parity.onnxruntime_worker", str(read)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                pass_fds=(read,),
            )
            os.close(read)
        except OSError as error:  # no memory, or no process, is left
            raise NoReferenceError(f"onnxruntime's process cannot be started: {error.strerror}") from None
    return _worker


def _let_go() -> None:
    while _alive:
        os.close(_alive.pop())


def _stop() -> str:
    """Kill the process; returns its signal or exit code in words."""
    global _worker  # noqa: PLW0603
    if _worker is None:
        return ""
    _let_go()
    _worker.kill()
    code = _worker.wait()
    for stream in (_worker.stdin, _worker.stdout):
        if stream is not None:
            try:
                stream.close()
            except OSError:
                continue
    _worker = None
    return f"signal {-code}" if code < 0 else f"exit code {code}"


atexit.register(_stop)
