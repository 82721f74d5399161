"""Every layer's participation ratio and every tensor's health against an independent float64 computation.

The networks of four samples are written out below by hand, in float64 and with torch's own functions: nothing
of the converter, of its operators or of the statistics is used. Weights come from the file, or, where the
protocol draws them anew, from the module that the pipeline calibrated; inputs and labels are the pipeline's
own. onnxruntime, with all intermediate values exposed, is a second source of the activations.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import run_onnxruntime
from onnx import numpy_helper
from torch import Tensor
from torch.nn import functional

from intrain_onnx import pipeline
from intrain_onnx.config import ScoreConfig
from intrain_onnx.measure.initialise import parameters
from intrain_onnx.measure.probe import probe
from intrain_onnx.measure.trace import Trace
from intrain_onnx.runtime.interpreter import run

SAMPLES = Path(__file__).parents[2] / "samples"


@dataclass
class Network:
    """Weights by ONNX name, and the activation that each layer's weight gives: ONNX value name and rows.

    An input of a ReLU that lies within float32 round-off of its kink may fall on its other side in float32;
    its gradient is then another one. ``sides`` holds the ReLUs' outputs in float32, to take the same side.
    """

    weights: Mapping[str, Tensor]
    sides: Mapping[str, Tensor] | None = None
    seen: dict[str, tuple[str, Tensor]] = field(default_factory=dict)
    crossed: list[float] = field(default_factory=list)

    def relu(self, x: Tensor, output: str, top: float = np.inf) -> Tensor:
        """Clamp to [0, top] on the sides of the kinks that ``sides`` took; note how far x is if not."""
        if self.sides is None:
            return functional.hardtanh(x, 0.0, top)
        taken = self.sides[output]
        open_, full = taken > 0, taken >= top
        self.crossed += x[open_ != (x > 0)].tolist() + (x - top)[full != (x >= top)].tolist()
        return torch.where(full, torch.full_like(x, top), x * open_)

    def bias(self, output: str, name: str | None) -> Tensor | None:
        """A layer's bias: the one that calibration gave it, or else the file's."""
        own = self.weights.get(f"{output}.bias")
        return own if own is not None else None if name is None else self.weights[name]

    def see(self, weight: str, output: str, rows: Tensor) -> None:
        self.seen[weight] = (output, rows.detach())

    def conv(
        self, x: Tensor, weight: str, bias: str | None, output: str, stride: int = 1, pad: int | str = 0
    ) -> Tensor:
        """``pad`` may be "end": one row and column after the image, as TensorFlow has it at stride 2."""
        w = self.weights[weight]
        if pad == "end":
            x, pad = functional.pad(x, (0, 1, 0, 1)), 0
        groups = x.shape[1] // w.shape[1]
        y = functional.conv2d(x, w, self.bias(output, bias), stride, int(pad), 1, groups)
        self.see(weight, output, y.movedim(1, -1).flatten(0, -2))
        return y

    def linear(
        self,
        x: Tensor,
        weight: str,
        bias: str | None,
        output: str,
        *,
        transposed: bool = False,
        product: str = "",
    ) -> Tensor:
        """``transposed``: (out, in) in the file; ``product``: name of the value that MatMul itself makes."""
        w = self.weights[weight]
        y = x @ (w.T if transposed else w)
        b = self.bias(product or output, bias)
        y = y if b is None else y + b
        self.see(weight, output, y.flatten(0, -2))
        return y


def resnet(net: Network, image: Tensor) -> Tensor:
    def conv(x: Tensor, number: int, path: str, stride: int = 1, pad: int = 1) -> Tensor:
        names = f"onnx::Conv_{number}", f"onnx::Conv_{number + 1}"
        return net.conv(x, *names, f"/{path}/Conv_output_0", stride, pad)

    x = net.relu(conv(image, 89, "stem/stem.0"), "/stem/stem.2/Relu_output_0")
    for block, first, stride in ((0, 92, 1), (1, 98, 2), (2, 107, 2)):
        path = f"blocks/blocks.{block}"
        y = net.relu(conv(x, first, f"{path}/conv1", stride), f"/{path}/Relu_output_0")
        y = conv(y, first + 3, f"{path}/conv2")
        shortcut = conv(x, first + 6, f"{path}/shortcut/shortcut.0", 2, 0) if stride == 2 else x
        x = net.relu(y + shortcut, f"/{path}/Relu_1_output_0")
    return net.linear(x.mean((2, 3)), "head.weight", "head.bias", "logits", transposed=True)


def mobile(net: Network, image: Tensor) -> Tensor:
    name = "mobile_1"

    def depthwise(x: Tensor, constants: tuple[int, int], path: str, norm: int, stride: int) -> Tensor:
        output = f"{name}/{path}/depthwise:0"
        pad = "end" if stride == 2 else 1
        x = net.conv(x, f"const_fold_opt__{constants[0]}", None, output, stride, pad)
        scale = net.weights.get(f"{name}/batch_normalization_{norm}_1/batchnorm/mul:0")
        if scale is not None:  # `architecture` takes a BatchNorm that was written out into the layer
            x = x * scale + net.weights[f"const_fold_opt__{constants[1]}"]
        return relu6(x)

    clips = iter(["1", "1_2", "2_1", "3_1", "4_1", "5_1", "6_1", "7_1", "8_1", "9_1", "10_1"])

    def relu6(x: Tensor) -> Tensor:
        return net.relu(x, f"{name}/re_lu_{next(clips)}/Relu6:0", 6.0)

    def folded(x: Tensor, conv2d: str, norm: str, output: int, **more: Any) -> Tensor:
        weight = f"{name}/{conv2d}/convolution/merged_input:0"
        return net.conv(
            x, weight, f"{name}/batch_normalization_{norm}/batchnorm/sub:0", f"Conv__{output}:0", **more
        )

    x = relu6(folded(image.permute(0, 3, 1, 2), "conv2d_1", "1", 107, stride=2, pad="end"))
    y = relu6(folded(x, "conv2d_1_2", "1_2", 113))
    y = depthwise(y, (192, 203), "depthwise_conv2d_1", 2, 1)
    x = x + folded(y, "conv2d_2_1", "3_1", 123)
    y = relu6(folded(x, "conv2d_3_1", "4_1", 125))
    y = depthwise(y, (199, 196), "depthwise_conv2d_1_2", 5, 2)
    x = folded(y, "conv2d_4_1", "6_1", 135)
    y = relu6(folded(x, "conv2d_5_1", "7_1", 141))
    y = depthwise(y, (201, 202), "depthwise_conv2d_2_1", 8, 1)
    x = x + folded(y, "conv2d_6_1", "9_1", 151)
    y = relu6(folded(x, "conv2d_7_1", "10_1", 153))
    y = depthwise(y, (191, 200), "depthwise_conv2d_3_1", 11, 2)
    x = folded(y, "conv2d_8_1", "12_1", 163)
    y = relu6(folded(x, "conv2d_9_1", "13_1", 169))
    y = depthwise(y, (193, 198), "depthwise_conv2d_4_1", 14, 1)
    x = x + folded(y, "conv2d_10_1", "15_1", 179)
    classes = f"{name}/classes_1"
    return net.linear(x.mean((2, 3)), f"{classes}/Cast/ReadVariableOp:0", None, f"{classes}/MatMul:0")


def mixer(net: Network, image: Tensor) -> Tensor:
    def norm(x: Tensor, number: int) -> Tensor:
        scale, bias = net.weights[f"const_{number}"], net.weights[f"const_{number + 1}"]
        return functional.layer_norm(x, (48,), scale, bias, 1e-6)

    def dense(x: Tensor, number: int, index: int) -> Tensor:
        return net.linear(x, f"const_{number}", f"const_{number + 1}", f"gemm_output_{index}")

    def gelu(x: Tensor) -> Tensor:
        return functional.gelu(x, approximate="tanh")

    x = net.conv(image.permute(0, 3, 1, 2), "kernel_oih_0", "const_1", "Conv_0", 4)
    x = x.flatten(2).mT
    for first, index in ((2, 0), (14, 4)):
        y = norm(x, first).mT
        x = x + dense(gelu(dense(y, first + 2, index)), first + 4, index + 1).mT
        y = norm(x, first + 6)
        x = x + dense(gelu(dense(y, first + 8, index + 2)), first + 10, index + 3)
    x = norm(x, 26).mean(1)
    return net.linear(x, "const_28", "const_29", "logits")


def encoder(net: Network, ids: Tensor) -> Tensor:
    """Equal initial weights were merged: all norms share one scale and one bias, as the file has it."""
    w = net.weights

    def norm(x: Tensor) -> Tensor:
        return functional.layer_norm(
            x, (64,), w["layers.0.norm1.weight"], w["layers.0.norm1.bias"], 9.999999747378752e-06
        )

    def split(x: Tensor) -> Tensor:
        n, t, _ = x.shape
        return x.reshape(n, t, 4, 16).transpose(1, 2)

    x = w["tokens.weight"][ids]
    net.see("tokens.weight", "embedding", x.flatten(0, 1))
    x = x + w["positions"]
    names = {0: (4, 5, 91, 92, 93, 94), 1: (97, 98, 177, 178, 179, 180)}
    for layer, (qkv, qkv_product, up, up_product, down, down_product) in names.items():
        path = f"layers.{layer}"

        def dense(x: Tensor, weight: int, bias: str, index: int, product: int, layer: int = layer) -> Tensor:
            output = f"linear_{4 * layer + index}".removesuffix("_0")
            return net.linear(x, f"val_{weight}", bias, output, product=f"val_{product}")

        def parts(x: Tensor, qkv: int = qkv, product: int = qkv_product, layer: int = layer) -> list[Tensor]:
            """Query, key and value: one layer in the file, three where its weights are drawn anew."""
            if f"val_{qkv}" in w:
                return list(dense(x, qkv, "layers.0.self_attn.in_proj_bias", 0, product).chunk(3, -1))
            names = [f"linear_{4 * layer}".removesuffix("_0") + f".part{i}" for i in range(3)]
            return [net.linear(x, f"{n}.weight", None, f"{n}.biased", product=n) for n in names]

        # Time comes first from here to the split, as in torch's attention.
        q, k, v = (split(part.transpose(0, 1)) for part in parts(norm(x).transpose(0, 1)))
        y = ((q @ k.mT / 4.0).softmax(-1) @ v).transpose(1, 2).flatten(2)
        output = f"linear_{4 * layer + 1}"
        y = net.linear(y.transpose(0, 1), f"{path}.self_attn.out_proj.weight", None, output, transposed=True)
        x = x + y.transpose(0, 1)
        y = functional.gelu(dense(norm(x), up, f"{path}.linear1.bias", 2, up_product))
        x = x + dense(y, down, f"{path}.linear2.bias", 3, down_product)
    return net.linear(norm(x).mean(1), "head.weight", "head.bias", "logits", transposed=True)


NETWORKS: dict[str, Callable[[Network, Tensor], Tensor]] = {
    "pytorch_resnet_torchscript": resnet,
    "keras_mobile": mobile,
    "jax_mixer": mixer,
    "pytorch_encoder_dynamo": encoder,
}
CASES = [(name, protocol) for protocol in ("checkpoint", "architecture") for name in NETWORKS]
RELUS = ("Relu", "Clip")


def naive_ratio(rows: np.ndarray) -> float:
    """From the eigenvalues of the covariance."""
    values = np.linalg.eigvalsh(np.cov(rows.astype(np.float64), rowvar=False))
    return float(values.sum() ** 2 / (values**2).sum())


def health(gradient: Tensor | None) -> float:
    assert gradient is not None
    g = gradient.numpy()
    return float(g.std() / np.abs(g).max())


def copied(generator: torch.Generator) -> torch.Generator:
    return torch.Generator().set_state(generator.get_state())


@dataclass
class Case:
    """One scored sample: the report, what the pipeline probed, and what float64 makes of it.

    ``truth`` is the network as it is; ``same_side`` has ReLUs on the side of their kinks that float32 took.
    """

    report: dict[str, Any]
    proto: onnx.ModelProto
    protocol: str
    arguments: tuple[Any, ...]
    labels: torch.Generator
    truth: Network
    same_side: Network

    def layers(self) -> Iterator[tuple[dict[str, Any], str, np.ndarray]]:
        """Each layer of the report, its ONNX value and its float64 activations."""
        for row in self.report["layers"]:
            output, rows = self.same_side.seen[row["weights"][0]]
            yield row, output, rows.numpy()

    def true_zeros(self) -> set[str]:
        """Parameters whose exact gradient is zero, so that all that float64 has is round-off."""
        largest = {
            n: 0.0 if w.grad is None else w.grad.abs().max().item() for n, w in self.truth.weights.items()
        }
        return {n for n, g in largest.items() if g < 1e-12 * max(largest.values())}


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    name, protocol = request.param
    path = SAMPLES / f"{name}.onnx"
    proto = onnx.load(path)
    caught: list[tuple[tuple[Any, ...], torch.Generator]] = []
    targets: list[Tensor] = []

    measure = "calibrate_and_probe" if protocol == "architecture" else "probe"
    original, cross_entropy = getattr(pipeline, measure), functional.cross_entropy

    def spy(*arguments: Any, **options: Any) -> Trace:
        caught.append((arguments, copied(arguments[2])))
        return original(*arguments, **options)

    def watched(logits: Tensor, labels: Tensor) -> Tensor:
        targets.append(labels)
        return cross_entropy(logits, labels)

    config = ScoreConfig.for_protocol(protocol, seeds=1, threads=1, device="cpu", parity=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, measure, spy)
        patch.setattr(functional, "cross_entropy", watched)
        report = pipeline.score(path, config)
    (arguments, labels) = caught[0]
    runnable, (fed,), *_ = arguments
    module = runnable.module
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    weights: dict[str, Tensor] = dict(parameters(module))
    if protocol == "checkpoint":
        weights = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in proto.graph.initializer}
    sides: dict[str, Tensor] = {}
    relus = [n.output[0] for n in proto.graph.node if n.op_type in RELUS]
    with torch.no_grad():
        run(module, [fed], {output: partial(_keep, sides, output) for output in relus})
    networks = []
    for taken in (None, sides):
        wide = {k: v.detach().double().requires_grad_() for k, v in weights.items() if v.is_floating_point()}
        networks.append(net := Network(wide, taken))
        logits = NETWORKS[name](net, fed.double() if fed.is_floating_point() else fed)
        cross_entropy(logits, targets[0]).backward()
    yield Case(dict(report.data), proto, protocol, arguments, labels, *networks)
    torch.set_num_threads(threads)


def _keep(sides: dict[str, Tensor], output: str, parts: list[Tensor]) -> None:
    sides[output] = parts[0]


def test_every_layer_is_measured_and_has_the_ratio_of_float64(case: Case) -> None:
    assert {row["weights"][0] for row in case.report["layers"]} == set(case.truth.seen)
    for row, _, rows in case.layers():
        assert (row["rows"], row["channels"]) == rows.shape
        assert row["status"] == "measured"
        assert row["participation_ratio"] == pytest.approx(naive_ratio(rows), rel=1e-5), row["name"]


def test_every_parameter_has_the_health_of_float64(case: Case) -> None:
    rows = {row["name"]: row for row in case.report["parameters"]}
    zeros = case.true_zeros() & set(rows)
    assert {name for name, row in rows.items() if row["status"] == "round_off"} == zeros
    for name in set(rows) - zeros:
        gradient = case.same_side.weights[name].grad
        assert rows[name]["status"] == "measured"
        assert rows[name]["health"] == pytest.approx(health(gradient), rel=1e-5), name
        assert gradient is not None
        assert rows[name]["grad_max_abs"] == pytest.approx(gradient.abs().max().item(), rel=1e-5), name


def test_float32_takes_the_other_side_of_a_kink_only_within_round_off(case: Case) -> None:
    """A handful of some 500,000 inputs of ReLUs, and those hardly off the kink.

    One is enough to move the health of a tensor by up to 1e-2: scores vary between machines.
    """
    assert len(case.same_side.crossed) <= 5
    assert all(abs(x) < 1e-5 for x in case.same_side.crossed)


def test_the_sums_are_those_of_float64(case: Case) -> None:
    weights = {row["weights"][0] for row in case.report["layers"]}
    gamma = sum(np.log(naive_ratio(rows)) for _, _, rows in case.layers())
    o = sum(health(case.same_side.weights[name].grad) for name in weights)
    score = case.report["score"]
    assert (score["layers"], score["parameter_tensors"]) == (len(weights), len(weights))
    assert score["geometric_capacity"] == pytest.approx(gamma, rel=1e-5)
    assert score["optimization_resilience"] == pytest.approx(o, rel=1e-5)
    assert score["intrain"] == pytest.approx(gamma * (1 + o) / np.log(len(weights) + 1), rel=1e-5)


def test_in_float64_the_probe_agrees_to_many_more_digits(case: Case) -> None:
    """So what the report lacks is float32's round-off, and nothing else."""
    runnable, fed, *_ = case.arguments
    module = runnable.module
    inputs = [x.double() if x.is_floating_point() else x for x in fed]
    module.double()
    try:
        found = probe(runnable, inputs, copied(case.labels))
    finally:
        module.float()
    for row in case.report["layers"]:
        participation = found.layers[row["name"]].participation
        assert participation is not None
        expected = naive_ratio(case.truth.seen[row["weights"][0]][1].numpy())
        assert participation.ratio == pytest.approx(expected, rel=1e-11), row["name"]
    for name in set(found.gradients) - case.true_zeros():
        statistics = found.gradients[name]
        expected = health(case.truth.weights[name].grad)
        assert statistics.std / statistics.max_abs == pytest.approx(expected, rel=1e-11), name


