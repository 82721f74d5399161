"""Ways to ruin a file of a trained network that leave it valid, with layers that any network has."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper, numpy_helper

Array = np.ndarray
Ruin = Callable[[onnx.ModelProto, np.random.Generator], bool]
"""Changes a model in place; False, with nothing changed, where it has no such part."""

RUINS: dict[str, Ruin] = {}


def ruin(name: str) -> Callable[[Ruin], Ruin]:
    def put(function: Ruin) -> Ruin:
        RUINS[name] = function
        return function

    return put


def layers(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Convolutions and linear maps in the order of the file, with their weights."""
    held = {t.name: t for t in model.graph.initializer}
    places = {"Conv": 1, "Gemm": 1, "MatMul": 1}
    return [
        (node, held[node.input[places[node.op_type]]])
        for node in model.graph.node
        if node.op_type in places and node.input[places[node.op_type]] in held
    ]


def norms(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    return [node for node in model.graph.node if node.op_type == "BatchNormalization"]


def tensor(model: onnx.ModelProto, name: str) -> onnx.TensorProto:
    found: onnx.TensorProto = next(t for t in model.graph.initializer if t.name == name)
    return found


def change(held: onnx.TensorProto, new: Callable[[Array], Array]) -> bool:
    """Replace the numbers of a tensor; whether any changed."""
    before = numpy_helper.to_array(held)
    after = np.ascontiguousarray(new(before.copy())).astype(before.dtype)
    assert after.shape == before.shape
    held.CopyFrom(numpy_helper.from_array(after, held.name))
    return not np.array_equal(before, after)


def of_layer(name: str, place: float, new: Callable[[Array, np.random.Generator], Array]) -> None:
    """Ruin the weight of the layer at a share of the depth."""

    def changed(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
        found = layers(model)
        _, weight = found[min(int(place * len(found)), len(found) - 1)]
        return change(weight, lambda x: new(x, rng))

    RUINS[name] = changed


def shuffled(x: Array, rng: np.random.Generator) -> Array:
    return rng.permutation(x.reshape(-1)).reshape(x.shape)


def at_levels(count: int) -> Callable[[Array, np.random.Generator], Array]:
    def rounded(x: Array, rng: np.random.Generator) -> Array:
        low, high = float(x.min()), float(x.max())
        step = (high - low) / (count - 1)
        return low + np.round((x - low) / step) * step

    return rounded


def channels_swapped(x: Array, rng: np.random.Generator) -> Array:
    x[[0, 1]] = x[[1, 0]]
    return x


def flipped_bits(share: float, bits: range) -> Callable[[Array, np.random.Generator], Array]:
    """Flip one bit, of these numbers, of a share of the elements, at least of one."""

    def flipped(x: Array, rng: np.random.Generator) -> Array:
        flat = x.reshape(-1)
        places = rng.choice(flat.size, max(int(share * flat.size), 1), replace=False)
        numbers = flat.view(np.uint32)
        numbers[places] ^= np.uint32(1) << rng.integers(bits.start, bits.stop, len(places)).astype(np.uint32)
        return x

    return flipped


def pruned(share: float) -> Callable[[Array, np.random.Generator], Array]:
    return lambda x, rng: np.where(np.abs(x) < np.quantile(np.abs(x), share), 0, x)


def other_layout(x: Array, rng: np.random.Generator) -> Array:
    """The numbers of the transposed weight, read in the shape of this one."""
    return np.moveaxis(x, 0, -1).reshape(x.shape)


for _place, _where in ((0.0, "first"), (0.5, "middle"), (1.0, "last")):
    of_layer(f"{_where} layer shuffled", _place, shuffled)
    of_layer(f"{_where} layer in another layout", _place, other_layout)
for _count in (2, 3, 4, 8):
    of_layer(f"middle layer at {_count} levels", 0.5, at_levels(_count))
of_layer("last layer at 3 levels", 1.0, at_levels(3))
of_layer("two output channels swapped", 0.3, channels_swapped)
of_layer("output channels reversed", 0.5, lambda x, rng: x[::-1])
of_layer("kernel turned round", 0.5, lambda x, rng: x[..., ::-1, ::-1])
of_layer("sign of a layer", 0.3, lambda x, rng: -x)
of_layer("a layer twice as large", 0.6, lambda x, rng: 2 * x)
of_layer("a layer cut at one deviation", 0.5, lambda x, rng: np.clip(x, -x.std(), x.std()))
of_layer("half of a layer pruned", 0.5, pruned(0.5))
of_layer("nine tenths of a layer pruned", 0.5, pruned(0.9))
of_layer("an output channel zeroed", 0.5, lambda x, rng: np.concatenate([0 * x[:1], x[1:]]))
of_layer("high bit of one exponent flipped", 0.5, flipped_bits(0, range(30, 31)))
of_layer("exponent bits of 1 % flipped", 0.5, flipped_bits(0.01, range(23, 27)))
of_layer("sign bits of 5 % flipped", 0.5, flipped_bits(0.05, range(31, 32)))


@ruin("all layers pruned by half")
def _(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    return sum(change(w, lambda x: pruned(0.5)(x, rng)) for _, w in layers(model)) > 0


@ruin("a bias lost")
def _(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    """The largest of all: those of an untrained network may be zero."""
    names = {n.input[2] for n, _ in layers(model) if len(n.input) > 2} | {n.input[2] for n in norms(model)}
    held = [t for t in model.graph.initializer if t.name in names]
    largest = max(held, key=lambda t: float(np.abs(numpy_helper.to_array(t)).max()), default=None)
    if largest is None or np.abs(numpy_helper.to_array(largest)).max() < 1e-3:
        return False
    return change(largest, lambda x: 0 * x)


@ruin("BatchNorm's statistics lost")
def _(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    for node in norms(model):
        change(tensor(model, node.input[3]), lambda x: 0 * x)
        change(tensor(model, node.input[4]), lambda x: 0 * x + 1)
    return bool(norms(model))


@ruin("one BatchNorm's mean lost")
def _(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    found = norms(model)
    return bool(found) and change(tensor(model, found[len(found) // 2].input[3]), lambda x: 0 * x)


def _epsilon(value: float) -> Ruin:
    def changed(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
        for node in norms(model):
            kept = [a for a in node.attribute if a.name != "epsilon"]
            del node.attribute[:]
            node.attribute.extend([*kept, helper.make_attribute("epsilon", value)])
        return bool(norms(model))

    return changed


RUINS["epsilon of 1e-3, not 1e-5"] = _epsilon(1e-3)
RUINS["epsilon of 0.1, not 1e-5"] = _epsilon(0.1)


@ruin("ReLUs are leaky")
def _(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    found = [n for n in model.graph.node if n.op_type == "Relu"]
    for node in found:
        node.op_type = "LeakyRelu"
        node.attribute.extend([helper.make_attribute("alpha", 0.1)])
    return bool(found)


@ruin("inputs divided by 255")
def _(model: onnx.ModelProto, rng: np.random.Generator) -> bool:
    given = model.graph.input[0]
    if given.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        return False
    model.graph.initializer.append(numpy_helper.from_array(np.array(255, dtype=np.float32), "by_255"))
    for node in model.graph.node:
        node.input[:] = ["divided" if name == given.name else name for name in node.input]
    model.graph.node.insert(0, helper.make_node("Div", [given.name, "by_255"], ["divided"], name="divide"))
    return True
