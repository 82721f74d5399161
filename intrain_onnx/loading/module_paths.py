"""Where the framework has a layer: its module's path, from the names that exporters keep.

PyTorch's parameters are ``blocks.0.conv1.weight``, TensorFlow's variables
``net/conv2d_1/convolution/ReadVariableOp``, Paddle's ``conv2d_0.w_0``, MXNet's ``stage1_conv0_weight``.
Where an optimiser made the weight, and named it ``onnx::Conv_89`` or ``const_fold_opt__192``, the node
tells: by the scopes that PyTorch's dynamo exporter records, or by a name that is a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import takewhile
from typing import Final

_SCOPES: Final = "pkg.torch.onnx.name_scopes"
_LONGEST: Final = 512
"""Characters of a name that are looked at: names come from untrusted files."""

# What TensorFlow adds behind a layer's path: the operators that read its variable and multiply by it, and the
# names of variables.
_READ = ("ReadVariableOp", "Cast", "read", "Identity", "Const", "merged_input")
_VARIABLES = ("weights", "kernel", "embeddings", "depthwise_kernel", "pointwise_kernel")
_CONVOLUTIONS = ("convolution", "depthwise", "Conv1D", "Conv2D", "Conv3D")
_PRODUCTS = (
    "DepthwiseConv2dNative",
    "Conv2DBackpropInput",
    "MatMul",
    "BatchMatMul",
    "BatchMatMulV2",
    "Tensordot",
)
_LOOKUPS = ("einsum", "Einsum", "GatherV2", "ResourceGather", "Gather", "embedding_lookup")
_VIEWS = ("BiasAdd", "Reshape", "Transpose", "transpose", "ExpandDims", "Squeeze")
_TENSORFLOW: Final = frozenset((*_READ, *_VARIABLES, *_CONVOLUTIONS, *_PRODUCTS, *_LOOKUPS, *_VIEWS))
_CALLS: Final = frozenset({"StatefulPartitionedCall", "PartitionedCall"})
_NUMBERED: Final = re.compile(r"_+\d+$")
_PARAMETER: Final = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*\.[A-Za-z_]\w*")
PART: Final = re.compile(r"\.part\d+$")
"""What the name of a node ends in that is one of those that a fused layer was split into."""

_QUOTED: Final = re.compile(r"'([^']*)'")
_MXNET: Final = re.compile(r"([A-Za-z]\w*[A-Za-z0-9])_weight")


def module_path(initializers: Sequence[str], node: str, metadata: Mapping[str, str]) -> str | None:
    """Path of a layer's module in its framework's spelling; None where no name tells it.

    Args:
        initializers: names of the file's initializers that its weights are made from.
        node: name of its node.
        metadata: of the node.
    """
    told = [path for name in initializers if (path := _of_weight(name[:_LONGEST]))]
    found = _common(told) if told else None
    found = found or _of_scopes(metadata.get(_SCOPES, "")) or _of_node(node[:_LONGEST])
    part = PART.search(node)
    return f"{found}{part[0]}" if found and part else found


def with_module(message: str, node: str, module: str | None) -> str:
    """A message about a layer that names its module, where the name of its node does not."""
    return message if module is None or module in node else f"{message} (module {module})"


def nested(path: str) -> tuple[str, ...]:
    """The modules on the way to a layer, itself last.

    >>> nested("blocks.0.conv1"), nested("mobile_1/conv2d_1")
    (('blocks', '0', 'conv1'), ('mobile_1', 'conv2d_1'))
    """
    return tuple(path.split("/" if "/" in path else "."))


def _of_weight(name: str) -> str | None:
    if "::" in name:  # TorchScript's own numbers
        return None
    if "/" in name:
        return _of_tensorflow(name) if not name.startswith("/") else None
    if _PARAMETER.fullmatch(name):
        return name.rpartition(".")[0]
    mxnet = _MXNET.fullmatch(name)
    return mxnet[1] if mxnet else None


def _of_node(name: str) -> str | None:
    if name.startswith("/"):
        return _of_torchscript(name)
    return _of_tensorflow(name) if "/" in name else None


def _of_tensorflow(name: str) -> str | None:
    """``net/conv2d_1/convolution/ReadVariableOp:0`` is of ``net/conv2d_1``."""
    parts = [part for part in name.partition(":")[0].split("/") if _bare(part) not in _CALLS]
    while parts and _bare(parts[-1]) in _TENSORFLOW:
        parts.pop()
    return "/".join(parts) or None


def _bare(part: str) -> str:
    """A name without the number that makes it unique; ``Conv2D`` and ``Conv2D_1`` are one operator."""
    return part if part in _TENSORFLOW else _NUMBERED.sub("", part)


def _of_torchscript(name: str) -> str | None:
    """``/blocks/blocks.1/conv1/Conv`` is of ``blocks.1.conv1``: a container's children repeat its name."""
    path: list[str] = []
    for part in name.split("/")[1:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path.pop()
        path.append(part)
    return ".".join(path) or None


def _of_scopes(text: str) -> str | None:
    """``['', 'layers.0', 'layers.0.attn', 'linear']`` is of ``layers.0.attn``: the last is the operator."""
    scopes = _QUOTED.findall(text[: 8 * _LONGEST])
    return (scopes[-2] if len(scopes) > 1 else "") or None


def _common(paths: Iterable[str]) -> str | None:
    """The innermost module that holds all: of one weight, or of the three that one product joins."""
    distinct = list(dict.fromkeys(paths))
    if len(distinct) == 1:
        return distinct[0]
    shared = [p[0] for p in takewhile(lambda p: len(set(p)) == 1, zip(*map(nested, distinct), strict=False))]
    return ("/" if "/" in distinct[0] else ".").join(shared) or None
