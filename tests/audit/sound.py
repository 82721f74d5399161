"""Sound networks of kinds that audits have called broken, and what an audit may say of them.

Each has a twin with a real defect of the same look, which must stay an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from builders import model, weight

I64 = np.int64


@dataclass(frozen=True)
class Sound:
    """A network that passes.

    Attributes:
        make: the network.
        says: the checks whose words fit it, with the place that they name; no error.
        broken: its twin, with the check that must be an error of it; None if it has none.
    """

    make: Callable[[], onnx.ModelProto]
    says: Mapping[str, str | None]
    broken: tuple[Callable[[], onnx.ModelProto], str] | None = None


W = {
    "w": weight(6, 16), "r": weight(16, 16, seed=1), "v": weight(16, 4, seed=2), "u": weight(16, 16, seed=3),
    "one": np.float32(1), "zero": np.float32(0), "last": np.array([-1], I64), "half": np.float32(0.5),
}  # fmt: skip


def net(text: str, **more: np.ndarray | np.generic) -> onnx.ModelProto:
    """A network with those of the weights above that it names, and more."""
    arrays = {n: np.asarray(a) for n, a in (W | more).items()}
    words = set(re.findall(r"\w+", text))
    return model(text, {n: a for n, a in arrays.items() if n in words})


def mask_embedding(gate: str = "g = Sub(one, has_mask_input)") -> onnx.ModelProto:
    """What stands for a mask where none is given."""
    return net(
        f"""(float[N,6] x, float[1] has_mask_input) => (float[N,4] y) {{
        h = MatMul(x, w) {gate} e = MatMul(h, r) m = Mul(e, g) s = Add(h, m)
        a = Tanh(s) y = MatMul(a, v) }}"""
    )


def hidden_positions(mask: str = "b = Identity(mask)") -> onnx.ModelProto:
    """Hidden positions are replaced by what a layer makes of them: none is hidden by default."""
    return net(
        f"""(float[N,8,6] x, bool[N,8] mask) => (float[N,8,4] y) {{
        h = MatMul(x, w) {mask} c = Unsqueeze(b, last) e = MatMul(h, r) s = Where(c, h, e)
        a = Tanh(s) y = MatMul(a, v) }}"""
    )


def conditioned(fixed: bool = False) -> onnx.ModelProto:
    """Features of one number for the whole batch: the same for every sample, whatever the sample."""
    number = "t = Identity(half)" if fixed else "t = Identity(temperature)"
    return net(
        f"""(float[N,6] x, float[1] temperature) => (float[N,4] y) {{
        h = MatMul(x, w) {number} n = ReduceSum<keepdims = 1>(h, axis) z = Mul(n, zero)
        p = Add(z, t) q = Expand(p, wide) c = MatMul(q, k) d = Tanh(c) f = MatMul(d, r)
        o = Add(f, temperature) s = Add(h, o) a = Tanh(s) y = MatMul(a, v) }}""",
        axis=np.array([1], I64), wide=np.array([1, 3], I64), k=weight(3, 16, seed=5),
    )  # fmt: skip


def unread_points(closed: str = "") -> onnx.ModelProto:
    """Tokens of points beside those of the outputs, which no output reads: no attention between tokens."""
    read = "ReduceSum<keepdims = 0>(a, first)" if closed else "Gather<axis = 1>(a, begin)"
    return net(
        f"""(float[N,6] x, float[N,5,6] points) => (float[N,4] y) {{
        h = MatMul(x, w) t = Unsqueeze(h, first) e = MatMul(points, p) {closed or 'q = Tanh(e)'}
        j = Concat<axis = 1>(t, q) m = MatMul(j, r) a = Tanh(m)
        s = {read} y = MatMul(s, v) }}""",
        first=np.array([1], I64), begin=np.array(0, I64), p=weight(6, 16, seed=6),
    )  # fmt: skip


def experts(route: str = "best = ArgMax<axis = 1, keepdims = 1>(d)") -> onnx.ModelProto:
    """Each sample by the expert that a router picks."""
    return net(
        f"""(float[N,6] x) => (float[N,4] y) {{
        h = MatMul(x, w) d = MatMul(h, k) {route} e0 = MatMul(h, r) e1 = MatMul(h, u)
        i0 = Equal(best, c0) i1 = Equal(best, c1) m0 = Cast<to = 1>(i0) m1 = Cast<to = 1>(i1)
        s0 = Mul(e0, m0) s1 = Mul(e1, m1) s = Add(s0, s1) a = Tanh(s) y = MatMul(a, v) }}""",
        k=weight(16, 2, seed=7), c0=np.array(0, I64), c1=np.array(1, I64),
    )  # fmt: skip


def hard_steps() -> onnx.ModelProto:
    """Not experts: the step of a layer is taken for features."""
    return net(
        """(float[N,6] x) => (float[N,4] y) {
        h = MatMul(x, w) d = MatMul(h, u) b = Greater(d, zero) m = Cast<to = 1>(b) e = MatMul(m, r)
        s = Add(h, e) a = Tanh(s) y = MatMul(a, v) }"""
    )


def merged(other: str = "n = MatMul(h, r)") -> onnx.ModelProto:
    """A decoder with and without a cache: an If over shared weights, and one branch with its own layer."""
    return net(
        f"""(float[N,6] x, bool use_cache_branch) => (float[N,4] y) {{
        h = MatMul(x, w) z = If(use_cache_branch) <
        then_branch = th () => (float[N,16] p) {{ e = MatMul(h, r) p = Tanh(e) }},
        else_branch = el () => (float[N,16] o) {{ {other} f = Tanh(n) o = MatMul(f, u) }}>
        y = MatMul(z, v) }}"""
    )


def token_types(rows: int = 1) -> onnx.ModelProto:
    """A table of one row."""
    return net(
        """(int64[N,8] ids, int64[N,8] token_types) => (float[N,8,4] y) {
        a = Gather(words, ids) b = Gather(kinds, token_types) s = Add(a, b) t = Tanh(s) y = MatMul(t, v) }""",
        words=weight(32, 16, seed=8), kinds=np.tile(weight(1, 16, seed=9), (rows, 1)),
    )  # fmt: skip


def masked_attention(low: float = -1e9, scale: float = 1.0, how: str = "Add") -> onnx.ModelProto:
    """Attention under a mask of large negative numbers, added or put in."""
    add = "k = Sub(one, f) l = Mul(k, low) g = Add(q, l)"
    put = "b = Cast<to = 9>(f) g = Where(b, q, low)"
    return net(
        f"""(float[N,8,6] x, int64[N,8] attention_mask) => (float[N,8,4] y) {{
        h = MatMul(x, w) c = Unsqueeze(attention_mask, first) f = Cast<to = 1>(c)
        e = MatMul(h, r) t = Transpose<perm = [0, 2, 1]>(h) n = MatMul(e, t) q = Mul(n, scale)
        {add if how == 'Add' else put} s = Softmax<axis = -1>(g) o = MatMul(s, h) y = MatMul(o, v) }}""",
        first=np.array([1], I64), low=np.float32(low), scale=np.float32(scale),
    )  # fmt: skip


def causal_attention(scale: float = 1.0, low: float = -1e9) -> onnx.ModelProto:
    """A fixed mask."""
    least = np.triu(np.full((8, 8), low, np.float32), 1)
    return net(
        """(float[N,8,6] x) => (float[N,8,4] y) {
        h = MatMul(x, w) e = MatMul(h, r) t = Transpose<perm = [0, 2, 1]>(h) n = MatMul(e, t)
        q = Mul(n, scale) g = Add(q, mask) s = Softmax<axis = -1>(g) o = MatMul(s, h) y = MatMul(o, v) }""",
        mask=least, scale=np.float32(scale),
    )  # fmt: skip


def rms_norm(size: float = 8e3, square: str = "q = Pow(h, two)", norm: bool = True) -> onnx.ModelProto:
    """Activations of some thousand, as in large language models, whose squares only a norm reads."""
    tail = "k = Sqrt(j) n = Div(h, k)" if norm else "n = Mul(q, tiny)"
    return net(
        f"""(float[N,6] x) => (float[N,4] y) {{
        g = MatMul(x, w) h = Mul(g, size) {square} i = ReduceMean<keepdims = 1>(q, last) j = Add(i, half)
        {tail} a = MatMul(n, r) t = Tanh(a) y = MatMul(t, v) }}""",
        size=np.float32(size), two=np.float32(2), tiny=np.float32(1e-8),
    )  # fmt: skip


def pooled_under_a_mask() -> onnx.ModelProto:
    """An encoder that hands on its states, and their mean over what is not padding (True in the mask)."""
    return net(
        """(float[N,8,6] x, bool[N,8] src_mask) => (float[N,8,16] states, float[N,4] y) {
        h = MatMul(x, w) states = Tanh(h) k = Not(src_mask) c = Unsqueeze(k, last) f = Cast<to = 1>(c)
        m = Mul(states, f) t = ReduceSum<keepdims = 0>(m, first) n = ReduceSum<keepdims = 0>(f, first)
        d = Clip(n, one) p = Div(t, d) e = MatMul(p, r) a = Tanh(e) y = MatMul(a, v) }""",
        first=np.array([1], I64),
    )


def attention_over_memory() -> onnx.ModelProto:
    """A decoder's step: attention over states of which the padding (True in the mask) is hidden."""
    return net(
        """(float[N,6] x, float[N,8,16] memory, bool[N,8] memory_mask) => (float[N,4] y) {
        h = MatMul(x, w) q = MatMul(h, r) c = Unsqueeze(q, last) l = MatMul(memory, c) n = Squeeze(l, last)
        g = Where(memory_mask, low, n) s = Softmax<axis = -1>(g) b = Unsqueeze(s, first) o = MatMul(b, memory)
        z = Squeeze(o, first) k = Add(z, h) a = Tanh(k) y = MatMul(a, v) }""",
        first=np.array([1], I64), low=np.float32(-1e9),
    )  # fmt: skip


