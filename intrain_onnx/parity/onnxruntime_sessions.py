"""What onnxruntime tells of a session as one would deploy it: who runs which node, and how long a run takes.

Runs in the process of ``onnxruntime_worker``. Sessions are as a program makes them that sets nothing but
threads and providers: all optimisations, own settings of quantised nodes, a thread pool that spins.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from intrain_onnx.parity.telemetry import import_onnxruntime

Arrays = Mapping[str, np.ndarray[Any, Any]]
Told = dict[str, Any]
"""An answer, as JSON values."""

_WARM_UP = 3
_FEWEST = 5
"""Runs that are timed whatever they take."""


def _session(header: Mapping[str, Any], model: bytes, **entries: str) -> Any:
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = header["threads"]
    for name, value in entries.items():
        options.add_session_config_entry(f"session.{name}", value)
    have = runtime.get_available_providers()
    providers = [p for p in header["providers"] if p in have] or ["CPUExecutionProvider"]
    return runtime.InferenceSession(header["path"] or model, options, providers=providers)


def assignment(header: Mapping[str, Any], inputs: Arrays, model: bytes) -> Told:
    """The providers that are there and in use, and (provider, name, operator) of each node that is run."""
    session = _session(header, model, record_ep_graph_assignment_info="1")
    return {
        "available": import_onnxruntime().get_available_providers(),
        "used": session.get_providers(),
        "nodes": [
            (part.ep_name, node.name, node.op_type)
            for part in session.get_provider_graph_assignment_info()
            for node in part.get_nodes()
        ],
    }


def optimised_nodes(header: Mapping[str, Any], inputs: Arrays, model: bytes) -> Told:
    """(name, outputs) of each node of the graph that providers are asked for, its branches included.

    Basic optimisations come before that; written by the CPU's provider, as others' nodes may have no file.
    """
    runtime = import_onnxruntime()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "optimised.onnx"
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(file)
        entries = {
            "optimized_model_external_initializers_file_name": "weights.bin",
            "optimized_model_external_initializers_min_size_in_bytes": "1024",
        }
        for name, value in entries.items():
            options.add_session_config_entry(f"session.{name}", value)
        runtime.InferenceSession(header["path"] or model, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(file, load_external_data=False).graph
    return {"nodes": list(_outputs(graph))}


def _outputs(graph: onnx.GraphProto) -> list[tuple[str, list[str]]]:
    found = [(node.name, list(node.output)) for node in graph.node]
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                found += _outputs(attribute.g)
    return found


def timed(header: Mapping[str, Any], inputs: Arrays, model: bytes) -> Told:
    """Seconds of each run after a warm-up: ``runs`` of them, or as many as ``seconds`` allow."""
    session = _session(header, model)
    wanted = {i.name for i in session.get_inputs()}
    fed = {name: array for name, array in inputs.items() if name in wanted}
    for _ in range(_WARM_UP):
        session.run(None, fed)
    taken: list[float] = []
    until = time.perf_counter() + header["seconds"]
    while len(taken) < header["runs"] and (len(taken) < _FEWEST or time.perf_counter() < until):
        started = time.perf_counter()
        session.run(None, fed)
        taken.append(time.perf_counter() - started)
    return {"seconds": taken, "used": session.get_providers()}


TASKS: Mapping[str, Callable[[Mapping[str, Any], Arrays, bytes], Told]] = {
    "assignment": assignment,
    "optimised nodes": optimised_nodes,
    "timed": timed,
}
"""By the name in a request."""
