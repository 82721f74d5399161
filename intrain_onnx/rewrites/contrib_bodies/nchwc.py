"""Rewrites onnxruntime's blocked NCHWc layout, written at its highest optimisation level, to NCHW.

The domain com.microsoft.nchwc stores images as (N, C / b, H, W, b), with C padded to a multiple of the block
size b; the weights of its convolutions are reordered and padded with zeros. b depends on the processor that
wrote the file (16 with AVX-512, else 8) and is not stored. Shapes of values are NCHW here; only weights
change.

Weights, for O outputs and I inputs: (O / b, I / b, H, W, b of I, b of O) if the input is blocked, and
(O / b, I, H, W, b of O) if it is not, or the convolution is depthwise.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx_ir as ir
from onnx_ir.passes import common

from intrain_onnx.errors import ModelFileError, UnsupportedError
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import add_initializer, constant_array, name_of
from intrain_onnx.rewrites.contrib_bodies.activations import activation
from intrain_onnx.rewrites.contrib_bodies.call import MICROSOFT, Call, body

DOMAIN = "com.microsoft.nchwc"

_HINT = "It was optimised for one processor: save it with ORT_ENABLE_EXTENDED or a lower level"
_BLOCKS = (16, 8, 4)
_ALIGNED = 4
"""The input channels of a convolution on a blocked value are a multiple of this."""

_NORMALISATION = "BlockedNormalization"
"""Private operator for a BatchNormalization that was written as a depthwise 1x1 convolution."""

_POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
_ELEMENTWISE = frozenset(
    {"Relu", "Sigmoid", "Tanh", "LeakyRelu", "HardSigmoid", "HardSwish", "Clip", "Elu", "Gelu", "Softplus"}
    | {"Add", "Sum", "Mul", "Sub", "Identity", "QuickGelu", "FastGelu", "Max", "Min"}
)
Array = np.ndarray[Any, Any]


def unblock(model: ir.Model) -> int:
    """Rewrite the operators of the domain to ONNX's and FusedConv, and remove the padding of channels.

    Returns:
        The number of nodes rewritten.

    Raises:
        UnsupportedError: the number of channels without padding cannot be determined.
        ModelFileError: a node violates its operator's definition.
    """
    nodes = [n for n in every_node(model.graph) if n.domain == DOMAIN]
    for node in nodes:
        _check(node)
    if nodes:
        _Unblocking(model).run(nodes)
    return len(nodes)


def _refuse(node: ir.Node, message: str) -> UnsupportedError:
    return UnsupportedError(
        message, node=name_of(node), op=f"{node.domain or 'ai.onnx'}::{node.op_type}", hint=_HINT
    )


def _weight(node: ir.Node) -> Array:
    array = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
    if array is None or array.ndim != 4 or array.dtype.kind != "f" or not array.size:
        raise _refuse(node, "a blocked convolution needs a constant float weight of four axes")
    return array


def _bias(node: ir.Node) -> Array | None:
    given = node.inputs[2] if len(node.inputs) > 2 else None
    array = constant_array(given)
    if given is not None and (array is None or array.ndim != 1 or array.dtype.kind != "f"):
        raise _refuse(node, "a blocked convolution needs a constant vector of floats for a bias")
    return array


def _check(node: ir.Node) -> None:
    most = 4 if node.op_type == "Conv" else 1
    least = 2 if node.op_type == "Conv" else 1
    given = [v for v in node.inputs[:least] if v is not None]
    if len(node.inputs) > most or len(given) < least or len(node.outputs) != 1:
        raise ModelFileError(
            f"{len(node.inputs)} inputs and {len(node.outputs)} outputs for an operator of {least} to {most} "
            "and 1",
            node=name_of(node),
            op=f"{node.domain}::{node.op_type}",
        )


def _group(node: ir.Node) -> int:
    given = node.attributes.get("group")
    if given is not None and given.type != ir.AttributeType.INT:
        raise ModelFileError("the attribute 'group' is not an int", node=name_of(node), op=node.op_type)
    return 1 if given is None else given.as_int()


@dataclass
class _Channels:
    """Constraints on numbers of channels: a union-find structure over values with equal numbers."""

    parent: dict[ir.Value, ir.Value] = field(default_factory=dict)
    exact: dict[ir.Value, int] = field(default_factory=dict)
    filled: dict[ir.Value, int] = field(default_factory=dict)
    least: defaultdict[ir.Value, int] = field(default_factory=lambda: defaultdict(int))
    aligned: set[ir.Value] = field(default_factory=set)

    def root(self, value: ir.Value) -> ir.Value:
        while value in self.parent:
            value = self.parent[value]
        return value

    def unite(self, a: ir.Value, b: ir.Value) -> None:
        a, b = self.root(a), self.root(b)
        if a is b:
            return
        self.parent[b] = a
        self.least[a] = max(self.least[a], self.least[b])
        for known in (self.exact, self.filled):
            if b in known:
                known[a] = known[b]
        if b in self.aligned:
            self.aligned.add(a)

    def count(self, value: ir.Value, block: int) -> int | None:
        """The channels of a value without the padding of its last block; None if it is not determined."""
        root = self.root(value)
        if root in self.exact:
            return self.exact[root]
        found, filled = self.least[root], self.filled.get(root)
        if root in self.aligned:
            found = -(-found // _ALIGNED) * _ALIGNED
        return found if filled is None or filled - block < found <= filled else None


class _Unblocking:
    def __init__(self, model: ir.Model) -> None:
        self.model = model
        self.blocked: set[ir.Value] = set()
        self.channels = _Channels()
        self.block = 0
        self.apart: set[ir.Value] = set()
        """Values in the five-dimensional view (N, C / b, H, W, b), used for broadcasting."""
        self.views: list[ir.Node] = []
        self.stated: set[int] = set()
        self.made: dict[tuple[Any, ...], ir.Value] = {}

    def run(self, nodes: list[ir.Node]) -> None:
        common.TopologicalSortPass()(self.model)
        self._spread()
        convolutions = [n for n in nodes if n.op_type == "Conv"]
        self.block = self._find_block(convolutions)
        for node in every_node(self.model.graph):
            self._constrain(node)
        for node in nodes:
            self._rewrite(node)
        for node in self.views:
            node.attributes.clear()
            node.resize_inputs(1)
            node.op_type = "Identity"
        for value in self.blocked:
            value.shape = None

    def _spread(self) -> None:
        """Propagate the blocked layout forward through the graph."""
        for node in every_node(self.model.graph):
            own = node.domain == DOMAIN and node.op_type != "ReorderOutput"
            reads = node.domain != DOMAIN and any(v in self.blocked for v in node.inputs)
            if reads and node.op_type == "Reshape":
                self._view(node)
            elif reads and node.op_type not in _ELEMENTWISE | {"Concat"}:
                raise _refuse(node, "an operator that is not known to work in blocks of channels reads one")
            elif reads and any(v in self.apart for v in node.inputs):
                self.apart.update(node.outputs)
            if own or reads:
                self.blocked.update(node.outputs)

    def _view(self, node: ir.Node) -> None:
        """A Reshape to (N, C / b, H, W, b) or back: onnxruntime 1.31 writes -1 for C / b, 1.32 the number."""
        target = constant_array(node.inputs[1]) if len(node.inputs) > 1 else None
        shape = [] if target is None else target.reshape(-1).tolist()
        if len(shape) == 5 and [0, shape[1], 0, 0] == shape[:4] and shape[1] and shape[4] in _BLOCKS:
            self.apart.update(node.outputs)
            self.stated.add(shape[4])
        elif len(shape) != 4 or node.inputs[0] not in self.apart:
            raise _refuse(node, "a Reshape of a value in blocks of channels that is none of them")
        self.views.append(node)

    def _find_block(self, convolutions: list[ir.Node]) -> int:
        """The block size in a Reshape of the graph, or else the largest that fits all weights."""
        for block in sorted(self.stated, reverse=True) or _BLOCKS:
            if all(self._fits(node, block) for node in convolutions):
                return block
        raise _refuse((convolutions or self.views)[0], "the weights fit no block of channels")

    def _fits(self, node: ir.Node, block: int) -> bool:
        outputs, inputs = _weight(node).shape[:2]
        if outputs % block:
            return False
        if _group(node) > 1 and inputs == 1:
            return True
        blocked = node.inputs[0] in self.blocked
        return bool(inputs % block == 0 if blocked else inputs < block)

    def _plain(self, node: ir.Node) -> Array:
        """The weight as (O, I, H, W), still padded."""
        w, b = _weight(node), self.block
        o, i, *kernel = w.shape
        if node.inputs[0] not in self.blocked or (_group(node) > 1 and i == 1):
            return w.reshape(o // b, i, *kernel, b).transpose(0, 4, 1, 2, 3).reshape(w.shape)
        return w.reshape(o // b, i // b, *kernel, b, b).transpose(0, 5, 1, 4, 2, 3).reshape(w.shape)

    def _constrain(self, node: ir.Node) -> None:
        known = self.channels
        reads = [v for v in node.inputs if v in self.blocked and v is not None]
        if node.domain != DOMAIN:
            if node.op_type == "Concat" and reads:
                self._concatenated(node, reads)
            elif reads:
                for value in reads:
                    known.unite(node.outputs[0], value)
            return
        if node.op_type == "Conv":
            self._convolved(node)
        elif node.op_type == "ReorderInput":
            self._entered(node)
        elif node.op_type == "ReorderOutput" and reads:
            given = node.attributes.get("channels")
            if given is None or given.type != ir.AttributeType.INT or given.as_int() < 1:
                raise ModelFileError(
                    "the attribute 'channels' is no count", node=name_of(node), op=node.op_type
                )
            known.exact[known.root(reads[0])] = given.as_int()
        elif reads:
            known.unite(node.outputs[0], reads[0])

    def _convolved(self, node: ir.Node) -> None:
        known, out, x = self.channels, node.outputs[0], node.inputs[0]
        w = self._plain(node)
        groups, (o, i) = _group(node), w.shape[:2]
        root = known.root(out)
        bias = _bias(node)
        rows = np.abs(w).reshape(o, -1).max(1)
        if bias is not None and bias.shape == (o,):
            rows = np.maximum(rows, np.abs(bias))
        known.least[root] = max(known.least[root], _extent(rows))
        known.filled[root] = o
        if len(node.inputs) > 3 and node.inputs[3] is not None:
            known.unite(out, node.inputs[3])
        if x is None or x not in self.blocked:
            return
        if groups > 1 and i == 1:
            known.unite(out, x)
        elif groups > 1:  # only whole blocks are grouped
            known.exact[known.root(out)], known.exact[known.root(x)] = o, i * groups
        else:
            entry = known.root(x)
            known.least[entry] = max(known.least[entry], _extent(np.abs(w).max((0, 2, 3))))
            known.aligned.add(entry)

    def _entered(self, node: ir.Node) -> None:
        x = node.inputs[0]
        shape = x.shape if x is not None else None
        last = _flag(node, "channels_last")
        size = shape.dims[-1 if last else 1] if shape is not None and len(shape.dims) == 4 else None
        if isinstance(size, int):
            self.channels.exact[self.channels.root(node.outputs[0])] = size

    def _concatenated(self, node: ir.Node, reads: list[ir.Value]) -> None:
        """Only whole blocks are concatenated, so the operands have no padding."""
        known = self.channels
        for value in reads:
            filled = known.filled.get(known.root(value))
            if filled is not None:
                known.exact[known.root(value)] = filled
        sizes = [known.exact.get(known.root(v)) for v in reads]
        if None not in sizes:
            known.exact[known.root(node.outputs[0])] = sum(s for s in sizes if s is not None)

    def _count(self, value: ir.Value | None, node: ir.Node) -> int:
        assert value is not None
        found = self.channels.count(value, self.block)
        if not found or found > self.channels.filled.get(self.channels.root(value), found):
            raise _refuse(node, "the number of channels cannot be told from what fills up their blocks")
        return found

    def _rewrite(self, node: ir.Node) -> None:
        if node.op_type == "Conv":
            self._rewrite_convolution(node)
        elif node.op_type in ("ReorderInput", "ReorderOutput"):
            turned = [0, 3, 1, 2] if node.op_type == "ReorderInput" else [0, 2, 3, 1]
            last = _flag(node, "channels_last")
            node.attributes.clear()
            node.domain, node.op_type = "", "Transpose" if last else "Identity"
            if last:
                node.attributes["perm"] = ir.AttrInt64s("perm", turned)
        elif node.op_type in _POOLS:
            node.domain = ""
        elif node.op_type != "Upsample":
            raise _refuse(node, "this blocked operator has no other form here")

    def _rewrite_convolution(self, node: ir.Node) -> None:
        groups, w = _group(node), self._plain(node)
        o = self._count(node.outputs[0], node)
        depthwise = groups > 1 and w.shape[1] == 1
        i = (
            self._count(node.inputs[0], node)
            if node.inputs[0] in self.blocked and groups == 1
            else w.shape[1]
        )
        bias = _bias(node)
        summed = len(node.inputs) > 3 and node.inputs[3] is not None
        if depthwise and w.shape[2:] == (1, 1) and not summed:
            self._normalisation(node, w[:o].reshape(-1), None if bias is None else bias[:o])
            return
        node.replace_input_with(1, self._part(node.inputs[1], w[:o, :i]))
        if bias is not None:
            node.replace_input_with(2, self._part(node.inputs[2], bias[:o]))
        node.attributes["group"] = ir.AttrInt64("group", o if depthwise else groups)
        node.domain, node.op_type = MICROSOFT, "FusedConv"

    def _normalisation(self, node: ir.Node, scale: Array, bias: Array | None) -> None:
        """A depthwise 1x1 convolution: onnxruntime writes a BatchNormalization so."""
        shift = np.zeros_like(scale) if bias is None else bias
        values = [self._part(v, a) for v, a in ((node.inputs[1], scale), (None, shift))]
        values += [self._part(None, a) for a in (np.zeros_like(scale), np.ones_like(scale))]
        node.resize_inputs(5)
        for index, value in enumerate(values, start=1):
            node.replace_input_with(index, value)
        for name in set(node.attributes) - {"activation", "activation_params"}:
            del node.attributes[name]
        node.op_type = _NORMALISATION

    def _part(self, source: ir.Value | None, array: Array) -> ir.Value:
        """A new initializer; readers of the same part of one initializer share it."""
        key = (source, array.shape)
        if source is not None and key in self.made:
            return self.made[key]
        name = f"{source.name if source is not None else 'constant'}.unblocked.{len(self.made)}"
        while name in self.model.graph.initializers:
            name += "_"
        value = add_initializer(self.model, name, np.ascontiguousarray(array))
        self.made[key if source is not None else (name, array.shape)] = value
        return value


@body(_NORMALISATION, "x scale shift mean variance", domain=DOMAIN)
def _blocked_normalisation(call: Call) -> str:
    name, parameters = call.word("activation"), call.reals("activation_params")
    norm = "BatchNormalization <epsilon: float = 0.0> (x, scale, shift, mean, variance)"
    return f"h = {norm} {activation(call, name, parameters, 'h', 'y')}" if name else f"y = {norm}"


@body("Upsample", "x", domain=DOMAIN)
def _blocked_upsample(call: Call) -> str:
    scales = call.integers("scales")
    if len(scales) != 4 or not all(0 < s < 2**16 for s in scales):
        call.fail(f"the attribute 'scales' is {scales}")
    mode, place = call.word("mode", "nearest"), call.word("coordinate_transformation_mode", "asymmetric")
    if mode not in ("nearest", "linear") or place not in ("asymmetric", "align_corners", "half_pixel"):
        call.fail(f"the mode {mode!r} with coordinates {place!r}")
    region = "" if call.opset >= 13 else call.literal(np.zeros(0, np.float32))
    factors = call.literal(np.asarray(scales, np.float32))
    kind = f'coordinate_transformation_mode: string = "{place}", mode: string = "{mode}"'
    return f'y = Resize <{kind}, nearest_mode: string = "floor"> (x, {region}, {factors})'


def _extent(sizes: Array) -> int:
    """Length without trailing zeros."""
    places = np.flatnonzero(sizes)
    return int(places[-1]) + 1 if len(places) else 0


def _flag(node: ir.Node, name: str) -> bool:
    given = node.attributes.get(name)
    return given is not None and given.type == ir.AttributeType.INT and given.as_int() == 1
