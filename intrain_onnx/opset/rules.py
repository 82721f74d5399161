"""What the text of ONNX's specification asks of attributes and ranks, and no schema says: as data.

`violated` checks a node against it. A rule is here if a pass, a handler or onnxruntime relies on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class Body:
    """A subgraph: how many inputs and outputs it has."""

    inputs: int
    outputs: int


NO_TENSOR = -1
"""In the place of an element type: a sequence, an optional or another value that is no tensor."""


class Known(NamedTuple):
    """What a file says of a value: its element type, 0 if unknown, and its sizes, None for unknown ones.

    ``shape`` is None if not even the rank is known. ``constant``: its data is in the file.
    """

    element: int
    shape: Sequence[int | None] | None
    constant: bool = False


class Given(NamedTuple):
    """A node as the rules see it.

    Attributes:
        domain: "" for ONNX's own.
        op_type: the operator.
        version: the since-version of its schema.
        kinds: types of its attributes, by name.
        attributes: their values; a `Body` for a graph, a `Known` for a tensor. One that refers to a parameter
            of a function has none.
        present: of each input, whether it is there.
        inputs: what is known of each; None where nothing is.
        made: of each output, whether it has a name.
    """

    domain: str
    op_type: str
    version: int
    kinds: Mapping[str, ir.AttributeType]
    attributes: Mapping[str, Any]
    present: Sequence[bool]
    inputs: Sequence[Known | None]
    made: Sequence[bool]

    @property
    def outputs(self) -> int:
        """How many outputs it has."""
        return len(self.made)

    def rank(self, index: int, *, constant: bool = False) -> int | None:
        """Number of axes of an input, if it is known; of constants only, if asked so."""
        known = self.inputs[index] if index < len(self.inputs) else None
        if known is None or known.shape is None or (constant and not known.constant):
            return None
        return len(known.shape)


Rule = Callable[[Given], str | None]
"""What of a node breaks it, in words."""

_ELEMENT_TYPES = frozenset(int(t) for t in ir.DataType) - {0}

_LEAST: Final[Mapping[str, int]] = {
    "block_size": 1,
    "blocksize": 1,
    "dilations": 1,
    "group": 1,
    "hidden_size": 1,
    "kernel_shape": 1,
    "kv_num_heads": 0,
    "num_groups": 1,
    "num_heads": 0,
    "num_outputs": 1,
    "num_scan_inputs": 1,
    "output_height": 1,
    "output_padding": 0,
    "output_width": 1,
    "pooled_shape": 1,
    "q_num_heads": 0,
    "sample_size": 0,
    "sampling_ratio": 0,
    "size": 1,
    "strides": 1,
}
"""Least value of an attribute, or of each of its elements, by its name in whatever operator."""

_AUTO_PAD = ("", "NOTSET", "VALID", "SAME_UPPER", "SAME_LOWER")
_REDUCTION = ("none", "add", "mul", "min", "max")
_LOSS = ("none", "sum", "mean")
_WORDS: Final[Mapping[tuple[str, str], Sequence[str]]] = {
    ("BitShift", "direction"): ("LEFT", "RIGHT"),
    ("DepthToSpace", "mode"): ("DCR", "CRD"),
    ("GRU", "direction"): ("forward", "reverse", "bidirectional"),
    ("LSTM", "direction"): ("forward", "reverse", "bidirectional"),
    ("RNN", "direction"): ("forward", "reverse", "bidirectional"),
    ("Gelu", "approximate"): ("none", "tanh"),
    ("GridSample", "mode"): ("bilinear", "nearest", "bicubic", "linear", "cubic"),
    ("GridSample", "padding_mode"): ("zeros", "border", "reflection"),
    ("NegativeLogLikelihoodLoss", "reduction"): _LOSS,
    ("Pad", "mode"): ("constant", "reflect", "edge", "wrap"),
    ("Resize", "coordinate_transformation_mode"): (
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_crop_and_resize",
        "tf_half_pixel_for_nn",
    ),
    ("Resize", "keep_aspect_ratio_policy"): ("stretch", "not_larger", "not_smaller"),
    ("Resize", "mode"): ("nearest", "linear", "cubic"),
    ("Resize", "nearest_mode"): (
        "",
        "simple",
        "round_prefer_floor",
        "round_prefer_ceil",
        "floor",
        "ceil",
    ),
    ("RoiAlign", "coordinate_transformation_mode"): ("half_pixel", "output_half_pixel"),
    ("RoiAlign", "mode"): ("avg", "max"),
    ("ScatterElements", "reduction"): _REDUCTION,
    ("ScatterND", "reduction"): _REDUCTION,
    ("SoftmaxCrossEntropyLoss", "reduction"): _LOSS,
    ("Upsample", "mode"): ("nearest", "linear", "bilinear"),
}
"""The words that a text attribute may have."""

_RANKS: Final[Mapping[str, Mapping[int, tuple[int, int]]]] = {
    "BatchNormalization": {1: (1, 1), 2: (1, 1), 3: (1, 1), 4: (1, 1)},
    "Conv": {0: (3, 99), 1: (3, 99), 2: (1, 1)},
    "ConvInteger": {0: (3, 99), 1: (3, 99)},
    "ConvTranspose": {0: (3, 99), 1: (3, 99), 2: (1, 1)},
    "DeformConv": {0: (3, 99), 1: (3, 99), 2: (3, 99), 3: (1, 1)},
    "FusedConv": {0: (3, 99), 1: (3, 99), 2: (1, 1)},
    "FusedGemm": {0: (2, 2), 1: (2, 2), 2: (0, 2)},
    "Gemm": {0: (2, 2), 1: (2, 2), 2: (0, 2)},
    "GRU": {0: (3, 3), 1: (3, 3), 2: (3, 3), 3: (2, 2), 4: (1, 1), 5: (3, 3)},
    "GroupNormalization": {1: (1, 1), 2: (1, 1)},
    "InstanceNormalization": {0: (3, 99), 1: (1, 1), 2: (1, 1)},
    "LSTM": {0: (3, 3), 1: (3, 3), 2: (3, 3), 3: (2, 2), 4: (1, 1), 5: (3, 3), 6: (3, 3), 7: (2, 2)},
    "MatMul": {0: (1, 99), 1: (1, 99)},
    "QLinearConv": {0: (3, 99), 3: (3, 99), 8: (1, 1)},
    "RNN": {0: (3, 3), 1: (3, 3), 2: (3, 3), 3: (2, 2), 4: (1, 1), 5: (3, 3)},
}
"""Least and largest rank of an input."""

_VECTORS: Final[Mapping[str, Sequence[int]]] = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "Pad": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Tile": (1,),
    "Upsample": (1,),
}
"""Inputs that are lists: constants of one axis."""

_AXIS_OF_INPUT = frozenset(
    {
        "ArgMax",
        "ArgMin",
        "Compress",
        "Concat",
        "Gather",
        "GatherElements",
        "Hardmax",
        "LogSoftmax",
        "LayerNormalization",
        "LpNormalization",
        "Scatter",
        "ScatterElements",
        "Softmax",
        "Split",
        "SplitToSequence",
        "TensorScatter",
        "TopK",
        "Unique",
    }
)
"""Operators whose ``axis`` is one of their first input, in [-rank, rank)."""

_CELLS = frozenset({"GRU", "LSTM", "RNN"})


def violated(given: Given) -> str | None:
    """The first rule that a node breaks, in words; None if there is none.

    Attributes have the types that the schema says (see ``operator_checks``), and required ones are there.
    """
    for rules in (_OF_ATTRIBUTES if given.attributes else (), (_ranks,), _BY_OPERATOR.get(given.op_type, ())):
        for rule in rules:
            text = rule(given)
            if text is not None:
                return text
    return None


def _sizes(given: Given) -> str | None:
    for name, value in given.attributes.items():
        least = _LEAST.get(name)
        if least is None:
            continue
        values = value if isinstance(value, (list, tuple)) else (value,)
        small = next((v for v in values if isinstance(v, int) and v < least), None)
        if small is not None:
            return f"the attribute '{name}' is {_shown(value)}: the least is {least}"
    return None


def _words(given: Given) -> str | None:
    for name, value in given.attributes.items():
        if not isinstance(value, str):
            continue
        known = _AUTO_PAD if name == "auto_pad" else _WORDS.get((given.op_type, name))
        if known is not None and value not in known and not given.domain:
            return f"the attribute '{name}' is '{value}': it is one of {', '.join(filter(None, known))}"
    return None


def _types_named(given: Given) -> str | None:
    if given.op_type in ("Cast", "BitCast") and "to" in given.attributes:
        number = given.attributes["to"]
    else:
        number = given.attributes.get("dtype", given.attributes.get("output_datatype", 1)) or 1
    if isinstance(number, int) and number not in _ELEMENT_TYPES:
        return f"the element type {number} does not exist"
    return None


def _axis(given: Given) -> str | None:
    axis, rank = given.attributes.get("axis"), given.rank(0)
    if given.op_type not in _AXIS_OF_INPUT or not isinstance(axis, int) or rank is None or given.domain:
        return None
    if -max(rank, 1) <= axis < max(rank, 1) or (axis == rank and given.version < 13):
        return None
    return f"the attribute 'axis' is {axis}, and the input has {rank} axes"


def _ranks(given: Given) -> str | None:
    for index, (least, most) in _RANKS.get(given.op_type, {}).items():
        rank = given.rank(index)
        if rank is not None and not least <= rank <= most:
            wanted = f"{least}" if least == most else f"at least {least}" if most == 99 else f"at most {most}"
            return f"input {index} has {rank} axes, and the operator takes {wanted}"
    for index in () if given.domain else _VECTORS.get(given.op_type, ()):
        if given.rank(index, constant=True) not in (None, 1):
            return f"input {index} has {given.rank(index)} axes, and is a list of numbers: one axis"
    return None


def _window(given: Given) -> str | None:
    """Lengths of the lists of a window over n axes: n, and 2n for the pads."""
    found: dict[str, float] = {}
    for name, of_axis in (("kernel_shape", 1), ("strides", 1), ("dilations", 1), ("pads", 2)):
        if name in given.attributes:
            found[name] = len(given.attributes[name]) / of_axis
    weight = _WEIGHT.get(given.op_type)
    for name, index in (("input", 0), ("weight", weight)):
        rank = given.rank(index) if index is not None else None
        if rank is not None:
            found[name] = rank - 2
    if len(set(found.values())) > 1:
        said = ", ".join(f"{name}: {n:g}" for name, n in found.items())
        return f"the numbers of spatial axes differ ({said})"
    kernel = given.attributes.get("kernel_shape")
    known = given.inputs[weight] if weight is not None and weight < len(given.inputs) else None
    if kernel and known is not None and known.shape is not None:
        own = list(known.shape[2:])
        if any(size not in (None, k) for size, k in zip(own, kernel, strict=True)):
            return f"the attribute 'kernel_shape' is {_shown(kernel)}, and the weight's is {_shown(own)}"
    return None


_WEIGHT: Final[Mapping[str, int]] = {
    "Conv": 1,
    "ConvInteger": 1,
    "ConvTranspose": 1,
    "DeformConv": 1,
    "FusedConv": 1,
    "QLinearConv": 3,
}


def _grouped(given: Given) -> str | None:
    """Channels of a convolution, its groups and its bias."""
    index = _WEIGHT[given.op_type]
    known = given.inputs[index] if index < len(given.inputs) else None
    if known is None or known.shape is None:
        return None
    shape, group = known.shape, given.attributes.get("group", 1)
    transposed = given.op_type == "ConvTranspose"
    split = shape[0]
    if split is not None and split % group:
        return (
            f"{group} groups cannot share the {split} {'inputs' if transposed else 'outputs'} of the weight"
        )
    bias = given.inputs[_BIAS[given.op_type]] if _BIAS.get(given.op_type, 99) < len(given.inputs) else None
    out = shape[1] * group if transposed and shape[1] is not None else None if transposed else shape[0]
    if bias is not None and bias.shape is not None and out is not None and bias.shape[0] not in (None, out):
        return f"the bias has {bias.shape[0]} elements, and the weight makes {out} channels"
    return None


_BIAS: Final[Mapping[str, int]] = {
    "Conv": 2,
    "ConvTranspose": 2,
    "DeformConv": 3,
    "FusedConv": 2,
    "QLinearConv": 8,
}


def _same_length(given: Given) -> str | None:
    """The vectors of a normalisation: one number for each channel."""
    found = {
        len_
        for known in given.inputs[1:]
        if known is not None and known.shape is not None
        for len_ in known.shape
        if len_ is not None
    }
    if len(found) > 1:
        return f"its vectors have {' and '.join(map(str, sorted(found)))} elements: one for each channel"
    return None


def _cells(given: Given) -> str | None:
    """Shapes of W, R and B for the gates, the hidden size and the directions."""
    gates = {"GRU": 3, "LSTM": 4, "RNN": 1}[given.op_type]
    directions = 2 if given.attributes.get("direction") == "bidirectional" else 1
    hidden = given.attributes.get("hidden_size")
    recurrent = given.inputs[2] if len(given.inputs) > 2 else None
    if hidden is None:
        hidden = recurrent.shape[2] if recurrent is not None and recurrent.shape is not None else None
    if hidden is None:
        return None
    wanted = {
        1: (directions, gates * hidden, None),
        2: (directions, gates * hidden, hidden),
        3: (directions, 2 * gates * hidden),
    }
    for index, sizes in wanted.items():
        known = given.inputs[index] if index < len(given.inputs) else None
        if known is None or known.shape is None:
            continue
        if any(a is not None and b is not None and a != b for a, b in zip(known.shape, sizes, strict=True)):
            said = [a if a is not None else "any" for a in sizes]
            return f"input {index} has the shape {_shown(known.shape)}, and the operator takes {_shown(said)}"
    return None


def _permutation(given: Given) -> str | None:
    perm, rank = given.attributes.get("perm"), given.rank(0)
    if perm is None:
        return None
    if sorted(perm) != list(range(len(perm))) or rank not in (None, len(perm)):
        of_rank = f" of the {rank} axes" if rank is not None else ""
        return f"the attribute 'perm' is {_shown(perm)}: no permutation{of_rank}"
    return None


def _branches(given: Given) -> str | None:
    for name in ("then_branch", "else_branch"):
        body = given.attributes.get(name)
        if isinstance(body, Body) and (body.inputs, body.outputs) != (0, given.outputs):
            return _unlike(name, body, 0, given.outputs)
    return None


def _loop(given: Given) -> str | None:
    body = given.attributes.get("body")
    carried = max(len(given.inputs) - 2, 0)
    if not isinstance(body, Body):
        return None
    if (body.inputs, body.outputs) != (2 + carried, 1 + given.outputs) or given.outputs < carried:
        return _unlike("body", body, 2 + carried, 1 + max(given.outputs, carried))
    return None


def _scan(given: Given) -> str | None:
    body = given.attributes.get("body")
    first = 1 if given.version < 9 else 0  # version 8 begins with the lengths of the sequences
    scanned, inputs = given.attributes.get("num_scan_inputs"), len(given.inputs) - first
    if not isinstance(body, Body) or not isinstance(scanned, int):
        return None
    if scanned > inputs:
        return f"the attribute 'num_scan_inputs' is {scanned}, and there are {inputs} inputs"
    if (body.inputs, body.outputs) != (inputs, given.outputs) or given.outputs < inputs - scanned:
        return _unlike("body", body, inputs, max(given.outputs, inputs - scanned))
    outputs = given.outputs - (inputs - scanned)
    for name, wanted in (
        ("directions", scanned),
        ("scan_input_axes", scanned),
        ("scan_input_directions", scanned),
        ("scan_output_axes", outputs),
        ("scan_output_directions", outputs),
    ):
        found = given.attributes.get(name)
        if found and len(found) != wanted:
            return f"the attribute '{name}' has {len(found)} elements: {wanted} are scanned"
    return None


def _unlike(name: str, body: Body, inputs: int, outputs: int) -> str:
    return (
        f"the graph '{name}' has {body.inputs} inputs and {body.outputs} outputs, "
        f"and the node calls for {inputs} and {outputs}"
    )


def _constant(given: Given) -> str | None:
    held = [name for name in given.attributes if name == "value" or name.startswith("value_")]
    held += [name for name in given.attributes if name == "sparse_value"]
    return None if len(held) == 1 else f"a constant has one value, and this one {len(held)}"


def _heads(given: Given) -> str | None:
    q, kv = given.attributes.get("q_num_heads"), given.attributes.get("kv_num_heads")
    if q and kv and q % kv:
        return f"{q} heads of queries cannot share {kv} of keys"
    return None


def _splits(given: Given) -> str | None:
    split, number = given.attributes.get("split"), given.attributes.get("num_outputs", given.outputs)
    if number != given.outputs:  # onnx's shape inference ends the process for some of these
        return f"the attribute 'num_outputs' is {number}, and there are {given.outputs} outputs"
    if isinstance(split, list) and (len(split) != given.outputs or min(split, default=0) < 0):
        return f"the attribute 'split' is {_shown(split)}, and there are {given.outputs} outputs"
    return None


def _tensor_of_one(given: Given) -> str | None:
    value = given.attributes.get("value")
    if isinstance(value, Known) and value.shape is not None and math.prod(n or 0 for n in value.shape) != 1:
        return f"the attribute 'value' has the shape {_shown(value.shape)}: it is one element"
    return None


def _shown(values: Any) -> str:
    whole = list(values) if isinstance(values, (list, tuple)) else values
    return str(whole) if not isinstance(whole, list) or len(whole) <= 8 else f"{str(whole[:8])[:-1]}, …]"


_OF_ATTRIBUTES: Final[Sequence[Rule]] = (_sizes, _words, _types_named, _axis)
_WINDOWS = ("AveragePool", "LpPool", "MaxPool", "MaxUnpool")
_BY_OPERATOR: Final[Mapping[str, Sequence[Rule]]] = {
    **dict.fromkeys(_WINDOWS, (_window,)),
    **dict.fromkeys(_WEIGHT, (_window, _grouped)),
    **dict.fromkeys(_CELLS, (_cells,)),
    "Attention": (_heads,),
    "BatchNormalization": (_same_length,),
    "Constant": (_constant,),
    "ConstantOfShape": (_tensor_of_one,),
    "If": (_branches,),
    "InstanceNormalization": (_same_length,),
    "Loop": (_loop,),
    "Scan": (_scan,),
    "Split": (_splits,),
    "Transpose": (_permutation,),
}
