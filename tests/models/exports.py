"""The networks of nets.py by both of PyTorch's exporters at several opsets, and in half precision.

``tests/fixtures/make.py`` makes the files that are committed.
"""

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
if str(HERE.parent) not in sys.path:
    sys.path.insert(0, str(HERE.parent))

import fixtures  # noqa: E402

from models.fetch import MissingModel  # noqa: E402

CONVERTER = ROOT / "converters" / "from_pytorch.py"
IMAGE = ("--input", "image=1x3x32x32")
CACHE = tuple(
    word
    for name in ("k1", "v1", "k2", "v2")
    for word in ("--input", f"{name}=1x4x5x16", "--output-name", f"{name}_out")
)
NETWORKS: dict[str, tuple[str, ...]] = {
    "ResNet": (*IMAGE, "--warm-up", "2"),
    "mobilenet_v3": (*IMAGE, "--warm-up", "2"),
    "vit": IMAGE,
    "swin": IMAGE,
    "UNet": (*IMAGE, "--warm-up", "2"),
    "Tagger": ("--input", "ids=1x12:300"),
    "Gpt": ("--input", "ids=1x6:200", "--output-name", "logits", *CACHE),
}
OPSETS = {"torchscript": (11, 17, 20), "dynamo": (18, 20, 23, 25)}
"""TorchScript stops at 20. The dynamo exporter writes 18 to 23 by itself and is converted to 25."""

REFUSED: dict[tuple[str, str, int], str] = {
    (
        "vit",
        "torchscript",
        11,
    ): "Exporting the operator 'aten::unflatten' to ONNX opset version 11 is not supported",
    (
        "*",
        "dynamo",
        11,
    ): "requested opset_version 11 is a lower version than we have implementations for: writes 18",
    (
        "*",
        "dynamo",
        17,
    ): "requested opset_version 17 is a lower version than we have implementations for: writes 18",
    ("vit", "dynamo", 26): "No Adapter From Version $19 for Gelu; writes a file that onnx's checker refuses",
    ("swin", "dynamo", 26): "No Adapter From Version $19 for Gelu; writes a file that onnx's checker refuses",
}
"""Cells that an exporter refuses, with its message."""

HALVES = {"ResNet": ("dynamo", 23), "Gpt": ("torchscript", 17)}
"""Networks that are converted to half precision, from the file of that exporter and opset."""


@dataclass(frozen=True)
class Cell:
    """One file: a network by an exporter at an opset, in an element type."""

    network: str
    exporter: str
    opset: int
    dtype: str = "float32"

    @property
    def name(self) -> str:
        """Name of the cell."""
        suffix = f"-{self.dtype}" if self.is_half else ""
        return f"{self.network}-{self.exporter}-{self.opset}{suffix}"

    @property
    def is_half(self) -> bool:
        """Whether it was converted to half precision."""
        return self.dtype != "float32"

    def arguments(self) -> list[str]:
        """Return the command line of the converter, without ``--output``."""
        factory = ("--factory", f"tests/models/nets.py:{self.network}", "--seed", "0")
        options = ("--exporter", self.exporter, "--opset", str(self.opset))
        return [*factory, *options, *NETWORKS[self.network]]


CELLS = {
    cell.name: cell
    for cell in [
        *(Cell(n, e, o) for n in NETWORKS for e, opsets in OPSETS.items() for o in opsets),
        *(Cell(n, e, o, d) for n, (e, o) in HALVES.items() for d in ("float16", "bfloat16")),
    ]
    if (cell.network, cell.exporter, cell.opset) not in REFUSED
}


def path(name: str) -> Path:
    """Return the file of a cell."""
    return fixtures.path(f"export-{name}")


def converter() -> ModuleType:
    """Load converters/from_pytorch.py: one process writes many files."""
    if "from_pytorch" not in sys.modules:
        spec = importlib.util.spec_from_file_location("from_pytorch", CONVERTER)
        assert spec is not None
        assert spec.loader is not None
        sys.modules["from_pytorch"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules["from_pytorch"])
    return sys.modules["from_pytorch"]


def write(name: str, folder: Path) -> str:
    """Make the file of a cell, in half precision from the file of its base there; return a line about it.

    Raises:
        MissingModel: the exporter failed, or wrote another opset.
    """
    cell, file = CELLS[name], folder / f"export-{name}.onnx"
    if cell.is_half:
        base = Cell(cell.network, cell.exporter, cell.opset).name
        write_half(folder / f"export-{base}.onnx", file, cell.dtype)
        return f"{cell.dtype} of {base}"
    module = converter()
    try:
        line = str(module.convert(module.parse_arguments([*cell.arguments(), "--output", str(file)])))
    except (SystemExit, Exception) as error:
        lines = [text for text in str(error).splitlines() if text.strip()]
        raise MissingModel(f"{name}: {type(error).__name__}: {' '.join(lines[:2])[:300]}") from error
    if f"opset {cell.opset}," not in line:
        raise MissingModel(f"{name}: the exporter wrote another opset: {line.partition(': ')[2][:120]}")
    return line.partition(": ")[2]


def write_half(source: Path, destination: Path, dtype: str) -> None:
    """Convert every float32 weight, constant, input and output, and casts to float32, to a narrower type."""
    import ml_dtypes
    import numpy as np
    import onnx_ir as ir

    wanted = ir.DataType.FLOAT16 if dtype == "float16" else ir.DataType.BFLOAT16
    narrow = np.dtype(np.float16 if dtype == "float16" else ml_dtypes.bfloat16)
    model = ir.load(source)

    def convert(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        return ir.Tensor(tensor.numpy().astype(narrow), dtype=wanted, name=tensor.name)

    for value in model.graph.initializers.values():
        if value.const_value is not None and value.const_value.dtype == ir.DataType.FLOAT:
            value.const_value = convert(value.const_value)
            value.dtype = wanted
    for node in model.graph.all_nodes():
        for attribute in list(node.attributes.values()):
            if attribute.type == ir.AttributeType.TENSOR and attribute.value.dtype == ir.DataType.FLOAT:
                node.attributes[attribute.name] = ir.AttrTensor(attribute.name, convert(attribute.value))
            elif node.op_type == "Cast" and attribute.name == "to" and attribute.value == ir.DataType.FLOAT:
                node.attributes["to"] = ir.AttrInt64("to", int(wanted))
    for value in (*model.graph.inputs, *(v for node in model.graph for v in node.outputs)):
        if value.dtype == ir.DataType.FLOAT:
            value.dtype = wanted
    ir.save(model, destination)