def shifts_in_ppm(growth: float = 1.0) -> onnx.ModelProto:
    """A regression that ends in its own unit: a table of means, and a scale."""
    return net(
        """(float[N,6] x, int64[N] kinds) => (float[N,4] y) {
        h = MatMul(x, w) g = Mul(h, growth) a = Relu(g) e = MatMul(a, r) b = Relu(e) z = MatMul(b, v)
        p = Mul(z, spread) m = Gather(means, kinds) y = Add(p, m) }""",
        growth=np.float32(growth), spread=np.array([3e3, 1e3, 2e3, 5e3], np.float32),
        means=2e3 * weight(20, 4, seed=10),
    )  # fmt: skip


def object_queries(scored: bool = True) -> onnx.ModelProto:
    """A detector's first decoder block: learned queries, in heads, look at what a backbone gives."""
    scores = "p = Softmax(s)" if scored else "p = Sigmoid(s)"
    return net(
        f"""(float[N,7,8] x) => (float[N,2,3,5] y) {{
        h = MatMul(x, w) n = Shape<end = 1>(x) to = Concat<axis = 0>(n, each) many = Expand(queries, to)
        q1 = MatMul(many, project) q2 = Reshape(q1, cut) q = Transpose<perm = [0, 2, 1, 3]>(q2)
        k1 = Reshape(h, cut) k = Transpose<perm = [0, 2, 3, 1]>(k1)
        s = MatMul(q, k) {scores} values = Transpose<perm = [0, 1, 3, 2]>(k) a = MatMul(p, values)
        y = MatMul(a, out) }}""",
        w=weight(8, 8), queries=weight(3, 8, seed=3), project=weight(8, 8, seed=4), out=weight(4, 5, seed=5),
        each=np.array([3, 8]), cut=np.array([0, 0, 2, 4]),
    )  # fmt: skip


