"""The static pass on hand-made graphs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from builders import (
    WEIGHT_SOURCES,
    analysed,
    by_weight,
    for_probing,
    model,
    normalised,
    run_onnxruntime,
    weight,
)
from onnx import TensorProto, helper

from intrain_onnx.config import ScoreConfig
from intrain_onnx.network.layers import LayerMap, analyse


def depths(layers: LayerMap) -> dict[str, int]:
    return {name: layer.depth for name, layer in by_weight(layers).items()}


# Depth and liveness


def test_depth_is_the_longest_path() -> None:
    """A residual branch of two layers beside one of none, and a late join of a layer right on the input."""
    w = {name: weight(4, 4, seed=i) for i, name in enumerate("abcde")}
    text = """(float[N,4] x) => (float[N,4] y) {
        a1 = MatMul(x, a)
        b1 = MatMul(a1, b)
        b2 = Relu(b1)
        c1 = MatMul(b2, c)
        sum = Add(c1, a1)
        d1 = MatMul(x, d)
        both = Concat<axis = 0>(sum, d1)
        y = MatMul(both, e)
    }"""
    layers = analysed(model(text, w))
    assert depths(layers) == {"a": 1, "b": 2, "c": 3, "d": 1, "e": 4}
    assert [layer.depth for layer in layers.layers] == [1, 1, 2, 3, 4]
    assert {name: slot.depth for name, slot in layers.slots.items()} == depths(layers)


def test_elementwise_parameters_have_the_depth_of_the_layer_before() -> None:
    w = {"a": weight(4, 4), "b": weight(4, 4, seed=1), "s": weight(4), "t": weight(4), "p": weight(4)}
    text = """(float[N,4] x) => (float[N,4] y) {
        x1 = Add(x, p)
        h = MatMul(x1, a)
        h1 = Mul(h, s)
        h2 = Relu(h1)
        h3 = Sub(h2, t)
        y = MatMul(h3, b)
    }"""
    layers = analysed(model(text, w))
    assert {n: (s.role, s.depth) for n, s in layers.slots.items()} == {
        "p": ("offset", 0),
        "a": ("weight", 1),
        "s": ("scale", 1),
        "t": ("offset", 1),
        "b": ("weight", 2),
    }
    first = by_weight(layers)["a"].name
    assert layers.slots["s"].layer == layers.slots["t"].layer == first
    assert layers.slots["p"].layer is None


def test_what_reaches_no_output_is_not_live_and_what_no_input_reaches_is_fixed() -> None:
    w = {name: weight(4, 4, seed=i) for i, name in enumerate("abc")} | {"k": weight(4)}
    text = """(float[N,4] x) => (float[N,4] y) {
        h = MatMul(x, a)
        unused = MatMul(h, b)
        unused2 = Relu(unused)
        k1 = Exp(k)
        k2 = Sqrt(k1)
        s = Add(h, k2)
        y = MatMul(s, c)
    }"""
    layers = analysed(model(text, w))
    assert set(by_weight(layers)) == {"a", "c"}
    assert layers.live == {"h", "s", "y"}
    assert (layers.nodes, layers.fixed) == (7, 2)
    assert "b" not in layers.slots


def test_only_the_shape_of_an_input_makes_no_node_live() -> None:
    text = """(float[N,4] x) => (float[N,2] y) {
        s = Shape(x)
        t = Cast<to = 1>(s)
        h = MatMul(x, a)
        y = Identity(h)
    }"""
    layers = analysed(model(text, {"a": weight(4, 2)}))
    assert layers.live == {"h", "y"}


# Linear layers


def test_a_weight_of_two_layers_is_one_slot_where_it_is_first_used() -> None:
    text = """(float[N,4] x) => (float[N,4] y) { h = MatMul(x, a) r = Relu(h) y = MatMul(r, a) }"""
    layers = analysed(model(text, {"a": weight(4, 4)}))
    assert [layer.depth for layer in layers.layers] == [1, 2]
    assert [w.name for layer in layers.layers for w in layer.weights] == ["a", "a"]
    assert len({layer.name for layer in layers.layers}) == 2
    assert list(layers.slots) == ["a"]
    assert layers.slots["a"].depth == 1


def test_an_embedding_tied_to_the_logits_through_a_transpose() -> None:
    text = """(int64[N,5] ids) => (float[N,5,11] y) {
        h = Gather(table, ids)
        r = Relu(h)
        t = Transpose<perm = [1, 0]>(table)
        y = MatMul(r, t)
    }"""
    layers = analysed(model(text, {"table": weight(11, 6)}))
    embedding, logits = layers.layers
    assert (embedding.kind, embedding.weights[0].shape, embedding.channels) == ("embedding", (11, 6), 6)
    assert (logits.kind, logits.weights[0].shape, logits.channels) == ("linear", (11, 6), 11)
    assert embedding.weights[0].name == logits.weights[0].name == "table"
    assert list(layers.slots) == ["table"]


def test_gather_of_a_fixed_table_by_fixed_indices_is_no_embedding() -> None:
    """Such as the positions of a fixed length: nothing in it depends on the data."""
    weights = {"table": weight(16, 6), "index": np.arange(5), "a": weight(6, 3)}
    text = """(float[N,5,6] x) => (float[N,5,3] y) {
        p = Gather(table, index)
        s = Add(x, p)
        y = MatMul(s, a)
    }"""
    layers = analysed(model(text, weights))
    assert set(by_weight(layers)) == {"a"}


def test_gather_that_selects_from_activations_is_no_embedding() -> None:
    text = """(float[N,4] x) => (float[N] y) { h = MatMul(x, a) y = Gather<axis = 1>(h, i) }"""
    layers = analysed(model(text, {"a": weight(4, 3), "i": np.array(1)}))
    assert set(by_weight(layers)) == {"a"}


@pytest.mark.parametrize("shape", [(3,), (1, 3), (1, 1, 3)])
@pytest.mark.parametrize("operands", ["h, b", "b, h"])
def test_the_add_behind_a_matmul_is_its_bias(shape: tuple[int, ...], operands: str) -> None:
    text = f"(float[N,5,4] x) => (float[N,5,3] y) {{ h = MatMul(x, w) s = Add({operands}) y = Relu(s) }}"
    (layer,) = analysed(model(text, {"w": weight(4, 3), "b": weight(*shape)})).layers
    assert (layer.bias, layer.node_output, layer.output) == ("b", "h", "s")
    assert layer.bias_shape == shape


@pytest.mark.parametrize(
    ("shape", "why"),
    [
        ((), "one number"),
        ((5, 1), "along another axis"),
        ((5, 3), "a table"),
        ((1, 1, 1, 3), "of higher rank"),
    ],
)
def test_other_additions_are_no_bias(shape: tuple[int, ...], why: str) -> None:
    text = "(float[N,5,4] x) => (float y) { h = MatMul(x, w) s = Add(h, b) y = Relu(s) }"
    (layer,) = analysed(model(text, {"w": weight(4, 3), "b": weight(*shape)})).layers
    assert layer.bias is None, why
    assert layer.output == "h"


def test_an_addition_that_is_not_the_only_user_is_no_bias() -> None:
    text = "(float[N,4] x) => (float[N,3] y) { h = MatMul(x, w) s = Add(h, b) y = Mul(s, h) }"
    (layer,) = analysed(model(text, {"w": weight(4, 3), "b": weight(3)})).layers
    assert (layer.bias, layer.output) == (None, "h")


@pytest.mark.parametrize("trans_b", [0, 1])
@pytest.mark.parametrize("bias", [True, False])
def test_gemm_has_the_canonical_shape_of_out_and_in(trans_b: int, bias: bool) -> None:
    w = weight(3, 4) if trans_b else weight(4, 3)
    text = f"(float[N,4] x) => (float[N,3] y) {{ y = Gemm<transB = {trans_b}>(x, w{', b' if bias else ''}) }}"
    (layer,) = analysed(model(text, {"w": w} | ({"b": weight(3)} if bias else {}))).layers
    assert layer.weights[0].shape == (3, 4)
    assert (layer.weights[0].fan_in, layer.channels, layer.channel_axes) == (4, 3, (-1,))
    assert layer.bias == ("b" if bias else None)
    assert layer.macs == 12


def test_a_weight_on_the_left_has_its_channels_in_the_rows() -> None:
    """As the mixing of tokens is written: W @ x."""
    text = "(float[N,4,6] x) => (float[N,3,6] y) { y = MatMul(w, x) }"
    (layer,) = analysed(model(text, {"w": weight(3, 4)})).layers
    assert (layer.weights[0].shape, layer.channels, layer.channel_axes) == ((3, 4), 3, (-2,))


def test_a_product_of_two_activations_is_no_layer() -> None:
    text = "(float[N,4,4] x) => (float[N,4,4] y) { t = Transpose<perm = [0, 2, 1]>(x) y = MatMul(x, t) }"
    layers = analysed(model(text))
    assert layers.layers == ()
    assert layers.macs == 4 * 4 * 4


# Convolutions


def test_convolution_with_its_batch_norm_folded_or_beside() -> None:
    weights = {"w": weight(6, 3, 3, 3), "b": weight(6)}
    folded = "(float[N,3,8,8] x) => (float[N,6,6,6] y) { h = Conv(x, w, b) y = Relu(h) }"
    (layer,) = analysed(model(folded, weights)).layers
    assert (layer.weights[0].shape, layer.weights[0].fan_in) == ((6, 3, 3, 3), 27)
    assert (layer.bias, layer.channels, layer.channel_axes) == ("b", 6, (1,))
    norm = {n: np.abs(weight(6)) for n in ("scale", "offset", "mean", "var")}
    beside = """(float[N,3,8,8] x) => (float[N,6,6,6] y) {
        h = Conv(x, w)
        n = BatchNormalization(h, scale, offset, mean, var)
        y = Relu(n)
    }"""
    layers = analysed(model(beside, {"w": weights["w"], **norm}))
    assert [(x.bias, x.output) for x in layers.layers] == [(None, "h")]
    assert {n: s.role for n, s in layers.slots.items()} == {"w": "weight", "scale": "scale", "offset": "bias"}


def test_the_channels_of_an_nhwc_graph() -> None:
    text = """(float[N,8,8,3] x) => (float[N,10] y) {
        t = Transpose<perm = [0, 3, 1, 2]>(x)
        h = Conv<pads = [1, 1, 1, 1]>(t, w, b)
        u = Transpose<perm = [0, 2, 3, 1]>(h)
        r = Relu(u)
        m = ReduceMean<keepdims = 0>(r, axes)
        y = MatMul(m, d)
    }"""
    weights = {"w": weight(6, 3, 3, 3), "b": weight(6), "axes": np.array([1, 2]), "d": weight(6, 10)}
    conv, dense = analysed(model(text, weights)).layers
    assert (conv.output, conv.channel_axes, conv.channels, conv.depth) == ("h", (1,), 6, 1)
    assert (dense.weights[0].shape, dense.depth) == ((10, 6), 2)


@pytest.mark.parametrize("group", [1, 2, 4])
def test_transposed_convolution_in_canonical_shape(group: int) -> None:
    """(in, out / groups, k) in the file; (out, in / groups, k) canonical, groups in order."""
    w = weight(4, 6 // group if group != 4 else 1, 3)
    out = w.shape[1] * group
    text = f"(float[N,4,5] x) => (float[N,{out},7] y) {{ y = ConvTranspose<group = {group}>(x, w) }}"
    (layer,) = analysed(model(text, {"w": w})).layers
    found = layer.weights[0]
    assert found.shape == (out, 4 // group, 3)
    assert (found.fan_in, layer.channels) == (4 // group * 3, out)
    canonical = w
    for kind, argument in found.steps:
        canonical = canonical.reshape(argument) if kind == "reshape" else canonical.transpose(argument)
    for o, i, k in np.ndindex(*found.shape):
        per = w.shape[1]
        assert canonical[o, i, k] == w[o // per * (4 // group) + i, o % per, k]
    assert layer.macs == 5 * w.size


def test_recurrences() -> None:
    for op, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        for directions, direction in ((1, "forward"), (2, "bidirectional")):
            text = f"""(float[T,N,5] x) => (float y) {{
                s = {op}<hidden_size = 6, direction = "{direction}">(x, w, r, b)
                y = Relu(s)
            }}"""
            weights = {
                "w": weight(directions, gates * 6, 5),
                "r": weight(directions, gates * 6, 6),
                "b": weight(directions, 2 * gates * 6),
            }
            (layer,) = analysed(model(text, weights)).layers
            assert (layer.kind, layer.op, layer.bias) == ("recurrent", op, "b")
            assert [w.shape for w in layer.weights] == [
                (directions * gates * 6, 5),
                (directions * gates * 6, 6),
            ]
            assert [w.fan_in for w in layer.weights] == [5, 6]
            assert (layer.channels, layer.channel_axes, layer.output) == (directions * 6, (1, 3), "s")


@pytest.mark.parametrize("sequence", ["s", ""])
def test_a_recurrence_whose_last_state_is_used_is_measured_at_all_steps(sequence: str) -> None:
    text = """(float[T,N,5] x) => (float y) {
        SEQUENCE, h = GRU<hidden_size = 6>(x, w, r)
        y = Relu(h)
    }"""
    proto = model(text.replace("SEQUENCE", sequence or '""'), {"w": weight(1, 18, 5), "r": weight(1, 18, 6)})
    (layer,) = for_probing(proto).layers.layers
    assert (layer.output, layer.channel_axes) == ("h.sequence", (1, 3))


def test_a_token_spread_over_the_batch_is_trainable() -> None:
    text = """(float[N,3,4] x) => (float y) {
        all = Shape(x)
        n = Gather(all, zero)
        shape = Concat<axis = 0>(n, rest)
        tokens = Expand(token, shape)
        both = Concat<axis = 1>(tokens, x)
        y = MatMul(both, w)
    }"""
    values = {"token": weight(1, 1, 4), "w": weight(4, 2), "zero": np.array([0]), "rest": np.array([1, 4])}
    slots = analysed(model(text, values)).slots
    assert {name: slot.role for name, slot in slots.items()} == {"token": "table", "w": "weight"}


# Where weights come from


@pytest.mark.parametrize("kind", WEIGHT_SOURCES)
def test_weights_from_everywhere(kind: str) -> None:
    """One trainable slot each, canonical (3, 4); its views lead from the file to what the product reads."""
    body, weights = WEIGHT_SOURCES[kind]
    proto = model(f"(float[N,4] x) => (float[N,3] y) {{ {body} y = MatMul(x, w) }}", weights)
    prepared = normalised(proto)
    layers = analyse(prepared)
    (layer,) = layers.layers
    found = layer.weights[0]
    assert found.shape == (3, 4)
    assert set(layers.slots) == {found.name}
    values = prepared.graph.initializers[found.name].const_value
    assert values is not None
    array = values.numpy().astype(np.float32)
    for step, argument in found.steps:
        array = array.reshape(argument) if step == "reshape" else array.transpose(argument)
    (read,) = run_onnxruntime(
        model(f"(float[N,4] x) => (float[4,3] w) {{ {body} }}", weights), {"x": np.zeros((1, 4), np.float32)}
    )
    np.testing.assert_allclose(array, read.T, rtol=1e-6)


def test_a_dequantised_weight_in_blocks() -> None:
    q = np.arange(24, dtype=np.int8).reshape(4, 6)
    s = weight(2, 6) + 1
    text = """(float[N,4] x) => (float[N,6] y) {
        w = DequantizeLinear<axis = 0, block_size = 2>(q, s)
        y = MatMul(x, w)
    }"""
    prepared = normalised(model(text, {"q": q, "s": s}, opset=21))
    (layer,) = analyse(prepared).layers
    value = prepared.graph.initializers[layer.weights[0].name].const_value
    assert value is not None
    np.testing.assert_allclose(value.numpy(), q * np.repeat(s, 2, axis=0), rtol=1e-6)


def test_weights_that_the_data_make_are_no_layer() -> None:
    text = """(float[N,4,3] x, float[N,3,4] w) => (float[N,4,4] y) {
        v = Transpose<perm = [0, 1, 2]>(w)
        y = MatMul(x, v)
    }"""
    assert analysed(model(text)).layers == ()


def test_integer_tables_are_not_trainable() -> None:
    text = """(int64[N,5] ids) => (int64[N,5,2] y) { y = Gather(table, ids) }"""
    layers = analysed(model(text, {"table": np.arange(22).reshape(11, 2)}))
    assert (layers.layers, dict(layers.slots)) == ((), {})


# Multiply-accumulate operations


def test_macs_against_hand_counts() -> None:
    text = """(float[N,3,8,8] x) => (float[N,10] y) {
        a = Conv<pads = [1, 1, 1, 1], strides = [2, 2]>(x, w1)
        b = Conv<pads = [1, 1, 1, 1], group = 4>(a, w2)
        c = ConvTranspose<strides = [2, 2]>(b, w3)
        m = GlobalAveragePool(c)
        f = Flatten(m)
        y = Gemm<transB = 1>(f, w4)
    }"""
    weights = {
        "w1": weight(4, 3, 3, 3),
        "w2": weight(8, 1, 3, 3),
        "w3": weight(8, 5, 2, 2),
        "w4": weight(10, 5),
    }
    layers = analysed(model(text, weights))
    expected = {
        "w1": 16 * 4 * 3 * 9,  # 4x4 outputs
        "w2": 16 * 8 * 1 * 9,
        "w3": 16 * 8 * 5 * 4,  # each input position scatters a whole kernel
        "w4": 10 * 5,
    }
    assert {name: layer.macs for name, layer in by_weight(layers).items()} == expected
    assert layers.macs == sum(expected.values())
    assert layers.unknown_macs == 0


def test_macs_of_attention_and_recurrence() -> None:
    text = """(float[7,N,4] x) => (float y) {
        q = MatMul(x, w)
        t = Transpose<perm = [1, 2, 0]>(q)
        u = Transpose<perm = [1, 0, 2]>(q)
        s = MatMul(u, t)
        v = MatMul(s, u)
        r = LSTM<hidden_size = 5>(v, wx, wh)
        y = Relu(r)
    }"""
    weights = {"w": weight(4, 4), "wx": weight(1, 20, 4), "wh": weight(1, 20, 5)}
    layers = analysed(model(text, weights))
    # N is 1: the free dimension of the input that is not first takes the length of a sequence
    n = ScoreConfig.for_protocol().sequence
    linear, attention, recurrent = 7 * n * 16, 2 * (n * 7 * 7 * 4), n * 7 * (20 * 4 + 20 * 5)
    assert layers.macs == linear + attention + recurrent


def test_products_of_unknown_shape_are_counted_as_unknown() -> None:
    text = """(float[N,4] x, int64[2] s) => (float y) {
        a = MatMul(x, w)
        r = Reshape(a, s)
        y = MatMul(r, v)
    }"""
    layers = analysed(model(text, {"w": weight(4, 4), "v": weight(4, 3)}))
    assert (layers.macs, layers.unknown_macs) == (16, 1)


# Names and scopes


def test_an_initializer_among_the_inputs_is_none_to_feed() -> None:
    """Before IR version 4 all of them had to be there."""
    text = "(float[N,4] x, float[4,3] w) => (float[N,3] y) { y = MatMul(x, w) }"
    prepared = normalised(model(text, {"w": weight(4, 3)}))
    assert [v.name for v in prepared.graph.inputs] == ["x"]
    assert set(by_weight(analyse(prepared))) == {"w"}


def test_layers_inside_local_functions_are_seen() -> None:
    function = helper.make_function(
        "local",
        "Dense",
        ["a", "b"],
        ["d"],
        [helper.make_node("MatMul", ["a", "b"], ["c"]), helper.make_node("Relu", ["c"], ["d"])],
        [helper.make_opsetid("", 20)],
    )
    weights = {n: weight(4, 4, seed=i) for i, n in enumerate("uv")}
    text = "(float[N,4] x) => (float[N,4] y) { h = local.Dense(x, u) y = local.Dense(h, v) }"
    proto = model(text, weights, domains={"local": 1})
    proto.functions.append(function)
    layers = analysed(proto)
    assert depths(layers) == {"u": 1, "v": 2}
    assert layers.nodes == 4


def test_layers_of_subgraphs_are_layers() -> None:
    """Both branches of an If, one of which never runs, and what comes after it lies deeper."""
    branches = """then_branch = b1 () => (float[N,3] t) { t = MatMul(x, u) },
        else_branch = b2 () => (float[N,3] e) { g = MatMul(x, v) e = MatMul(g, z) }"""
    text = f"(float[N,4] x, bool c) => (float[N,3] y) {{ h = If<{branches}>(c) y = MatMul(h, w) }}"
    weights = {"u": weight(4, 3), "v": weight(4, 3, seed=1), "w": weight(3, 3), "z": weight(3, 3, seed=2)}
    layers = analysed(model(text, weights))
    assert {name: layer.depth for name, layer in by_weight(layers).items()} == {
        "u": 1,
        "v": 1,
        "z": 2,
        "w": 3,
    }
    assert set(layers.slots) == {"u", "v", "w", "z"}
    assert len({layer.key for layer in layers.layers}) == 4
    assert layers.nodes == 5
    assert layers.macs == (4 * 3 + 3 * 3) + 3 * 3  # of the larger branch, and behind it


def test_layers_of_a_loop_follow_what_enters_it() -> None:
    """The carried state has been through a layer; the constant that starts the other has not."""
    text = """(float[N,4] x) => (float[N,4] y) {
        h = MatMul(x, u)
        y, k = Loop<body = b (int64 i, bool c, float[N,4] s, float[4] r)
                => (bool d, float[N,4] t, float[4] q) {
            d = Identity(c) g = MatMul(s, v) t = Add(g, r) q = Identity(r)
        }>(m, , h, z) }"""
    layers = analysed(
        model(
            text,
            {"u": weight(4, 4), "v": weight(4, 4, seed=1), "m": np.array(3), "z": np.zeros(4, np.float32)},
        )
    )
    assert {name: layer.depth for name, layer in by_weight(layers).items()} == {"u": 1, "v": 2}
    assert (layers.macs, layers.unknown_macs) == (16, 1)  # nobody knows how often a loop runs


def test_products_of_a_scan_count_as_often_as_it_runs() -> None:
    text = """(float[N,5,4] x) => (float[N,5,3] y) {
        a = Shape<start = 0, end = 1>(x) b = Concat<axis = 0>(a, k) z = ConstantOfShape(b)
        h, y = Scan<num_scan_inputs = 1, scan_input_axes = [1], scan_output_axes = [1],
            body = b (float[N,3] s, float[N,4] t) => (float[N,3] q, float[N,3] o) {
            c = MatMul(t, u) d = MatMul(s, v) q = Add(c, d) o = Identity(q)
        }>(z, x) }"""
    layers = analysed(model(text, {"u": weight(4, 3), "v": weight(3, 3), "k": np.array([3])}))
    assert (layers.macs, layers.unknown_macs) == (5 * (4 * 3 + 3 * 3), 0)


def test_names_of_sibling_subgraphs_are_told_apart() -> None:
    branches = """then_branch = b1 () => (float[N,3] t) { t = MatMul(x, u) },
        else_branch = b2 () => (float[N,3] t) { t = MatMul(x, v) }"""
    text = f"(float[N,4] x, bool c) => (float[N,3] y) {{ y = If<{branches}>(c) }}"
    layers = analysed(model(text, {"u": weight(4, 3), "v": weight(4, 3, seed=1)}))
    assert len(layers.by_output()) == 2


def test_nodes_of_one_name_are_told_apart() -> None:
    nodes = [helper.make_node("MatMul", [a, w], [b], name="same") for a, w, b in ("xuh", "hvy")]
    proto = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 4])],
            [helper.make_tensor(n, TensorProto.FLOAT, (4, 4), weight(4, 4).ravel()) for n in "uv"],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
    )
    layers = analysed(proto)
    assert len({layer.name for layer in layers.layers}) == 2
    assert math.isclose(layers.macs or 0, 32)


def test_attention_as_one_operator_gives_the_keys_of_its_products() -> None:
    """From opset 23 PyTorch's exporter writes Attention where it wrote MatMul, Softmax, MatMul."""
    heads = "q = MatMul(x, u) k = MatMul(x, v) a = MatMul(x, w)"
    products = "t = Transpose<perm = [0, 2, 1]>(k) s = MatMul(q, t) p = Softmax(s) h = MatMul(p, a)"
    one = "h = Attention<q_num_heads = 1, kv_num_heads = 1>(q, k, a)"
    weights = {name: weight(4, 4, seed=i) for i, name in enumerate("uvwz")}
    keys = [
        {name: layer.key for name, layer in by_weight(analysed(model(text, weights, opset=23))).items()}
        for text in (
            f"(float[N,3,4] x) => (y) {{ {heads} {attention} y = MatMul(h, z) }}"
            for attention in (products, one)
        )
    ]
    assert keys[0] == keys[1]
    assert len(set(keys[0].values())) == 4


def test_a_deformable_convolution_is_a_layer_of_its_own_kind() -> None:
    """The weight and the operations are those of a convolution; what makes its offsets is a layer, too."""
    weights = {"w": weight(8, 3, 3, 3), "o": weight(18, 3, 3, 3)}
    text = "(float[1,3,8,8] x) => (float[1,8,8,8] y) { %s }"
    pads = "<pads = [1, 1, 1, 1]>"
    deformed = f"f = Conv{pads}(x, o) y = DeformConv{pads}(x, w, f)"
    offsets, layer = analysed(model(text % deformed, weights, opset=22)).layers
    (plain,) = analysed(model(text % f"y = Conv{pads}(x, w)", {"w": weights["w"]}, opset=22)).layers
    assert offsets.weights[0].name == "o"
    assert (layer.kind, layer.weights, layer.macs, layer.depth) == (plain.kind, plain.weights, plain.macs, 2)
    assert layer.key != plain.key
