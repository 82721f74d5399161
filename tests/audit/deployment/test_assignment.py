"""Which provider takes which node: recorded ones traced back, and what onnxruntime says on this machine."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import onnx
import onnx_ir as ir
import onnxruntime
import pytest
from builders import model, weight

from audit.conftest import ROOT, TODAY, quick
from intrain_onnx.audit.deployment.assignment import CPU, assignment_facts, placed_nodes
from intrain_onnx.audit.deployment.facts import AssignmentFacts, Placed
from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.gather import gather
from intrain_onnx.audit.run import Finding, audit, judge
from intrain_onnx.loading.load import load

CUDA = "CUDAExecutionProvider"
FILE = model(
    """(float[N,4] x, float[3] b) => (float[N,M] y) {
    [product] a = MatMul(x, w) [sum] c = Add(a, b) [sizes] s = Shape(c) [end] r = Relu(c)
    [shape] y = Reshape(r, s) }""",
    {"w": weight(4, 3)},
)
RECORDED = [
    (CUDA, "product/MatMulAddFusion", "Gemm"), (CPU, "sizes", "Shape"), (CUDA, "end", "Relu"),
    (CPU, "shape", "Reshape"), (CUDA, "made_up", "MemcpyToHost"),
]  # fmt: skip
"""As onnxruntime tells it, with a fusion, a node of its own and two nodes on the CPU."""


def test_recorded_nodes_are_traced_back_to_the_file():
    asked = []

    def optimised() -> Mapping[str, Sequence[str]]:
        asked.append(1)
        return {"product/MatMulAddFusion": ["c"]}

    placed = placed_nodes(RECORDED, ir.from_proto(FILE).graph, optimised)
    assert [(p.file_node, p.sizes) for p in placed] == [
        ("sum", False), ("sizes", True), ("end", False), ("shape", False), (None, False)
    ]  # fmt: skip
    assert len(asked) == 1
    placed_nodes([(CPU, "end", "Relu")], ir.from_proto(FILE).graph, optimised)
    assert len(asked) == 1  # only where a name is not the file's


def findings(evidence: Evidence, told: AssignmentFacts, text: str = "") -> list[Finding]:
    changed = replace(evidence, deployment=replace(evidence.deployment, assignment=told))
    return [f for f in judge(changed, quick(text), TODAY).findings if f.check == "provider-fallback"]


def recorded(*fallen: Placed, used: tuple[str, ...] = (CUDA, CPU), **more: str) -> AssignmentFacts:
    return AssignmentFacts((CUDA, CPU), (CUDA, CPU), used, {CUDA: 3, CPU: len(fallen)}, fallen, **more)  # type: ignore[arg-type]


def test_nodes_on_the_cpu_are_named_and_sizes_are_not(healthy: Evidence):
    told = recorded(
        Placed(CPU, "shape", "Reshape", "shape", sizes=False),
        Placed(CPU, "sizes", "Shape", "sizes", sizes=True),
        Placed(CPU, "new", "FusedX", None, sizes=False),
    )
    found = findings(healthy, told)
    assert [(f.found.place, f.severity) for f in found] == [("shape", "error"), ("new", "error")]
    assert found[0].found.message == f"Reshape runs on {CPU}, and not on {CUDA}"
    assert "which onnxruntime made of others" in found[1].found.message
    allowed = findings(healthy, told, '[checks.provider-fallback]\nallow = ["Reshape", "FusedX"]')
    assert allowed == []


def test_a_provider_that_cannot_start_is_one_finding(healthy: Evidence):
    told = recorded(*(Placed(CPU, f"n{i}", "Relu", f"n{i}", sizes=False) for i in range(9)), used=(CPU,))
    [found] = findings(healthy, told)
    assert found.found.message == f"{CUDA} cannot be used on this machine: onnxruntime took {CPU}"
    [lost] = findings(healthy, recorded(error="no kernel"))
    assert "no session: no kernel" in lost.found.message


def test_the_cpu_alone_has_no_fallback():
    told = assignment_facts(load(ROOT / "samples" / "pytorch_resnet_dynamo.onnx"), [CPU], 1)
    assert (told.used, told.fallen, told.untraced) == ((CPU,), (), 0)
    assert told.nodes == {CPU: 21}


def test_what_onnxruntime_fuses_is_traced_by_what_it_makes():
    told = assignment_facts(load(FILE), [CPU], 1)
    assert told.error == ""
    assert told.untraced == 0


def test_nodes_without_names_are_told_by_what_they_make(tmp_path: Path):
    bare = copy.deepcopy(FILE)
    for node in bare.graph.node:
        node.ClearField("name")
    assert assignment_facts(load(bare), [CPU], 1).untraced == 0
    onnx.save(bare, tmp_path / "n.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    beside = assignment_facts(load(tmp_path / "n.onnx"), [CPU], 1)
    assert beside.untraced > 0  # it is given by its path, and has no names


def test_a_provider_that_is_not_installed(healthy: Evidence):
    told = assignment_facts(load(FILE), ["NoSuchProvider"], 1)
    [found] = findings(healthy, told)
    assert found.found.message.startswith("NoSuchProvider is not in the installed onnxruntime, which has ")
    assert all(p in found.found.message for p in onnxruntime.get_available_providers())


def test_the_policy_asks():
    file = ROOT / "samples" / "jax_cnn.onnx"
    assert gather(file, quick()).deployment.assignment is None
    result = audit(file, quick('[run]\nproviders = ["NoSuchProvider", "CPUExecutionProvider"]'), today=TODAY)
    assert [f.check for f in result.findings if f.severity == "error"] == ["provider-fallback"]
    assert not result.passed
    row = result.data()["deployment"]["assignment"]
    assert row["asked"] == ["NoSuchProvider", CPU]
    assert row["used"] == [CPU]


def test_a_provider_without_its_device(healthy: Evidence):
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA")
    told = assignment_facts(load(FILE), [CUDA, CPU], 1)
    if CUDA in told.used:
        pytest.skip("this machine has CUDA")
    [found] = findings(healthy, told)
    assert "cannot be used on this machine" in found.found.message
