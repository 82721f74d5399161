"""Small damages to a valid model: one function each, drawn by a seed.

A damage takes the model and a random generator, changes the model in place and says whether it applied.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx.defs
from google.protobuf.descriptor import FieldDescriptor  # type: ignore[import-untyped]
from onnx import helper, numpy_helper

from intrain_onnx.loading.function_checks import all_nodes

Damage = Callable[[onnx.ModelProto, random.Random], bool]
DAMAGES: list[Damage] = []

INTEGERS = (0, 1, -1, 2, -2, 3, 7, 64, -64, 1000, 2**31 - 1, -(2**31), 2**31, 2**40, 2**63 - 1, -(2**63))
FLOATS = (0.0, 1.0, -1.0, 1e-30, 1e30, float("inf"), float("-inf"), float("nan"))
STRINGS = (b"", b"NOTSET", b"SAME_UPPER", b"linear", b"\xff\xfe", b"x" * 300, b"a->b", b"float32")
_OPERATORS = sorted({(s.domain, s.name) for s in onnx.defs.get_all_schemas()})


def damage(function: Damage) -> Damage:
    """Enter a damage."""
    DAMAGES.append(function)
    return function


def nodes_of(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """All nodes: of subgraphs and functions too."""
    return [*all_nodes(model.graph.node), *(n for f in model.functions for n in all_nodes(f.node))]


def _node(model: onnx.ModelProto, rng: random.Random) -> onnx.NodeProto | None:
    found = nodes_of(model)
    return rng.choice(found) if found else None


def _attribute(model: onnx.ModelProto, rng: random.Random) -> onnx.AttributeProto | None:
    found = [a for n in nodes_of(model) for a in n.attribute]
    return rng.choice(found) if found else None


def _tensors(model: onnx.ModelProto) -> list[onnx.TensorProto]:
    inside = [a for n in nodes_of(model) for a in n.attribute]
    return [
        *model.graph.initializer,
        *(a.t for a in inside if a.HasField("t")),
        *(t for a in inside for g in (a.g, *a.graphs) for t in g.initializer),
    ]


def _values(rng: random.Random) -> Any:
    return rng.choice(
        [
            rng.choice(INTEGERS),
            rng.choice(FLOATS),
            rng.choice(STRINGS),
            [rng.choice(INTEGERS) for _ in range(rng.randrange(1, 6))],
            [rng.choice(FLOATS) for _ in range(rng.randrange(1, 6))],
            [rng.choice(STRINGS) for _ in range(rng.randrange(1, 4))],
            numpy_helper.from_array(np.arange(rng.randrange(4), dtype=np.float32)),
        ]
    )


@damage
def attribute_of_another_type(model: onnx.ModelProto, rng: random.Random) -> bool:
    """Any value of any type, under the name that it had."""
    found = _attribute(model, rng)
    if found is None:
        return False
    found.CopyFrom(helper.make_attribute(found.name, _values(rng)))
    return True


@damage
def attribute_type_alone(model: onnx.ModelProto, rng: random.Random) -> bool:
    """The field that says the type, and no more."""
    found = _attribute(model, rng)
    if found is None:
        return False
    found.type = rng.choice(onnx.AttributeProto.AttributeType.values())
    return True


@damage
def attribute_value(model: onnx.ModelProto, rng: random.Random) -> bool:
    """Another value of the same type."""
    found = _attribute(model, rng)
    if found is None:
        return False
    kind = found.type
    if kind == onnx.AttributeProto.INT:
        found.i = rng.choice([*INTEGERS, *range(-3, 12)])
    elif kind == onnx.AttributeProto.FLOAT:
        found.f = rng.choice(FLOATS)
    elif kind == onnx.AttributeProto.STRING:
        found.s = rng.choice(STRINGS)
    elif kind == onnx.AttributeProto.INTS:
        _edit_list(found.ints, rng, rng.choice([*INTEGERS, *range(-3, 6)]))
    elif kind == onnx.AttributeProto.FLOATS:
        _edit_list(found.floats, rng, rng.choice(FLOATS))
    elif kind == onnx.AttributeProto.STRINGS:
        _edit_list(found.strings, rng, rng.choice(STRINGS))
    else:
        return False
    return True


def _edit_list(held: Any, rng: random.Random, value: Any) -> None:
    how = rng.randrange(5) if held else 1
    if how == 0:
        held[rng.randrange(len(held))] = value
    elif how == 1:
        held.append(value)
    elif how == 2:
        held.pop(rng.randrange(len(held)))
    elif how == 3:
        held[:] = []
    else:
        held.extend(list(held))


@damage
def attribute_gone(model: onnx.ModelProto, rng: random.Random) -> bool:
    """One attribute less."""
    holders = [n for n in nodes_of(model) if n.attribute]
    if not holders:
        return False
    held = rng.choice(holders).attribute
    held.pop(rng.randrange(len(held)))
    return True


@damage
def attribute_of_another_node(model: onnx.ModelProto, rng: random.Random) -> bool:
    """One attribute more, under a name that some other node has."""
    found, node = _attribute(model, rng), _node(model, rng)
    if found is None or node is None or found.name in {a.name for a in node.attribute}:
        return False
    apart = onnx.AttributeProto()  # it may be a graph with the node in it
    apart.CopyFrom(found)
    node.attribute.add().CopyFrom(apart)
    return True


@damage
def inputs(model: onnx.ModelProto, rng: random.Random) -> bool:
    """Inputs of a node dropped, doubled, swapped, left out or taken from elsewhere."""
    node = _node(model, rng)
    if node is None:
        return False
    held, how = list(node.input), rng.randrange(6)
    if how == 0 and held:
        held.pop(rng.randrange(len(held)))
    elif how == 1 and held:
        held.append(rng.choice(held))
    elif how == 2:
        rng.shuffle(held)
    elif how == 3 and held:
        held[rng.randrange(len(held))] = ""
    elif how == 4:
        held.append("")
    elif held:
        names = [o for n in model.graph.node for o in n.output if o]
        names += [t.name for t in model.graph.initializer] + [v.name for v in model.graph.input]
        held[rng.randrange(len(held))] = rng.choice(names or [""])
    changed = held != list(node.input)
    node.input[:] = held
    return changed


@damage
def outputs(model: onnx.ModelProto, rng: random.Random) -> bool:
    """Outputs of a node dropped, left out or added."""
    node = _node(model, rng)
    if node is None:
        return False
    held, how = list(node.output), rng.randrange(4)
    if how == 0 and held:
        held.pop(rng.randrange(len(held)))
    elif how == 1 and held:
        held[rng.randrange(len(held))] = ""
    elif how == 2:
        held += [f"more_{i}" for i in range(rng.randrange(1, 4))]
    else:
        rng.shuffle(held)
    changed = held != list(node.output)
    node.output[:] = held
    return changed


@damage
def another_operator(model: onnx.ModelProto, rng: random.Random) -> bool:
    """Another operator in the place of one, with what it had."""
    node = _node(model, rng)
    if node is None:
        return False
    if rng.random() < 0.3:
        node.domain, node.op_type = rng.choice(_OPERATORS)
    elif rng.random() < 0.5:
        node.op_type = rng.choice(nodes_of(model)).op_type
    else:
        node.op_type = rng.choice([name for domain, name in _OPERATORS if domain == node.domain] or [""])
    return True


@damage
def tensor_shape(model: onnx.ModelProto, rng: random.Random) -> bool:
    """A constant of another rank or size, with as much data as it says."""
    found = [t for t in _tensors(model) if t.data_type in _NUMPY]
    if not found:
        return False
    tensor = rng.choice(found)
    array, how = numpy_helper.to_array(tensor), rng.randrange(7)
    if array.size > 10**6:
        return False
    if how == 0:
        array = array.reshape(-1)
    elif how == 1:
        array = array[None]
    elif how == 2:
        array = array.reshape(-1)[:1].reshape(()) if array.size else array[None]
    elif how == 3:
        array = array[:0] if array.ndim else array.reshape(1, 1)
    elif how == 4:
        array = np.swapaxes(array, 0, -1) if array.ndim > 1 else array.reshape(-1, 1, 1)
    elif how == 5 and array.ndim:
        array = np.concatenate([array, array], rng.randrange(array.ndim))
    else:
        array = array.sum(axis=rng.randrange(array.ndim), dtype=array.dtype) if array.ndim else array[None]
    tensor.CopyFrom(numpy_helper.from_array(np.array(array), tensor.name))
    return True


_NUMPY = {
    onnx.TensorProto.FLOAT: np.float32,
    onnx.TensorProto.INT64: np.int64,
    onnx.TensorProto.INT32: np.int32,
    onnx.TensorProto.FLOAT16: np.float16,
    onnx.TensorProto.DOUBLE: np.float64,
    onnx.TensorProto.BOOL: np.bool_,
    onnx.TensorProto.UINT8: np.uint8,
    onnx.TensorProto.INT8: np.int8,
    onnx.TensorProto.UINT64: np.uint64,
    onnx.TensorProto.COMPLEX64: np.complex64,
}


@damage
def tensor_type(model: onnx.ModelProto, rng: random.Random) -> bool:
    """A constant of another element type."""
    found = [t for t in _tensors(model) if t.data_type in _NUMPY]
    if not found:
        return False
    tensor = rng.choice(found)
    with np.errstate(all="ignore"):
        array: Any = numpy_helper.to_array(tensor).astype(rng.choice(list(_NUMPY.values())))
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return True


@damage
def tensor_values(model: onnx.ModelProto, rng: random.Random) -> bool:
    """Extreme elements in a constant."""
    found = [t for t in _tensors(model) if t.data_type in _NUMPY]
    if not found:
        return False
    tensor = rng.choice(found)
    array = np.array(numpy_helper.to_array(tensor))
    if not array.size:
        return False
    pool = INTEGERS if array.dtype.kind in "iub" else FLOATS
    with np.errstate(all="ignore"):
        for _ in range(rng.randrange(1, 4)):
            array.reshape(-1)[rng.randrange(array.size)] = np.array(rng.choice(pool)).astype(array.dtype)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return True


@damage
def input_made_constant(model: onnx.ModelProto, rng: random.Random) -> bool:
    """An input as an initializer, with extreme elements among small ones: indices, sizes, divisors."""
    graph = model.graph
    found = [v for v in graph.input if v.type.tensor_type.elem_type in _NUMPY]
    if not found:
        return False
    value = rng.choice(found)
    shape = [d.dim_value or 1 for d in value.type.tensor_type.shape.dim]
    if math.prod(shape) > 10**5:
        return False
    dtype = np.dtype(_NUMPY[value.type.tensor_type.elem_type])
    pool = (*INTEGERS, *range(-3, 8)) if dtype.kind in "iub" else (*FLOATS, 0.5, 2.0, 3.0)
    with np.errstate(all="ignore"):
        array = np.array([rng.choice(pool) for _ in range(math.prod(shape))], dtype=object)
        array = np.array([np.array(v).astype(dtype) for v in array], dtype=dtype).reshape(shape)
    name = value.name
    kept = [v for v in graph.input if v.name != name]
    del graph.input[:]
    graph.input.extend(kept)
    graph.initializer.append(numpy_helper.from_array(array, name))
    return True


@damage
def declared_type(model: onnx.ModelProto, rng: random.Random) -> bool:
    """Another rank, size or element type of an input, an output or an inner value; or none at all."""
    graph = model.graph
    found = [*graph.input, *graph.input, *graph.output, *graph.value_info]
    if not found:
        return False
    declared = rng.choice(found).type
    dims, how = declared.tensor_type.shape.dim, rng.randrange(8)
    if how == 0:
        declared.Clear()
    elif how == 1:
        declared.tensor_type.ClearField("shape")
    elif how == 2:
        declared.tensor_type.elem_type = rng.randrange(28)
    elif how == 3:
        dims.add().dim_value = rng.choice((0, 1, 3, -1, 10**6))
    elif how == 4 and dims:
        dims.pop(rng.randrange(len(dims)))
    elif how == 5 and dims:
        rng.choice(dims).dim_param = rng.choice(("n", "", "a+b", "batch", "\n", "0", "x" * 1000))
    elif how == 6:
        held = onnx.TypeProto()
        held.CopyFrom(declared)
        declared.Clear()
        rng.choice((declared.sequence_type, declared.optional_type)).elem_type.CopyFrom(held)
    elif dims:
        rng.choice(dims).dim_value = rng.choice((0, 1, 2, 3, 5, 224, -5, 2**31, 2**62))
    return True


@damage
def opset(model: onnx.ModelProto, rng: random.Random) -> bool:
    """Another opset, or IR version."""
    if not model.opset_import or rng.random() < 0.1:
        model.ir_version = rng.choice((1, 2, 3, 4, 8, 10, 13, 99, 2**40))
        return True
    rng.choice(model.opset_import).version = rng.choice(
        (*range(1, 29), 30, 100, 2**31 - 1, 2**31, 2**63 - 1, 0, -1)
    )
    return True


@damage
def node_gone_or_moved(model: onnx.ModelProto, rng: random.Random) -> bool:
    """A node that is deleted, moved, or made an Identity."""
    held = model.graph.node
    if not held:
        return False
    at, how = rng.randrange(len(held)), rng.randrange(4)
    node = held.pop(at)
    if how == 0:
        held.insert(rng.randrange(len(held) + 1), node)
    elif how == 1 and node.input and node.output:
        held.insert(at, helper.make_node("Identity", node.input[:1], node.output[:1]))
    elif how == 2 and node.input and node.output:  # bridged
        names = {node.output[0]: node.input[0]}
        for other in held:
            other.input[:] = [names.get(n, n) for n in other.input]
    return True


@damage
def names(model: onnx.ModelProto, rng: random.Random) -> bool:
    """A value of another name, everywhere; nodes of one name."""
    found = sorted({n for node in model.graph.node for n in (*node.input, *node.output) if n})
    if not found:
        return False
    old, new = (
        rng.choice(found),
        rng.choice(("a.b", "a/b", "self", "", "\x1b[2J", "0", "ü", "a" * 5000, *found[:3])),
    )
    for node in nodes_of(model):
        node.input[:] = [new if n == old else n for n in node.input]
        node.output[:] = [new if n == old else n for n in node.output]
    for held in (*model.graph.input, *model.graph.output, *model.graph.initializer, *model.graph.value_info):
        held.name = new if held.name == old else held.name
    return True


@damage
def any_field(model: onnx.ModelProto, rng: random.Random) -> bool:
    """A field of any message in the file, cleared, doubled or of another value."""
    message: Any = model
    for _ in range(rng.randrange(2, 12)):
        fields = message.ListFields()
        if not fields:
            return False
        field, value = rng.choice(fields)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            inner = rng.choice(value) if _is_list(value) else value
            if rng.random() < 0.85:
                message = inner
                continue
            if rng.random() < 0.5 or not _is_list(value):
                message.ClearField(field.name)
            else:
                value.add().CopyFrom(inner)
            return True
        return _change_scalar(message, field, value, rng)
    return False


def _is_list(value: Any) -> bool:
    return hasattr(value, "append") and not isinstance(value, bytes | str)


def _change_scalar(message: Any, field: Any, value: Any, rng: random.Random) -> bool:
    if rng.random() < 0.3:
        message.ClearField(field.name)
        return True
    sample = value[0] if _is_list(value) else value
    new: Any
    if isinstance(sample, float):
        new = rng.choice(FLOATS)
    elif isinstance(sample, bool | int):
        new = rng.choice(INTEGERS)
    elif isinstance(sample, str):
        new = rng.choice(("", "x", "a.b", "\n", "ai.onnx", "com.microsoft"))
    else:
        new = rng.choice(STRINGS)
    try:
        if _is_list(value):
            value[rng.randrange(len(value))] = new
        else:
            setattr(message, field.name, new)
    except (ValueError, TypeError):
        return False
    return True


def of_bytes(data: bytes, rng: random.Random) -> bytes:
    """The file with bits flipped, parts cut out, doubled or overwritten."""
    held = bytearray(data)
    for _ in range(rng.randrange(1, 4)):
        if not held:
            break
        at, length, how = rng.randrange(len(held)), rng.randrange(1, 40), rng.randrange(6)
        if how < 2:
            held[at] ^= 1 << rng.randrange(8)
        elif how == 2:
            del held[at : at + length]
        elif how == 3:
            held[at:at] = held[at : at + length]
        elif how == 4:
            held[at : at + length] = rng.randbytes(length)
        elif rng.random() < 0.2:
            del held[at:]
    return bytes(held)


def mutant(data: bytes, seed: int) -> tuple[bytes, list[str]]:
    """A damaged copy of a model file, and the names of its damages: one to three; one in ten of the bytes."""
    rng = random.Random(seed)
    if rng.random() < 0.1:
        return of_bytes(data, rng), ["bytes"]
    model = onnx.ModelProto.FromString(data)
    done: list[str] = []
    wanted = rng.choice((1, 1, 1, 2, 3))
    for function in _drawn(rng, 20):
        try:
            applied = function(model, rng)
        except (ValueError, TypeError):  # what protobuf cannot hold
            applied = False
        if applied:
            done.append(function.__name__)
        if len(done) == wanted:
            break
    return model.SerializeToString(), done


def _drawn(rng: random.Random, count: int) -> Sequence[Damage]:
    return [rng.choice(DAMAGES) for _ in range(count)]