def test_calibrated_layers_have_zero_mean_and_unit_variance(case: Case) -> None:
    if case.protocol != "architecture":
        pytest.skip("checkpoint keeps the weights of the file")
    kinds = {row["name"]: row["kind"] for row in case.report["layers"]}
    left_alone = case.arguments[0].as_drawn
    for row, _, rows in case.layers():
        if kinds[row["name"]] in ("convolution", "linear") and row["name"] not in left_alone:
            assert np.abs(rows.mean(0)).max() < 1e-5, row["name"]
            assert np.abs(rows.std(0) - 1).max() < 1e-5, row["name"]


def test_onnxruntime_has_the_same_activations(case: Case) -> None:
    """A second source, so that the networks above are the file's."""
    if case.protocol != "checkpoint":
        pytest.skip("the weights are not the file's")
    (feed,) = case.proto.graph.input
    image = case.arguments[1][0].numpy()
    layers = list(case.layers())
    found = run_onnxruntime(case.proto, {feed.name: image}, [output for _, output, _ in layers])
    for (row, output, rows), array in zip(layers, found, strict=True):
        wide = np.moveaxis(array, 1, -1) if row["op"] == "Conv" else array
        wide = wide.reshape(rows.shape)
        assert np.abs(wide - rows).max() < 1e-5 * np.abs(rows).max(), output
        assert row["participation_ratio"] == pytest.approx(naive_ratio(wide), rel=1e-5), row["name"]
