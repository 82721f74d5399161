"""What onnxruntime tells of its sessions, through its process: nodes, providers, times."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from builders import model, weight

from intrain_onnx.parity import onnxruntime_process
from intrain_onnx.parity.onnxruntime_process import NoReferenceError

CPU = "CPUExecutionProvider"
NETWORK = model(
    """(float[N,4] x, float[3] b) => (float[N,3] y) {
    [product] a = MatMul(x, w) [sum] c = Add(a, b) [end] y = Relu(c) }""",
    {"w": weight(4, 3)},
)
FEEDS = {"x": weight(5, 4, seed=1), "b": weight(3, seed=2)}


def test_the_nodes_are_those_of_the_session():
    told = onnxruntime_process.assignment(NETWORK.SerializeToString(), [CPU], threads=1, timeout=60)
    assert told["available"] == onnxruntime.get_available_providers()
    assert told["used"] == [CPU]
    assert {provider for provider, _, _ in told["nodes"]} == {CPU}
    assert sorted(op for _, _, op in told["nodes"]) in (["Add", "MatMul", "Relu"], ["Gemm", "Relu"])


def test_optimised_nodes_keep_the_names_of_what_they_make(tmp_path: Path):
    """Held against the file that onnxruntime writes, and beside a model with external data."""
    onnx.save(
        copy.deepcopy(NETWORK),
        tmp_path / "net.onnx",
        save_as_external_data=True,
        location="w.bin",
        size_threshold=0,
    )
    for source in (NETWORK.SerializeToString(), str(tmp_path / "net.onnx")):
        told = onnxruntime_process.optimised_nodes(source, timeout=60)["nodes"]
        assert told[-1] == ["end", ["y"]]
        assert {v for _, outputs in told for v in outputs} <= {"a", "c", "y"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.onnx", "w.bin"]


def test_a_time_for_each_run():
    more = {"threads": 1, "runs": 7, "seconds": 30.0, "timeout": 60.0}
    told = onnxruntime_process.timed(NETWORK.SerializeToString(), FEEDS | {"nobody": np.ones(2)}, [], **more)
    assert len(told["seconds"]) == 7
    assert all(0 < s < 5 for s in told["seconds"])
    assert told["used"] == [CPU]
    over = onnxruntime_process.timed(NETWORK.SerializeToString(), FEEDS, [CPU], **more | {"seconds": 1e-9})
    assert len(over["seconds"]) == 5  # the fewest that have quartiles


def test_a_model_that_is_refused_says_why():
    broken = model("(float[N,4] x) => (float[N,4] y) { y = com.acme.Magic(x) }", domains={"com.acme": 1})
    for ask in (
        lambda m: onnxruntime_process.assignment(m, [CPU], threads=1, timeout=60),
        lambda m: onnxruntime_process.optimised_nodes(m, timeout=60),
        lambda m: onnxruntime_process.timed(m, FEEDS, [CPU], threads=1, runs=5, seconds=1.0, timeout=60),
    ):
        with pytest.raises(NoReferenceError, match="Magic"):
            ask(broken.SerializeToString())
