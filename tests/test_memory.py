"""Too little memory is an error of ours before the system kills a process."""

from __future__ import annotations

import gc
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from intrain_onnx import memory
from intrain_onnx.errors import LimitError


def test_available_memory_lies_between_nothing_and_all_there_is():
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    assert 0 < memory.available() <= kilobytes["MemTotal"] * 1024


def test_weights_need_three_times_their_size(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "available", lambda: 3 * 2**30)
    memory.require_for_weights(2**30)
    with pytest.raises(LimitError, match=r"take 1\.0 GiB; scoring needs 3 times that, and 3\.0 GiB are free"):
        memory.require_for_weights(2**30 + 1)


def test_one_tensor_takes_a_quarter_of_the_memory_at_most(monkeypatch: pytest.MonkeyPatch):
    for free, elements in ((2**30, 2**26), (2**50, 2**31)):
        monkeypatch.setattr(memory, "available", lambda free=free: free)
        assert memory.elements_of_one_tensor() == elements
        assert 4 * elements <= free / 4


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="CUDA reserves more addresses than it fills")
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_DATA"), reason="needs Linux")
def test_what_protobuf_says_of_too_little_memory_is_known():
    """It has one message for all that it cannot write; what was parsed has nothing else wrong with it."""
    code = """
import onnx, resource
from intrain_onnx import memory
proto = onnx.ModelProto(doc_string="x" * 100_000_000)
memory.cap_process(20_000_000)
try:
    proto.SerializeToString()
except Exception as error:
    print(type(error).__name__, memory.ran_out(error))
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout in ("EncodeError True\n", "MemoryError True\n")


@pytest.mark.skipif(Path("/dev/nvidiactl").exists(), reason="CUDA reserves more addresses than it fills")
@pytest.mark.skipif(not hasattr(resource, "RLIMIT_DATA"), reason="needs Linux")
def test_a_capped_process_fails_to_allocate_and_lives():
    code = """
from intrain_onnx import memory
memory.available = lambda: 200 * 2**20
memory.cap_process()
bytearray(50 * 2**20)
try:
    bytearray(400 * 2**20)
except MemoryError:
    print("refused")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "refused\n"


def test_the_collector_is_off_inside_and_as_before_outside():
    assert gc.isenabled()
    with memory.collector_paused():
        with memory.collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled(), "an inner pause ended an outer one"
    assert gc.isenabled()
    with pytest.raises(ZeroDivisionError), memory.collector_paused():
        _ = 1 / 0
    assert gc.isenabled()


def test_imports_are_kept_once():
    code = """
import gc
from intrain_onnx import memory
memory.keep_imports()
first = gc.get_freeze_count()
later = [[] for _ in range(1000)]
memory.keep_imports()
assert first > 1000 and gc.get_freeze_count() <= first
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
