"""Activations that are made again: the numbers of a run that keeps them, in every bit, and less memory."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import model, weight
from click.testing import CliRunner
from torch import Tensor, fx

from intrain_onnx import cli, memory, pipeline
from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure import calibration
from intrain_onnx.rewrites.network import Network
from intrain_onnx.runtime import convert, interpreter, recomputed, streamed
from intrain_onnx.runtime.recomputed import Changes

torch.set_num_threads(1)
AS_IT_IS = streamed.Saving(lambda tensor: tensor, lambda tensor: tensor)


def repeated(block: str, times: int, last: str) -> str:
    """A block of text with {i} for its number and {x} for the value before it, some times; then the head."""
    before = ["x", *(f"o{i}" for i in range(times))]
    body = " ".join(block.format(i=i, x=before[i]) for i in range(times))
    return f"{body} {last.format(x=before[-1])}"


IMAGE = "(float[N,8,6,6] x) => (float[N,5] y)"
TOKENS = "(float[N,7,8] x) => (float[N,7,5] y)"
POOL = "p = GlobalAveragePool({x}) f = Flatten(p) y = MatMul(f, v)"
KERNELS = {"w": weight(8, 8, 3, 3), "u": weight(8, 8, 3, 3, seed=1), "v": weight(8, 5)}


def each(count: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"{n}{i}": weight(*s, seed=7 * i + len(n)) for i in range(count) for n, s in shapes.items()}


MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "residual blocks": (
        f"""{IMAGE} {{ {
            repeated(
                "a{i} = Conv<pads = [1, 1, 1, 1]>({x}, w{i}) b{i} = Relu(a{i}) "
                "c{i} = Conv<pads = [1, 1, 1, 1]>(b{i}, u{i}) s{i} = Add(c{i}, {x}) o{i} = Relu(s{i})",
                6,
                POOL,
            )
        } }}""",
        each(6, w=(8, 8, 3, 3), u=(8, 8, 3, 3)) | {"v": weight(8, 5)},
    ),
    "inverted residuals with clipped activations": (
        f"""{IMAGE} {{ {
            repeated(
                "a{i} = Conv({x}, w{i}) b{i} = Clip(a{i}, low, high) c{i} = Conv<group = 16, pads = "
                "[1, 1, 1, 1]>(b{i}, u{i}) d{i} = HardSwish(c{i}) e{i} = Conv(d{i}, q{i}) "
                "o{i} = Add(e{i}, {x})",
                6,
                POOL,
            )
        } }}""",
        each(6, w=(16, 8, 1, 1), u=(16, 1, 3, 3), q=(8, 16, 1, 1))
        | {"v": weight(8, 5), "low": np.float32(0), "high": np.float32(6)},
    ),
    "normalised by the batch": (
        f"""{IMAGE} {{ {
            repeated(
                "a{i} = Conv<pads = [1, 1, 1, 1]>({x}, w{i}) n{i} = BatchNormalization(a{i}, g{i}, h{i}, "
                "m{i}, k{i}) b{i} = Relu(n{i}) o{i} = Add(b{i}, {x})",
                6,
                POOL,
            )
        } }}""",
        each(6, w=(8, 8, 3, 3), h=(8,), m=(8,))
        | {f"{n}{i}": np.ones(8, np.float32) + i for i in range(6) for n in "gk"}
        | {"v": weight(8, 5)},
    ),
    "squeeze and excitation": (
        f"""{IMAGE} {{ {
            repeated(
                "a{i} = Conv<pads = [1, 1, 1, 1]>({x}, w{i}) p{i} = GlobalAveragePool(a{i}) "
                "q{i} = Conv(p{i}, s{i}) r{i} = Relu(q{i}) t{i} = Conv(r{i}, u{i}) "
                "g{i} = Sigmoid(t{i}) o{i} = Mul(a{i}, g{i})",
                5,
                POOL,
            )
        } }}""",
        each(5, w=(8, 8, 3, 3), s=(2, 8, 1, 1), u=(8, 2, 1, 1)) | {"v": weight(8, 5)},
    ),
    "encoder": (
        f"""{TOKENS} {{ {
            repeated(
                "q{i} = MatMul({x}, wq{i}) k{i} = MatMul({x}, wk{i}) v{i} = MatMul({x}, wv{i}) "
                "t{i} = Transpose<perm = [0, 2, 1]>(k{i}) s{i} = MatMul(q{i}, t{i}) p{i} = Softmax(s{i}) "
                "a{i} = MatMul(p{i}, v{i}) z{i} = Add(a{i}, {x}) n{i} = LayerNormalization(z{i}, one, none) "
                "f{i} = MatMul(n{i}, wf{i}) g{i} = Gelu(f{i}) h{i} = MatMul(g{i}, wg{i}) "
                "o{i} = Add(h{i}, n{i})",
                4,
                "y = MatMul({x}, wy)",
            )
        } }}""",
        each(4, wq=(8, 8), wk=(8, 8), wv=(8, 8), wf=(8, 32), wg=(32, 8))
        | {"wy": weight(8, 5), "one": np.ones(8, np.float32), "none": np.zeros(8, np.float32)},
    ),
    "recurrences": (
        f"""{TOKENS} {{ t = Transpose<perm = [1, 0, 2]>(x) l0, b, c = LSTM<hidden_size = 8>(t, w0, r0)
            s0 = Squeeze(l0, one) l1, d = GRU<hidden_size = 8>(s0, w1, r1) s1 = Squeeze(l1, one)
            l2, e, f = LSTM<hidden_size = 8>(s1, w2, r2) s2 = Squeeze(l2, one)
            m = Transpose<perm = [1, 0, 2]>(s2) y = MatMul(m, v) }}""",
        {f"{n}{i}": weight(1, 24 if i == 1 else 32, 8, seed=i) for i in range(3) for n in "wr"}
        | {"v": weight(8, 5), "one": np.array([1])},
    ),
    "a loop, a branch and random numbers": (
        f"""{TOKENS} {{ {
            repeated(
                "a{i} = MatMul({x}, w{i}) z{i} = RandomNormalLike(a{i}) b{i} = Add(a{i}, z{i}) "
                "l{i} = Loop<body = body{i} (int64 r{i}, bool c{i}, float[N,7,8] s{i}) => "
                "(bool d{i}, float[N,7,8] t{i}) {{ d{i} = Identity(c{i}) u{i} = MatMul(s{i}, k{i}) "
                "t{i} = Tanh(u{i}) }}>(three, yes, b{i}) o{i} = Add(l{i}, b{i})",
                4,
                "y = MatMul({x}, wy)",
            )
        } }}""",
        each(4, w=(8, 8), k=(8, 8)) | {"wy": weight(8, 5), "three": np.array(3), "yes": np.array(True)},
    ),
    "a weight at many places": (
        f"""{TOKENS} {{ {repeated("a{i} = MatMul({x}, w) o{i} = Tanh(a{i})", 8, "y = MatMul({x}, v)")} }}""",
        {"w": weight(8, 8), "v": weight(8, 5)},
    ),
}


def built(name: str, *, batch: str = "N") -> onnx.ModelProto:
    text, weights = MODELS[name]
    return model(text.replace("[N,", f"[{batch},"), weights)


def settings(protocol: str, **more: Any) -> ScoreConfig:
    told = {"seeds": 2, "batch": 4, "parity": False, "device": "cpu", "threads": 1, **more}
    return ScoreConfig.for_protocol(protocol, **told)


def numbers(report: dict[str, Any]) -> dict[str, Any]:
    same = {k: v for k, v in report.items() if k != "timings_s"}
    return {**same, "settings": {k: v for k, v in report["settings"].items() if k != "recomputed"}}


@pytest.mark.parametrize("batch", ["N", "2"])
@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
@pytest.mark.parametrize("name", MODELS)
def test_the_report_is_the_same_in_every_bit(name: str, protocol: str, batch: str):
    """With two samples built in, calls are in lock step."""
    proto = built(name, batch=batch)
    kept = pipeline.score(proto, settings(protocol)).data
    again = pipeline.score(proto, settings(protocol), recompute=True).data
    assert (kept["settings"]["recomputed"], again["settings"]["recomputed"]) == (False, True)
    assert numbers(again) == numbers(kept)


@pytest.mark.parametrize("name", MODELS)
def test_with_weights_that_are_not_held_either(name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(streamed, "LEAST", 1)
    made = pipeline.score(built(name), settings("architecture"), stream=True).data
    again = pipeline.score(built(name), settings("architecture"), stream=True, recompute=True).data
    assert numbers(again) == numbers(made)


def test_a_run_of_its_own_that_calibrates_is_followed_too(monkeypatch: pytest.MonkeyPatch):
    """Where autograd saved copies of weights, the network is calibrated first and measured then."""
    monkeypatch.setattr(calibration, "_saves_itself", lambda *_: False)
    kept = pipeline.score(built("residual blocks"), settings("architecture")).data
    again = pipeline.score(built("residual blocks"), settings("architecture"), recompute=True).data
    assert numbers(again) == numbers(kept)


def converted(name: str) -> tuple[fx.GraphModule, Tensor, dict[str, int]]:
    """A module, its input, and numbers of segments that end with each block."""
    network = Network.of(load(built(name)), settings("checkpoint"))
    module = convert.convert(network.model, network.layers.slots)
    made = [n for node in module.graph.nodes for n in node.meta.get("onnx_outputs", ())]
    blocks = [n for n in made if n.startswith("o") and n[1:].isdigit()]
    shape = network.single.inputs[0].shape[1:]
    x = torch.randn(4, *shape, generator=torch.Generator().manual_seed(0))
    return module, x, {n: i for i, n in enumerate([*blocks, "y"])}


def gradients(name: str, *, cut: bool) -> dict[str, Tensor]:
    module, x, numbers = converted(name)
    with torch.enable_grad():
        if cut:
            ((y,),) = recomputed.run(module, [x], {}, numbers, AS_IT_IS, Changes())
        else:
            ((y,),) = interpreter.run(module, [x])
    y.square().sum().backward()
    return {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", ["residual blocks", "encoder", "a weight at many places"])
def test_gradients_are_those_of_torch(name: str):
    kept, again = gradients(name, cut=False), gradients(name, cut=True)
    assert again.keys() == kept.keys()
    for parameter, gradient in kept.items():
        assert torch.equal(gradient, again[parameter]), parameter


def test_a_second_run_that_differs_is_no_result():
    """What is saved is told apart by its number: a run that saves something else must not pass."""
    module, x, numbers = converted("a weight at many places")
    with torch.enable_grad():
        ((y,),) = recomputed.run(module, [x], {}, numbers, AS_IT_IS, Changes())
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(AssertionError, match="saves what the first did"):
        y.sum().backward()


def test_values_inside_of_a_segment_are_not_kept_but_in_the_last():
    """Autograd saves what ``tanh`` gives: of a segment, the last alone is there, for the next one."""
    module, x, _ = converted("a weight at many places")
    alive: list[weakref.ref[Any]] = []

    def note(parts: list[Tensor]) -> None:
        alive.extend(weakref.ref(part.untyped_storage()) for part in parts)

    numbers = {f"o{i}": i // 4 for i in range(8)} | {f"a{i}": i // 4 for i in range(8)} | {"y": 1}
    with torch.enable_grad():
        observers = {f"o{i}": note for i in range(8)}
        outputs = recomputed.run(module, [x], observers, numbers, AS_IT_IS, Changes())
    gc.collect()
    kept = [reference() is not None for reference in alive]
    assert outputs
    assert kept == [False, False, False, True, True, True, True, True]


PEAK = """
import json, sys
from pathlib import Path
from intrain_onnx import pipeline
from intrain_onnx.config import ScoreConfig
def resident(row):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(row))
path, most = sys.argv[1], int(sys.argv[2])
told = dict(seeds=1, parity=False, device="cpu", threads=1)
pipeline.score(path, ScoreConfig.for_protocol(batch=2, **told))
Path("/proc/self/clear_refs").write_text("5")
before = resident("VmRSS:")
found = pipeline.score(path, ScoreConfig.for_protocol(batch=32, max_memory=most, **told)).data
print(json.dumps([resident("VmHWM:") - before, found["settings"]["recomputed"], found["score"]["intrain"]]))
"""


@pytest.fixture
def deep(tmp_path: Path) -> Path:
    """40 blocks that keep 2 MiB each of 32 samples."""
    block = "a{i} = Conv<pads = [1, 1, 1, 1]>({x}, w{i}) b{i} = Relu(a{i}) o{i} = Add(b{i}, {x})"
    text = f"(float[N,8,45,45] x) => (float[N,5] y) {{ {repeated(block, 40, POOL)} }}"
    onnx.save(model(text, each(40, w=(8, 8, 3, 3)) | {"v": weight(8, 5)}), tmp_path / "deep.onnx")
    return tmp_path / "deep.onnx"


def measured(path: Path, most: int) -> tuple[int, bool, float]:
    env = {**os.environ, **memory.RETURN_WHAT_IS_FREED}
    done = subprocess.run(
        [sys.executable, "-c", PEAK, path, str(most)], capture_output=True, text=True, check=True, env=env
    )
    found: tuple[int, bool, float] = tuple(json.loads(done.stdout))
    return found


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="reads the peak from Linux")
def test_the_resident_set_stays_below_what_is_given(deep: Path):
    most = 90 * 2**20
    plain, kept, expected = measured(deep, 2**40)
    peak, again, found = measured(deep, most)
    assert (kept, again) == (False, True)
    assert found == expected
    assert peak < most < plain


def typed(path: Path, *more: str) -> Any:
    arguments = ["score", str(path), "-o", str(path.with_suffix(".json")), "--seeds", "1", "--batch", "32"]
    return CliRunner().invoke(cli.main, [*arguments, "--threads", "1", "--no-parity", *more])


def test_a_size_that_is_too_small_is_one_line_with_one_that_is_not(deep: Path):
    found = typed(deep, "--max-memory", "10M")
    assert found.exit_code == 6
    assert "\n" not in found.stderr.strip()
    assert "max_memory is 9.5 MiB" in found.stderr
    options = found.stderr[found.stderr.index("--max-memory") :].split()[:2]
    fits = typed(deep, options[0], options[1].rstrip("."))
    assert fits.exit_code == 0, fits.output
    assert json.loads(deep.with_suffix(".json").read_text())["settings"]["recomputed"]
    assert "activations recomputed" in fits.output


@pytest.mark.parametrize("size", ["0", "-1", "4Q", "", "nan"])
def test_what_is_no_size_is_wrong_usage(deep: Path, size: str):
    found = typed(deep, "--max-memory", size)
    assert found.exit_code == 2
    assert "4G or 4Gi" in found.stderr
