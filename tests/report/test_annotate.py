"""Annotated models: the same function to the bit, each number on its node, and no file in danger."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pages
import pytest
from builders import model, weight
from click.testing import CliRunner
from onnx import helper, numpy_helper

from intrain_onnx import ScoreConfig, score
from intrain_onnx.cli import main
from intrain_onnx.errors import ModelFileError, SettingsError
from intrain_onnx.report.annotate import PREFIX, add_metadata, annotate
from intrain_onnx.report.document import Report

CONFIG = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu", parity=False)
SAMPLES = sorted(pages.SAMPLES.glob("*.onnx"))


def all_nodes(graph: onnx.GraphProto):
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs):
                yield from all_nodes(body)


def properties(holder: onnx.NodeProto | onnx.ModelProto) -> dict[str, str]:
    return {p.key.removeprefix(PREFIX): p.value for p in holder.metadata_props if p.key.startswith(PREFIX)}


def without_metadata(proto: onnx.ModelProto) -> bytes:
    copy = onnx.ModelProto.FromString(proto.SerializeToString())
    for holder in (copy, *all_nodes(copy.graph)):
        kept = [p for p in holder.metadata_props if not p.key.startswith(PREFIX)]
        del holder.metadata_props[:]
        holder.metadata_props.extend(kept)
    return copy.SerializeToString(deterministic=True)


def outputs(path: Path) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    generator = np.random.default_rng(0)
    feeds = {}
    for value in session.get_inputs():
        shape = [d if isinstance(d, int) else 2 for d in value.shape]
        floats = generator.standard_normal(shape).astype(np.float32)
        feeds[value.name] = floats if value.type == "tensor(float)" else np.ones(shape, np.int64)
    return session.run(None, feeds)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_a_sample_is_the_same_function_to_the_bit(path: Path, tmp_path: Path):
    report = score(path, CONFIG)
    target = tmp_path / "annotated.onnx"
    written = annotate(path, report, target)
    assert written.elsewhere == ()
    before, after = onnx.load(path), onnx.load(target)
    onnx.checker.check_model(after)
    assert without_metadata(after) == before.SerializeToString(deterministic=True)
    for a, b in zip(outputs(path), outputs(target), strict=True):
        np.testing.assert_array_equal(a, b)
    found = [properties(n) for n in all_nodes(after.graph) if properties(n)]
    assert len(found) == written.nodes
    assert sum(int(p.get("parts", 1)) for p in found) == len(report.data["layers"])
    logs = math.fsum(float(p["log_participation_ratio"]) for p in found if p["counted"] == "yes")
    assert logs == pytest.approx(report.geometric_capacity, rel=1e-3)
    assert float(properties(after)["score"]) == pytest.approx(report.intrain, rel=1e-3)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.stem)
def test_numbers_are_on_the_node_that_reads_the_weight(path: Path):
    report = score(path, CONFIG)
    proto = onnx.load(path)
    add_metadata(proto, report.document)
    makers = {name: n for n in proto.graph.node for name in n.output}
    views = ("Transpose", "Reshape", "Identity")
    for node in filter(properties, proto.graph.node):
        found = properties(node)
        if "parts" in found:
            continue
        names, read = list(node.input), set()
        while names:
            read.add(name := names.pop())
            maker = makers.get(name)
            names += maker.input if maker and maker.op_type in views else ()
        [layer] = [x for x in report.data["layers"] if read & set(x["weights"])]
        assert found["participation_ratio"] == f"{layer['participation_ratio']:.4g}"
        assert found["depth"] == str(layer["depth"])


def test_parts_of_a_fused_layer_are_put_together(tmp_path: Path):
    path = pages.SAMPLES / "pytorch_encoder_dynamo.onnx"
    report = score(path, CONFIG)
    proto = onnx.load(path)
    add_metadata(proto, report.document)
    [fused] = [properties(n) for n in proto.graph.node if n.name == "node_MatMul_3"]
    parts = [x for x in report.data["layers"] if x["name"].startswith("node_MatMul_3.part")]
    assert fused["parts"] == "3"
    assert fused["channels"] == str(sum(x["channels"] for x in parts))
    assert float(fused["log_participation_ratio"]) == pytest.approx(
        sum(x["log_participation_ratio"] for x in parts), rel=1e-3
    )
    assert fused["rank_of_share"].count(" of ") == 3


def test_hostile_and_equal_names(tmp_path: Path):
    text = """(float[N,8] x) => (float[N,4] y) {
        a = MatMul(x, w0) r = Relu(a) b = MatMul(r, w1) y = MatMul(b, w2)
    }"""
    proto = model(text, {"w0": weight(8, 8), "w1": weight(8, 8, seed=1), "w2": weight(8, 4)})
    names = ["same", "same", "same", "</script>\u202e\x00' \"; DROP"]
    for node, name in zip(proto.graph.node, names, strict=True):
        node.name = name
    proto.graph.node[0].metadata_props.add(key="intrain.health", value="a lie")
    proto.graph.node[1].metadata_props.add(key="namespace", value="kept")
    source = tmp_path / "a.onnx"
    source.write_bytes(proto.SerializeToString())
    report = score(source, CONFIG)
    assert annotate(source, report, tmp_path / "b.onnx").elsewhere == ()
    after = onnx.load(tmp_path / "b.onnx")
    first, relu, second, last = (properties(n) for n in after.graph.node)
    assert [p["depth"] for p in (first, second, last)] == ["1", "2", "3"]
    assert first["health"] != "a lie"
    assert relu == {}
    assert after.graph.node[1].metadata_props[0].value == "kept"
    again = onnx.ModelProto.FromString(after.SerializeToString())
    add_metadata(again, report.document)
    assert again.SerializeToString() == after.SerializeToString()


def test_layers_inside_functions_are_said_to_be_elsewhere(tmp_path: Path):
    text = "(float[N,8] x) => (float[N,4] y) { a = MatMul(x, w0) y = own.Dense(a, w1) }"
    proto = model(text, {"w0": weight(8, 8), "w1": weight(8, 4)}, domains={"own": 1})
    inner = helper.make_node("MatMul", ["v", "w"], ["u"], name="inner")
    proto.functions.append(
        helper.make_function("own", "Dense", ["v", "w"], ["u"], [inner], [helper.make_opsetid("", 20)])
    )
    proto.graph.node[0].name = "inner_1"  # what the expanded node will be called
    source = tmp_path / "a.onnx"
    source.write_bytes(proto.SerializeToString())
    written = annotate(source, score(source, CONFIG), tmp_path / "b.onnx")
    after = onnx.load(tmp_path / "b.onnx")
    assert written.nodes == 1
    assert len(written.elsewhere) == 1
    assert properties(after.graph.node[0])["depth"] == "1"
    assert properties(after)["layers_without_a_node"] == "1"


def test_a_layer_in_a_subgraph_is_found(tmp_path: Path):
    text = """(float[N,8] x, bool c) => (float[N,4] y) {
        a = MatMul(x, w0)
        y = If(c) <
            then_branch = t () => (float[N,4] p) { p = MatMul(a, w1) },
            else_branch = e () => (float[N,4] q) { q = MatMul(a, w2) }
        >
    }"""
    proto = model(text, {"w0": weight(8, 8), "w1": weight(8, 4), "w2": weight(8, 4, seed=1)})
    source = tmp_path / "a.onnx"
    source.write_bytes(proto.SerializeToString())
    report = score(source, CONFIG)
    assert annotate(source, report, tmp_path / "b.onnx").elsewhere == ()
    found = [properties(n) for n in all_nodes(onnx.load(tmp_path / "b.onnx").graph) if properties(n)]
    assert len(found) == len(report.data["layers"]) == 3
    assert sorted(p["status"] for p in found) == ["measured", "measured", "not_run"]


def external(folder: Path) -> Path:
    proto = model("(float[N,8] x) => (float[N,4] y) { y = MatMul(x, w) }")
    proto.graph.initializer.append(numpy_helper.from_array(weight(8, 4), "w"))
    path = folder / "model.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="model.bin", size_threshold=0)
    return path


def test_weights_outside_stay_where_they_are(tmp_path: Path):
    source = external(tmp_path)
    report = score(source, CONFIG)
    weights = (tmp_path / "model.bin").read_bytes()
    annotate(source, report, tmp_path / "annotated.onnx")
    np.testing.assert_array_equal(outputs(source)[0], outputs(tmp_path / "annotated.onnx")[0])
    assert (tmp_path / "annotated.onnx").stat().st_size < 5000
    (tmp_path / "elsewhere").mkdir()
    for target in (tmp_path / "elsewhere" / "a.onnx", tmp_path / "model.bin"):
        with pytest.raises(SettingsError):
            annotate(source, report, target)
    assert (tmp_path / "model.bin").read_bytes() == weights


@pytest.mark.parametrize("way", ["itself", "other spelling", "symbolic link", "hard link"])
def test_the_model_is_never_overwritten(way: str, tmp_path: Path):
    source = tmp_path / "a.onnx"
    source.write_bytes(SAMPLES[0].read_bytes())
    target = {"itself": source, "other spelling": tmp_path / ".." / tmp_path.name / "a.onnx"}.get(
        way, tmp_path / "b.onnx"
    )
    if way == "symbolic link":
        target.symlink_to(source)
    if way == "hard link":
        os.link(source, target)
    report = score(source, CONFIG)
    with pytest.raises(SettingsError, match="is the model"):
        annotate(source, report, target)
    assert source.read_bytes() == SAMPLES[0].read_bytes()


def test_another_file_than_the_scored_one_is_refused(tmp_path: Path):
    report = score(SAMPLES[0], CONFIG)
    with pytest.raises(ModelFileError, match="not the one that was scored"):
        annotate(SAMPLES[1], report, tmp_path / "b.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = tmp_path / "b.onnx"
    target.write_bytes(b"before")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(SettingsError, match="No space left"):
        annotate(SAMPLES[0], score(SAMPLES[0], CONFIG), target)
    assert [p.name for p in tmp_path.iterdir()] == ["b.onnx"]
    assert target.read_bytes() == b"before"


def test_the_option(tmp_path: Path):
    target = tmp_path / "annotated.onnx"
    options = ["--seeds", "1", "--batch", "4", "--no-parity", "--threads", "1", "--annotate", str(target)]
    done = CliRunner().invoke(main, ["score", str(SAMPLES[0]), "-o", str(tmp_path / "a.json"), *options])
    assert done.exit_code == 0, done.output
    report = Report.load(tmp_path / "a.json")
    assert float(properties(onnx.load(target))["score"]) == pytest.approx(report.intrain, rel=1e-3)


@pytest.mark.parametrize(
    ("models", "target", "output"),
    [
        (2, "b.onnx", "."),  # several models
        (1, "no/b.onnx", "."),
        (1, ".", "a.json"),
        (1, "a.json", "a.json"),  # the report
    ],
)
def test_targets_that_cannot_be_are_refused_before_anything_is_scored(
    models: int, target: str, output: str, tmp_path: Path
):
    paths = [str(p) for p in SAMPLES[:models]]
    arguments = ["score", *paths, "-o", str(tmp_path / output), "--annotate", str(tmp_path / target)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "--annotate" in done.output
    assert list(tmp_path.iterdir()) == []
