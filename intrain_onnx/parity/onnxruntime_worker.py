"""Runs models in onnxruntime for another process: ``python -m intrain_onnx.parity.onnxruntime_worker``.

onnxruntime can crash on a model that passes every check, and takes its process with it. Requests and answers
are frames on standard input and output: JSON, numpy's npz and raw bytes, each preceded by its length (uint64,
little endian).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import struct
import sys
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

from intrain_onnx.engine.orphans import end_when_closed
from intrain_onnx.parity.onnxruntime_sessions import TASKS, Arrays
from intrain_onnx.parity.telemetry import import_onnxruntime


def write_frame(stream: IO[bytes], header: Mapping[str, Any], arrays: Arrays, blob: bytes = b"") -> None:
    """Send one message: a header, named arrays and raw bytes."""
    packed = io.BytesIO()
    np.savez(packed, **{f"a{i}": array for i, array in enumerate(arrays.values())})  # type: ignore[arg-type]
    text = json.dumps({"header": header, "names": list(arrays)}).encode()
    for part in (text, packed.getbuffer(), blob):
        stream.write(struct.pack("<Q", len(part)))
        stream.write(part)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]], bytes]:
    """Receive one message.

    Raises:
        EOFError: the stream ended.
    """
    text, packed, blob = (_exactly(stream, struct.unpack("<Q", _exactly(stream, 8))[0]) for _ in range(3))
    message = json.loads(text)
    with np.load(io.BytesIO(packed), allow_pickle=False) as archive:
        arrays = {name: archive[f"a{i}"] for i, name in enumerate(message["names"])}
    return message["header"], arrays, blob


def _exactly(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(min(count, 2**24))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _run(header: Mapping[str, Any], inputs: Arrays, model: bytes) -> dict[str, np.ndarray[Any, Any]]:
    onnxruntime = import_onnxruntime()  # here: the process must reply even if this fails
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if not header["optimised"]:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = header["threads"]
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # Its fusions around DequantizeLinear compute with fewer bits than the file specifies.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    # Without CUDA, asking for it prints two screens of errors.
    cuda = header["cuda"] and "CUDAExecutionProvider" in onnxruntime.get_available_providers()
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"] if cuda else ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(header["path"] or model, options, providers=providers)
    wanted = {i.name for i in session.get_inputs()}
    names = [o.name for o in session.get_outputs()]
    results = session.run(names, {name: array for name, array in inputs.items() if name in wanted})
    return {name: np.asarray(result) for name, result in zip(names, results, strict=True)}


def _answer(header: Mapping[str, Any], inputs: Arrays, model: bytes) -> tuple[dict[str, Any], Arrays]:
    if header["task"] == "run":
        return {}, _run(header, inputs, model)
    return TASKS[header["task"]](header, inputs, model), {}


def main() -> None:
    """Answer requests until standard input ends."""
    end_when_closed(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library's prints must not mix with the answers
    with contextlib.suppress(Exception):  # a request reports it
        import_onnxruntime()
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            header, inputs, model = read_frame(sys.stdin.buffer)
            try:
                told, outputs = _answer(header, inputs, model)
            except Exception as error:  # onnxruntime raises its own and built-in types
                write_frame(answers, {"error": f"{str(error).splitlines()[0][:300]}"}, {})
            else:
                write_frame(answers, {"error": None, **told}, outputs)


if __name__ == "__main__":
    main()