SOUND: Mapping[str, Sound] = {
    "what stands for a missing mask": Sound(
        mask_embedding, {"input-dependent": "e"},
        (lambda: mask_embedding("g = Mul(has_mask_input, zero)"), "dead-layers"),
    ),
    "what stands for hidden positions": Sound(hidden_positions, {"input-dependent": "e"}),
    "a mean over what is not padding": Sound(pooled_under_a_mask, {}),
    "attention over a memory": Sound(attention_over_memory, {}),
    "outputs in ppm": Sound(shifts_in_ppm, {}, (lambda: shifts_in_ppm(1e8), "activation-range")),
    "conditioned on one number": Sound(
        conditioned, {"input-dependent": None}, (lambda: conditioned(True), "collapsed")
    ),
    "tokens that no output reads": Sound(
        unread_points, {"unread-layers": None}, (lambda: unread_points("q = Mul(e, zero)"), "dead-layers")
    ),
    "queries that are learned": Sound(
        object_queries, {"learned-queries": "s"}, (lambda: object_queries(False), "weights-not-recognised")
    ),
    "a router": Sound(experts, {"deciding-layers": None}, (hard_steps, "unreached-layers")),
    "a merged decoder": Sound(merged, {"branches-not-run": None}),
    "one token type": Sound(token_types, {"one-row-tables": None}, (lambda: token_types(2), "collapsed")),
    "a mask that is added": Sound(
        masked_attention, {}, (lambda: masked_attention(scale=1e9), "activation-range")
    ),
    "a mask that is put in": Sound(
        lambda: masked_attention(how="Where"), {},
        (lambda: masked_attention(scale=1e9, how="Where"), "activation-range"),
    ),
    "a fixed mask": Sound(causal_attention, {}, (lambda: causal_attention(1e9), "activation-range")),
    "a fixed mask of the least float": Sound(
        lambda: causal_attention(low=float(np.finfo(np.float32).min)), {},
        (lambda: causal_attention(1e9), "activation-range"),
    ),
    "the square in a norm": Sound(rms_norm, {}, (lambda: rms_norm(1e8), "activation-range")),
    "the product in a norm": Sound(
        lambda: rms_norm(square="q = Mul(h, h)"), {}, (lambda: rms_norm(norm=False), "activation-range")
    ),
}  # fmt: skip
