"""onnxruntime in a process of its own: what comes back, and what happens when it refuses, hangs or dies."""

from __future__ import annotations

import io
import os
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from builders import model, run_onnxruntime, weight

from intrain_onnx.parity import onnxruntime_process, onnxruntime_worker
from intrain_onnx.parity.onnxruntime_process import NoReferenceError, run_reference
from intrain_onnx.parity.onnxruntime_worker import read_frame, write_frame

NETWORK = model(
    "(float[N,4] x, int64[N] i) => (float[N,3] y, int64[N] j) { y = MatMul(x, w) j = Neg(i) }",
    {"w": weight(4, 3)},
)
FEEDS = {"x": weight(5, 4, seed=1), "i": np.arange(5)}


def ask(proto: onnx.ModelProto | Path = NETWORK, timeout: float = 60, **more: np.ndarray) -> list[np.ndarray]:
    what = str(proto) if isinstance(proto, Path) else proto.SerializeToString()
    return run_reference(what, FEEDS | more, cuda=False, threads=1, timeout=timeout)


def worker() -> int:
    assert onnxruntime_process._worker is not None
    return onnxruntime_process._worker.pid


def test_outputs_are_those_of_onnxruntime_in_order():
    for ours, expected in zip(ask(), run_onnxruntime(NETWORK, FEEDS), strict=True):
        assert ours.dtype == expected.dtype
        np.testing.assert_array_equal(ours, expected)


def test_one_process_serves_all_models_and_inputs_that_a_model_lacks_are_left_out():
    ask()
    first = worker()
    ask(nobody=np.ones(3))
    assert worker() == first


def test_a_process_that_was_started_early_is_the_one_that_is_asked():
    onnxruntime_process._stop()
    onnxruntime_process.start_early()
    first = worker()
    onnxruntime_process.start_early()
    np.testing.assert_array_equal(ask()[0], run_onnxruntime(NETWORK, FEEDS)[0])
    assert worker() == first


def test_a_process_without_onnxruntime_says_so_when_it_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no such library')")
    onnxruntime_process._stop()
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        onnxruntime_process.start_early()
        with pytest.raises(NoReferenceError, match=r"^onnxruntime: no such library$"):
            ask()
    finally:
        onnxruntime_process._stop()


def test_a_file_with_external_data_is_read_where_it_lies(tmp_path: Path):
    copy = onnx.ModelProto.FromString(NETWORK.SerializeToString())
    path = tmp_path / "net.onnx"
    onnx.save(copy, path, save_as_external_data=True, location="net.data", size_threshold=0)
    assert (tmp_path / "net.data").is_file()
    np.testing.assert_array_equal(ask(path)[0], ask()[0])
    assert len(list(tmp_path.iterdir())) == 2


def test_a_model_that_onnxruntime_refuses_leaves_the_process_alive():
    ask()
    first = worker()
    with pytest.raises(NoReferenceError, match=r"^onnxruntime: .*Magic") as caught:
        ask(model("(float[N,4] x) => (float[N,4] y) { y = Magic(x) }"))
    assert len(str(caught.value).splitlines()) == 1
    np.testing.assert_array_equal(ask()[0], run_onnxruntime(NETWORK, FEEDS)[0])
    assert worker() == first


def test_a_process_that_dies_is_named_and_replaced():
    ask()
    first = worker()
    os.kill(first, signal.SIGSTOP)  # so that it dies while it is asked
    killer = threading.Timer(0.5, os.kill, (first, signal.SIGKILL))
    killer.start()
    with pytest.raises(NoReferenceError, match=r"^onnxruntime crashed \(signal 9\)$"):
        ask()
    killer.join()
    np.testing.assert_array_equal(ask()[0], run_onnxruntime(NETWORK, FEEDS)[0])
    assert worker() != first


def test_a_process_that_hangs_is_ended_in_time():
    ask()
    first = worker()
    os.kill(first, signal.SIGSTOP)
    started = time.perf_counter()
    with pytest.raises(NoReferenceError, match=r"^onnxruntime took longer than 1 s$"):
        ask(timeout=1)
    assert 1 <= time.perf_counter() - started < 10
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    ask()


def test_an_answer_that_cannot_be_read_is_not_taken_for_the_next(monkeypatch: pytest.MonkeyPatch):
    ask()
    first = worker()

    def half(*_: object) -> None:
        raise ValueError("not an archive")

    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime_process, "read_frame", half)
        with pytest.raises(ValueError, match="not an archive"):
            ask(x=np.zeros((5, 4), np.float32))
    np.testing.assert_array_equal(ask()[0], run_onnxruntime(NETWORK, FEEDS)[0])
    assert worker() != first


@pytest.mark.parametrize("optimised", [True, False])
def test_the_graph_is_optimised_as_asked(optimised: bool, monkeypatch: pytest.MonkeyPatch):
    seen = []

    class Spy(onnxruntime.InferenceSession):
        def __init__(self, model: bytes, options: onnxruntime.SessionOptions, **more: Any) -> None:
            seen.append(options.graph_optimization_level)
            super().__init__(model, options, **more)

    library = SimpleNamespace(
        **{n: getattr(onnxruntime, n) for n in dir(onnxruntime)} | {"InferenceSession": Spy}
    )
    monkeypatch.setattr(onnxruntime_worker, "import_onnxruntime", lambda: library)
    header = {"path": None, "cuda": False, "threads": 1, "optimised": optimised}
    onnxruntime_worker._run(header, FEEDS, NETWORK.SerializeToString())
    levels = onnxruntime.GraphOptimizationLevel
    assert seen == [levels.ORT_ENABLE_ALL if optimised else levels.ORT_DISABLE_ALL]


@pytest.mark.parametrize(
    "arrays",
    [
        {},
        {"": np.array(3)},
        {"a/b": np.zeros((0, 3), np.float16), "ä\n": np.array([[True]]), "a1": np.arange(3, dtype=np.uint64)},
    ],
)
def test_a_frame_arrives_as_it_was_sent(arrays: dict[str, np.ndarray]):
    stream = io.BytesIO()
    header: dict[str, Any] = {"path": "ü", "cuda": False}
    write_frame(stream, header, arrays, b"\0\xff")
    write_frame(stream, {}, {})
    stream.seek(0)
    found, back, blob = read_frame(stream)
    assert (found, blob) == (header, b"\0\xff")
    assert list(back) == list(arrays)
    for name, array in arrays.items():
        assert back[name].dtype == array.dtype
        np.testing.assert_array_equal(back[name], array)
    assert read_frame(stream) == ({}, {}, b"")
    with pytest.raises(EOFError):
        read_frame(stream)


def test_a_process_that_cannot_be_started_is_no_reference(monkeypatch: pytest.MonkeyPatch):
    onnxruntime_process._stop()

    def refused(*_: Any, **__: Any) -> None:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(onnxruntime_process.subprocess, "Popen", refused)
        onnxruntime_process.start_early()
        with pytest.raises(NoReferenceError, match="cannot be started: Cannot allocate memory"):
            ask()
    ask()
