"""Functions that exporters write out: fused where they are the same to 1e-12, and left where they are not."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping

import numpy as np
import onnx
import pytest
import torch
from builders import model, normalised
from torch import Tensor, fx

import intrain_onnx
from intrain_onnx.runtime.convert import convert
from intrain_onnx.runtime.fuse import fuse
from intrain_onnx.runtime.interpreter import NodeError, run

ROOT = math.sqrt(2 / math.pi)
NUMBERS = {
    "half": 0.5,
    "one": 1.0,
    "two": 2.0,
    "three": 3.0,
    "six": 6.0,
    "zero": 0.0,
    "sixth": 1 / 6,
    "root2": math.sqrt(2),
    "inverse2": math.sqrt(0.5),
    "cubic": 0.044715,
    "root": ROOT,
    "slope": ROOT * 0.044715,
    "minus_half": -0.5,
    "eps": 1e-5,
    "scale": 0.3,
}
VECTORS = {"g": (8,), "b": (8,), "w": (8, 8), "g3": (1, 1, 8), "g2": (5, 8), "b2": (5, 8)}
OTHERS = {
    "last": np.array([-1]),
    "third": np.array([2]),
    "ten": np.array([20]),
    "both": np.array([1, 2]),
    "middle": np.array([1]),
    "mask": np.triu(np.full((5, 5), -np.inf), 1),
    "blind": np.where(np.arange(5)[:, None] == 2, -np.inf, np.zeros((5, 5))),
}
X = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 5, 8)) * 3)
X[0, 0] = torch.tensor([-3.0, 3.0, 0.0, -1e-9, 40.0, -40.0, 2.999999, -3.000001])


def written(body: str, outputs: str = "y", form: str = "double") -> onnx.ModelProto:
    """A graph of these nodes, with the constants and parameters that they read."""
    rng = np.random.default_rng(1)
    values: dict[str, np.ndarray] = {k: np.array(v) for k, v in NUMBERS.items()}
    values |= {k: rng.standard_normal(s) for k, s in VECTORS.items()} | OTHERS
    kind = {"double": np.float64, "float": np.float32, "float16": np.float16}[form]
    used = {k: v.astype(kind) if v.dtype == np.float64 else v for k, v in values.items() if named(k, body)}
    typed = ", ".join(f"{form}[N,M,K] {name}" for name in outputs.split())
    return model(f"({form}[N,5,8] x) => ({typed}) {{ {body} }}", used)


def named(name: str, body: str) -> bool:
    return name in "".join(c if c.isalnum() or c == "_" else " " for c in body).split()


def converted(body: str, outputs: str = "y", form: str = "double") -> fx.GraphModule:
    return convert(normalised(written(body, outputs, form), batch=None), VECTORS)


def operators(module: fx.GraphModule) -> list[str]:
    nodes = (n for n in module.graph.nodes if n.op == "call_function")
    return [n.meta["onnx_op"] for n in nodes if n.meta["onnx_op"] != "Output"]


def passed(module: fx.GraphModule, x: Tensor) -> list[Tensor]:
    """Outputs, and the gradients of the input and all parameters."""
    fed = x.clone().requires_grad_()
    outputs = [part[0] for part in run(module, [fed])]
    direction = torch.Generator().manual_seed(3)
    loss = sum((y * torch.randn(y.shape, generator=direction, dtype=y.dtype)).sum() for y in outputs)
    wanted = [fed, *(module.get_parameter(p) for p in module.meta["parameters"].values())]
    return [*outputs, *torch.autograd.grad(loss, wanted)]  # type: ignore[arg-type]


def same(plain: fx.GraphModule, fused: fx.GraphModule, x: Tensor = X) -> None:
    for ours, theirs in zip(passed(fused, x), passed(plain, x), strict=True):
        np.testing.assert_allclose(
            ours.detach(), theirs.detach(), rtol=1e-12, atol=1e-12 * theirs.abs().max().item()
        )


def check(body: str, expected: str, keep: Collection[str] = ()) -> fx.GraphModule:
    plain = converted(body)
    fused = fuse(plain, keep)
    fused.graph.lint()
    assert operators(fused) == expected.split()
    same(plain, fused)
    return fused


def gelus() -> Iterator[str]:
    """GELU by every order of operands and grouping of the product."""
    arguments = ("a = Div(x, root2)", "a = Mul(x, inverse2)", "a = Mul(inverse2, x)")
    sums = ("s = Add(e, one)", "s = Add(one, e)")
    products = (
        "p = Mul(x, s) y = Mul(p, half)",
        "p = Mul(s, x) y = Mul(half, p)",
        "p = Mul(x, half) y = Mul(p, s)",
        "p = Mul(half, x) y = Mul(s, p)",
        "p = Mul(s, half) y = Mul(x, p)",
        "p = Mul(half, s) y = Mul(p, x)",
        "p = Mul(x, s) y = Div(p, two)",
        "p = Div(x, two) y = Mul(p, s)",
    )
    for argument, total, product in itertools.product(arguments, sums, products):
        yield f"{argument} e = Erf(a) {total} {product}"
    yield "a = Div(x, root2) e = Erf(a) t = Mul(half, e) p = Add(t, half) y = Mul(x, p)"
    yield "n = Neg(x) a = Mul(n, inverse2) e = Erf(a) s = Sub(one, e) p = Mul(x, half) y = Mul(p, s)"
    yield "a = Div(x, root2) e = Erf(a) h = Mul(x, half) p = Mul(e, h) y = Add(h, p)"


@pytest.mark.parametrize("body", gelus())
def test_gelu_in_every_order(body: str):
    check(body, "Gelu")


ACTIVATIONS = {
    "tanh, powers": (
        "c = Pow(x, three) k = Mul(c, cubic) i = Add(x, k) a = Mul(root, i) t = Tanh(a) s = Add(t, one) "
        "h = Mul(half, x) y = Mul(h, s)",
        "Gelu",
    ),
    "tanh, products": (
        "q = Mul(x, x) k = Mul(q, cubic) i = Add(one, k) r = Mul(x, root) a = Mul(r, i) t = Tanh(a) "
        "s = Add(one, t) h = Mul(x, s) y = Mul(h, half)",
        "Gelu",
    ),
    "tanh, three factors": (
        "q = Mul(x, x) c = Mul(q, x) k = Mul(slope, c) r = Mul(root, x) a = Add(k, r) t = Tanh(a) "
        "s = Add(t, one) f = Mul(s, half) y = Mul(x, f)",
        "Gelu",
    ),
    "silu": ("s = Sigmoid(x) y = Mul(x, s)", "Swish"),
    "silu, turned": ("s = Sigmoid(x) y = Mul(s, x)", "Swish"),
    "hardswish, clip": (
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
        "HardSwish",
    ),
    "hardswish, clip first": (
        "a = Add(three, x) c = Clip(a, zero, six) m = Div(c, six) y = Mul(m, x)",
        "HardSwish",
    ),
    "hardswish, sixth": (
        "a = Add(x, three) c = Clip(a, zero, six) m = Mul(c, sixth) y = Mul(x, m)",
        "HardSwish",
    ),
    "hardswish, unit": (
        "a = Mul(x, sixth) s = Add(a, half) c = Clip(s, zero, one) y = Mul(c, x)",
        "HardSwish",
    ),
    "hardswish, minimum": (
        "a = Add(x, three) r = Relu(a) c = Min(r, six) m = Mul(x, c) y = Mul(m, sixth)",
        "HardSwish",
    ),
    "hardswish, bounds": (
        "a = Add(x, three) r = Max(a, zero) c = Min(r, six) m = Mul(c, x) y = Div(m, six)",
        "HardSwish",
    ),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str):
    body, expected = ACTIVATIONS[name]
    check(body, expected)


def test_hard_swish_by_hard_sigmoid_as_its_attribute_is_in_float32():
    alpha = float(np.float32(1 / 6))
    body = f"s = HardSigmoid<alpha = {alpha!r}, beta = 0.5>(x) y = Mul(x, s)"
    plain = converted(body, form="float")
    fused = fuse(plain, ())
    assert operators(fused) == ["HardSwish"]
    for ours, theirs in zip(passed(fused, X.float()), passed(plain, X.float()), strict=True):
        np.testing.assert_allclose(ours.detach(), theirs.detach(), rtol=1e-6, atol=1e-6)


OTHER_FUNCTIONS = {
    "another constant in erf": "a = Div(x, two) e = Erf(a) s = Add(e, one) m = Mul(x, s) y = Mul(m, half)",
    "no half": "a = Div(x, root2) e = Erf(a) s = Add(e, one) y = Mul(x, s)",
    "erfc": "a = Div(x, root2) e = Erf(a) s = Sub(one, e) m = Mul(x, s) y = Mul(m, half)",
    "gate of another value": "h = Sin(x) a = Div(h, root2) e = Erf(a) s = Add(e, one) m = Mul(x, s) "
    "y = Mul(m, half)",
    "cubic term lacks": "a = Mul(x, root) t = Tanh(a) s = Add(t, one) m = Mul(x, s) y = Mul(m, half)",
    "sigmoid of two x": "a = Mul(x, two) s = Sigmoid(a) y = Mul(x, s)",
    "default hard sigmoid": "s = HardSigmoid(x) y = Mul(x, s)",
    "bound of one": "a = Add(x, three) c = Clip(a, zero, one) m = Mul(x, c) y = Div(m, six)",
    "lower bound": "a = Add(x, three) c = Clip(a, half, six) m = Mul(x, c) y = Div(m, six)",
    "shift of two": "a = Add(x, two) c = Clip(a, zero, six) m = Mul(x, c) y = Div(m, six)",
    "axis in the middle": "m = ReduceMean(x, middle) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, middle) "
    "e = Add(v, eps) r = Sqrt(e) y = Div(d, r)",
    "means over other axes": "m = ReduceMean(x, both) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, middle) "
    "e = Add(v, eps) r = Sqrt(e) y = Div(d, r)",
    "epsilon outside": "m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) "
    "r = Sqrt(v) e = Add(r, eps) y = Div(d, e)",
    "no epsilon": "q = Mul(x, x) v = ReduceMean(q, last) r = Sqrt(v) y = Div(x, r)",
    "divides by the variance": "q = Mul(x, x) v = ReduceMean(q, last) e = Add(v, eps) y = Div(x, e)",
    "root divided by value": "q = Mul(x, x) v = ReduceMean(q, last) e = Add(v, eps) r = Sqrt(e) "
    "y = Div(r, x)",
    "another value divided": "q = Mul(x, x) v = ReduceMean(q, last) e = Add(v, eps) r = Sqrt(e) s = Sin(x) "
    "y = Div(s, r)",
    "bias of a row": "m = MatMul(x, w) y = Add(m, b2)",
    "softmax over queries": "k = Transpose<perm = [0,2,1]>(x) s = MatMul(x, k) p = Softmax<axis = 1>(s) "
    "y = MatMul(p, x)",
    "weights on the right": "k = Transpose<perm = [0,2,1]>(x) s = MatMul(x, k) p = Softmax(s) "
    "y = MatMul(k, p)",
    "all keys hidden": "k = Transpose<perm = [0,2,1]>(x) s = MatMul(x, k) m = Add(s, blind) p = Softmax(m) "
    "y = MatMul(p, x)",
}


@pytest.mark.parametrize("name", OTHER_FUNCTIONS)
def test_what_only_looks_alike_is_left(name: str):
    plain = converted(OTHER_FUNCTIONS[name])
    assert operators(fuse(plain, ())) == operators(plain)


MEANS = {"d": "m = ReduceMean(x, last) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) e = Add(v, eps)"}
NORMS = {
    "divided": (MEANS["d"] + " r = Sqrt(e) n = Div(d, r) s = Mul(n, g) y = Add(s, b)", "LayerNormalization"),
    "operands turned": (
        "m = ReduceMean(x, third) d = Sub(x, m) q = Pow(d, two) v = ReduceMean(q, third) e = Add(eps, v) "
        "r = Sqrt(e) n = Div(d, r) s = Mul(g, n) y = Add(b, s)",
        "LayerNormalization",
    ),
    "mean subtracted twice": (
        MEANS["d"] + " r = Sqrt(e) f = Sub(x, m) n = Div(f, r) s = Mul(n, g) y = Add(s, b)",
        "LayerNormalization",
    ),
    "reciprocal": (
        MEANS["d"] + " r = Sqrt(e) i = Reciprocal(r) n = Mul(d, i) s = Mul(n, g) y = Add(s, b)",
        "LayerNormalization",
    ),
    "one divided": (
        MEANS["d"] + " r = Sqrt(e) i = Div(one, r) n = Mul(i, d) s = Mul(n, g) y = Add(s, b)",
        "LayerNormalization",
    ),
    "power": (
        MEANS["d"] + " i = Pow(e, minus_half) n = Mul(d, i) s = Mul(n, g3) y = Add(s, b)",
        "LayerNormalization",
    ),
    "two axes": (
        "m = ReduceMean(x, both) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, both) e = Add(v, eps) "
        "r = Sqrt(e) "
        "n = Div(d, r) s = Mul(n, g2) y = Add(s, b2)",
        "LayerNormalization",
    ),
    "no parameters": (MEANS["d"] + " r = Sqrt(e) y = Div(d, r)", "LayerNormalization"),
    "scale alone": (MEANS["d"] + " r = Sqrt(e) n = Div(d, r) y = Mul(n, g)", "LayerNormalization"),
    "bias alone": (MEANS["d"] + " r = Sqrt(e) n = Div(d, r) y = Add(n, b)", "LayerNormalization"),
    "TensorFlow": (
        MEANS["d"] + " r = Sqrt(e) i = Reciprocal(r) j = Mul(i, g) f = Mul(x, j) h = Mul(m, j) k = Sub(b, h) "
        "y = Add(f, k)",
        "LayerNormalization",
    ),
    "TensorFlow, negative": (
        "o = GlobalAveragePool(x) u = Neg(o) d = Sub(x, o) q = Mul(d, d) v = GlobalAveragePool(q) "
        "e = Add(v, eps) "
        "r = Sqrt(e) i = Reciprocal(r) j = Mul(i, g3) f = Mul(x, j) h = Mul(u, j) z = Add(f, h) "
        "y = Add(z, b)",
        "LayerNormalization",
    ),
    "TensorFlow, no bias": (
        MEANS["d"] + " r = Sqrt(e) i = Reciprocal(r) f = Mul(x, i) h = Mul(m, i) y = Sub(f, h)",
        "LayerNormalization",
    ),
    "RMS": (
        "q = Pow(x, two) v = ReduceMean(q, last) e = Add(v, eps) r = Sqrt(e) n = Div(x, r) y = Mul(n, g)",
        "RMSNormalization",
    ),
    "RMS, reciprocal": (
        "q = Mul(x, x) v = ReduceMean(q, last) e = Add(v, eps) r = Sqrt(e) i = Reciprocal(r) n = Mul(x, i) "
        "y = Mul(g, n)",
        "RMSNormalization",
    ),
    "RMS, scale first": (
        "q = Mul(x, x) v = ReduceMean(q, last) e = Add(v, eps) i = Pow(e, minus_half) j = Mul(i, g) "
        "y = Mul(j, x)",
        "RMSNormalization",
    ),
    "RMS of what lacks a mean over other axes": (
        "m = ReduceMean(x, both) d = Sub(x, m) q = Mul(d, d) v = ReduceMean(q, last) e = Add(v, eps) "
        "r = Sqrt(e) "
        "y = Div(d, r)",
        "ReduceMean Sub RMSNormalization",
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms(name: str):
    body, expected = NORMS[name]
    check(body, expected)


KEYS = "k = Transpose<perm = [0,2,1]>(x)"
ATTENTIONS = {
    "plain": (f"{KEYS} s = MatMul(x, k) p = Softmax(s) y = MatMul(p, x)", "Transpose Attention"),
    "scores divided": (
        f"{KEYS} s = MatMul(x, k) t = Div(s, six) p = Softmax<axis = 2>(t) y = MatMul(p, x)",
        "Transpose Attention",
    ),
    "queries scaled, mask": (
        f"{KEYS} q = Mul(scale, x) s = MatMul(q, k) t = Add(s, mask) p = Softmax(t) y = MatMul(p, x)",
        "Transpose Attention",
    ),
    "both scaled, mask first": (
        f"{KEYS} q = Mul(x, scale) l = Mul(k, scale) s = MatMul(q, l) t = Add(mask, s) p = Softmax(t) "
        "y = MatMul(p, x)",
        "Transpose Attention",
    ),
    "mask of zero": (
        f"{KEYS} s = MatMul(x, k) t = Mul(s, scale) u = Add(t, zero) p = Softmax(u) y = MatMul(p, x)",
        "Transpose Attention",
    ),
}


@pytest.mark.parametrize("name", ATTENTIONS)
def test_attention(name: str):
    body, expected = ATTENTIONS[name]
    check(body, expected)


def test_attention_of_several_heads_that_broadcast():
    body = (
        "h = Unsqueeze(x, middle) c = Concat<axis = 1>(h, h) k = Transpose<perm = [0,1,3,2]>(h) "
        "s = MatMul(c, k) "
        "t = Mul(s, scale) p = Softmax(t) o = MatMul(p, c) y = ReduceSum<keepdims = 0>(o, middle)"
    )
    check(body, "Unsqueeze Concat Transpose Attention ReduceSum")


@pytest.mark.parametrize("total", ["Add(m, b)", "Add(b, m)"])
def test_a_linear_map_with_its_bias(total: str):
    check(f"m = MatMul(x, w) y = {total}", "MatMul")


def test_what_is_inside_of_another_is_put_together_too():
    check(
        "m = MatMul(x, w) n = Add(m, b) a = Div(n, root2) e = Erf(a) s = Add(e, one) h = Mul(n, s) "
        "z = Mul(h, half) "
        "u = Add(x, z) y = Mul(u, half)",
        "MatMul Gelu Add Mul",
    )


@pytest.mark.parametrize(
    ("body", "kept"),
    [
        ("a = Div(x, root2) e = Erf(a) s = Add(e, one) p = Mul(x, s) y = Mul(p, half)", "aesp"),
        ("s = Sigmoid(x) y = Mul(x, s)", "s"),
        ("m = MatMul(x, w) y = Add(m, b)", "m"),
        (MEANS["d"] + " r = Sqrt(e) y = Div(d, r)", "mdqver"),
        (f"{KEYS} s = MatMul(x, k) t = Div(s, six) p = Softmax(t) y = MatMul(p, x)", "sp"),
    ],
)
def test_what_is_to_stay_visible_stays(body: str, kept: str):
    plain = converted(body)
    for name in kept:
        seen: list[Tensor] = []
        fused = fuse(plain, [name])
        run(fused, [X], {name: lambda parts, seen=seen: seen.extend(parts)})  # type: ignore[dict-item]
        assert len(seen) == 1
        same(plain, fused)
    for name in kept:  # and where something else reads it
        shown = converted(f"{body} z = Identity({name})", "y z")
        same(shown, fuse(shown, ()))
        assert any(op not in ("Gelu", "Attention", "Swish") for op in operators(fuse(shown, ())))


def test_a_scale_that_stays_visible_keeps_the_norm_alone():
    body = MEANS["d"] + " r = Sqrt(e) n = Div(d, r) s = Mul(n, g) y = Add(s, b)"
    check(body, "LayerNormalization Mul Add", ["n"])
    check(body, "LayerNormalization Add", ["s"])


def test_trained_numbers_are_no_constants():
    proto = written("a = Div(x, root2) e = Erf(a) s = Add(e, one) p = Mul(x, s) y = Mul(p, half)")
    plain = convert(normalised(proto, batch=None), ["half"])
    fused = fuse(plain, ())
    assert operators(fused) == operators(plain)
    same(plain, fused)


def test_half_precision_rounds_each_node():
    for body, _ in (*ACTIVATIONS.values(), NORMS["divided"], ATTENTIONS["plain"]):
        plain = convert(normalised(written(body, form="float16"), batch=None), half_as_float=False)
        assert operators(fuse(plain, ())) == operators(plain)


def test_constants_are_folded_and_identities_dropped():
    plain = converted(
        "i = Identity(b) h = Pow(three, minus_half) j = Mul(h, two) m = Mul(x, j) n = Add(m, i) "
        "c = Concat<axis = 0>(last, ten) r = Reshape(n, c) f = Shape(x) y = Reshape(r, f)"
    )
    fused = check_same(plain, fuse(plain, ()))
    assert operators(fused) == ["Mul", "Add", "Reshape", "Shape", "Reshape"]
    assert operators(fuse(plain, ["h", "i"])) == ["Identity", "Pow", "Mul", *operators(fused)]


def test_the_shape_of_a_constant_shape_is_folded():
    plain = converted(
        "c = Concat<axis = 0>(third, third, ten) r = Reshape(x, c) t = Transpose<perm = [2,0,1]>(r) "
        "f = Shape(t) "
        "k = Cast<to = 11>(f) l = ReduceMax<keepdims = 0>(k) m = Sqrt(l) z = Mul(t, m) s = Shape(x) "
        "y = Reshape(z, s)"
    )
    assert "Sqrt" not in operators(check_same(plain, fuse(plain, ())))


def check_same(plain: fx.GraphModule, fused: fx.GraphModule) -> fx.GraphModule:
    fused.graph.lint()
    same(plain, fused)
    return fused


def test_a_constant_that_becomes_no_number_is_still_blamed():
    plain = converted("n = Log(minus_half) l = Mul(n, two) y = Add(x, l)")
    assert "Log" in operators(fuse(plain, ()))
    masked = converted("l = Mul(mask, two) k = Neg(l) m = Neg(k) s = ReduceMax(m, last) y = Add(x, s)")
    assert operators(check_same(masked, fuse(masked, ()))) == ["Add"]


def test_random_numbers_are_drawn_at_each_run():
    plain = converted("r = RandomNormal<dtype = 11, shape = [8], seed = 1.0>() y = Add(x, r)")
    assert operators(fuse(plain, ())) == ["RandomNormal", "Add"]


def test_the_module_that_was_given_stays_and_shares_its_parameters():
    plain = converted("m = MatMul(x, w) n = Add(m, b) s = Sigmoid(n) y = Mul(n, s)")
    code = plain.code
    fused = fuse(plain, ())
    assert plain.code == code
    assert operators(fused) == ["MatMul", "Swish"]
    assert fused.meta["parameters"] == plain.meta["parameters"]
    for path in fused.meta["parameters"].values():
        assert fused.get_parameter(path) is plain.get_parameter(path)
    np.testing.assert_array_equal(fused(X).detach(), run(fused, [X])[0][0].detach())


BRANCH = (
    "s{0} = Sigmoid(x) t{0} = Mul(x, s{0}) a{0} = Div(t{0}, root2) e{0} = Erf(a{0}) u{0} = Add(e{0}, one) "
    "p{0} = Mul(t{0}, u{0}) r{0} = Mul(p{0}, half)"
)


def test_subgraphs_with_the_constants_that_they_capture():
    plain = converted(
        f"""total = ReduceSum<keepdims = 0>(x) c = Greater(total, zero)
        y = If<then_branch = first () => (double[N,M,K] r1) {{ {BRANCH.format(1)} }},
               else_branch = second () => (double[N,M,K] r2) {{ {BRANCH.format(2)} }}>(c)"""
    )
    fused = fuse(plain, ())
    assert [operators(branch) for branch in inside(fused)] == [["Swish", "Gelu"]] * 2
    assert [len(operators(branch)) for branch in inside(plain)] == [7, 7]
    for x in (X, X - 100, X + 100):
        same(plain, fused, x)
    assert "Sigmoid" in operators(inside(fuse(plain, ["s2"]))[1])


def inside(module: fx.GraphModule) -> list[fx.GraphModule]:
    return [m for m in module.children() if isinstance(m, fx.GraphModule)]


def test_an_error_names_the_product():
    proto = written("m = MatMul(x, w) y = Add(m, b)")
    proto.graph.node[0].name = "first"
    fused = fuse(convert(normalised(proto, batch=None)), ())
    with pytest.raises(NodeError, match="do not fit") as caught:
        run(fused, [X[..., :7]])
    assert (caught.value.node, caught.value.op) == ("first", "MatMul")


def test_to_torch_is_fused_and_the_parameters_have_the_names_of_the_file():
    module = intrain_onnx.to_torch(written("m = MatMul(x, w) n = Add(m, b) s = Sigmoid(n) y = Mul(n, s)"))
    assert operators(module) == ["MatMul", "Swish"]
    assert sorted(module.meta["parameters"]) == ["b", "w"]


def numbers(data: object, path: str = "") -> Mapping[str, float]:
    if isinstance(data, Mapping):
        return {
            k: v
            for key, d in data.items()
            if "timings" not in key
            for k, v in numbers(d, f"{path}/{key}").items()
        }
    if isinstance(data, list):
        return {k: v for i, d in enumerate(data) for k, v in numbers(d, f"{path}/{i}").items()}
    return {path: float(data)} if isinstance(data, (int, float)) else {}


SCORED = (
    "m = MatMul(x, w) n = Add(m, b) a = Div(n, root2) e = Erf(a) s = Add(e, one) h = Mul(n, s) "
    "z = Mul(h, half) "
    "c = ReduceMean(z, last) d = Sub(z, c) q = Mul(d, d) v = ReduceMean(q, last) f = Add(v, eps) r = Sqrt(f) "
    "o = Div(d, r) y = MatMul(o, w)"
)


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
def test_a_score_moves_by_rounding_alone(protocol: str, monkeypatch: pytest.MonkeyPatch):
    config = intrain_onnx.ScoreConfig.for_protocol(protocol, seeds=1, parity=False)
    proto = written(SCORED, form="float")
    ours = numbers(intrain_onnx.score(proto, config).data)
    monkeypatch.setattr("intrain_onnx.measure.prepare.fuse", lambda module, keep: module)
    theirs = numbers(intrain_onnx.score(proto, config).data)
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        assert value == pytest.approx(theirs[name], rel=1e-4, abs=1e-6), name
