"""A layer's module, against the framework's own list of modules."""

from __future__ import annotations

import io
import re
import warnings

import fixtures
import onnx
import pytest
import torch
from builders import model, weight
from torch import nn

import intrain_onnx
from intrain_onnx.loading.module_paths import module_path, nested


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.branch = nn.Sequential(
            nn.Conv2d(width, width, 1), nn.ReLU(), nn.ConvTranspose2d(width, width, 1)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.branch(self.bn1(self.conv1(x))) + x)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3)
        self.stages = nn.ModuleList([nn.Sequential(Block(8)), Block(8)])
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.memory = nn.GRU(8, 8, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.Linear_0 = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stages[1](self.stages[0](self.stem(x)))
        x = x.flatten(2).transpose(1, 2)
        x = self.attention(x, x, x, need_weights=False)[0]
        return self.Linear_0(self.norm(self.memory(x)[0]).mean(1))


def exported(dynamo: bool) -> onnx.ModelProto:
    torch.manual_seed(0)
    net, image = Net().eval(), torch.zeros(2, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if dynamo:
            return torch.onnx.export(net, (image,), dynamo=True, opset_version=20, verbose=False).model_proto
        stream = io.BytesIO()
        torch.onnx.export(net, (image,), stream, dynamo=False, opset_version=17)
    return onnx.load_model_from_string(stream.getvalue())


@pytest.mark.parametrize("dynamo", [True, False])
def test_every_layer_of_an_export_is_in_the_module_that_pytorch_names(dynamo: bool):
    net = Net()
    owners = {name for name, module in net.named_modules() if list(module.parameters(recurse=False))}
    found = [layer["module"] for layer in intrain_onnx.inspect(exported(dynamo)).data["layers"]]
    assert None not in found
    assert set(found) == {name for name in owners if "norm" not in name and ".bn" not in name}


@pytest.mark.parametrize("name", [n for n in fixtures.names() if re.match(r"export-[^-]+-dynamo-\d+$", n)])
def test_exporters_agree_on_the_modules_of_one_network(name: str):
    """TorchScript tells them by the names of nodes, dynamo by the scopes, and either by those of weights."""
    twin = f"export-{name.split('-')[1]}-torchscript-17"
    here, there = (
        {x["module"] for x in intrain_onnx.inspect(fixtures.path(n)).data["layers"]} - {None}
        for n in (name, twin)
    )
    assert len(here) > 2
    assert here <= there or there <= here  # a product outside of any module has a path in one of them alone


@pytest.mark.parametrize(
    ("initializers", "node", "path"),
    [
        (["mobile_1/conv2d_9_1/convolution/merged_input:0"], "Conv__169", "mobile_1/conv2d_9_1"),
        (["mlp_1/dense_1_2/Cast/ReadVariableOp:0"], "x", "mlp_1/dense_1_2"),
        (
            ["StatefulPartitionedCall/StatefulPartitionedCall/vit_1/dense_14_1/Tensordot/ReadVariableOp:0"],
            "x",
            "vit_1/dense_14_1",
        ),
        (["MobilenetV2/Conv_1/weights/read:0"], "x", "MobilenetV2/Conv_1"),
        (["const_fold_opt__192"], "mobile_1/depthwise_conv2d_1/depthwise", "mobile_1/depthwise_conv2d_1"),
        (["conv2d_0.w_0"], "Conv.0", "conv2d_0"),
        (["resnetv15_stage1_conv0_weight"], "resnetv15_stage1_conv0_fwd", "resnetv15_stage1_conv0"),
        (["onnx::Conv_89"], "/stem/stem.0/Conv", "stem.0"),
        (["onnx::MatMul_3"], "/MatMul", None),
        (["kernel_oih_0"], "node_Conv_1", None),
        (["coefficient1"], "MatMul1", None),
        (["conv1.weight_quantized", "conv1.weight_scale", "conv1.weight_zero_point"], "x", "conv1"),
        (["layers.0.q.weight", "layers.0.k.weight", "layers.0.v.weight"], "x", "layers.0"),
        (["a.q.weight", "b.k.weight"], "/net/Gemm", "net"),
        (["input.12"], "", None),
        (["layers.0.qkv.weight"], "node_MatMul.part2", "layers.0.qkv.part2"),
        ([], "", None),
    ],
)
def test_names_of_exporters(initializers: list[str], node: str, path: str | None):
    assert module_path(initializers, node, {}) == path


@pytest.mark.parametrize(
    "scopes",
    ["", "[", "['']", "[1, 2]", "['" * 10_000, "[" * 100_000, "['a', \"b\\", "['', '\\", "__import__('os')"],
)
def test_scopes_that_no_exporter_wrote_tell_nothing_or_a_text(scopes: str):
    found = module_path(["val_4"], "node_1", {"pkg.torch.onnx.name_scopes": scopes})
    assert found is None or len(found) < 5_000


def test_a_module_is_nested_by_the_separator_of_its_framework():
    assert nested("blocks.0.conv1") == ("blocks", "0", "conv1")
    assert nested("net_1/block.a/conv") == ("net_1", "block.a", "conv")


def test_a_name_of_any_length_ends():
    made = model("(float[N,4] x) => (float[N,4] y) { y = MatMul(x, w) }", {"w": weight(4, 4)})
    long = "a." * 4_000 + "weight"
    made.graph.node[0].input[1] = made.graph.initializer[0].name = long
    (layer,) = intrain_onnx.inspect(made).data["layers"]
    assert layer["module"] is None or len(layer["module"]) <= 512
