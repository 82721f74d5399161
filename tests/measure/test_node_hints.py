"""Each error at a node is typed: its hint, taken from the terminal, makes the model score."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import onnx
import pytest
from builders import model, weight
from click.testing import CliRunner, Result

from intrain_onnx import Report, ScoreConfig, cli, score
from intrain_onnx.errors import UnsupportedError
from intrain_onnx.measure import search_sizes

Model = tuple[str, dict[str, np.ndarray]]

FED = {
    "a kernel that is larger than its input": "x:1x3x64x64",
    "k over the size": "x:1x64x4",
    "an image of one size": "x:1x3x64x64",
    "a pool that is larger than its input": "x:1x3x64x64",
    "positions beyond a table": "x:1x64x4",
    "two lengths that must be equal": "x:1x64x4 z:1x64x4",
    "a width that a product takes": "x:1x64 z:1x64",
    "a width that a Gemm takes": "x:1x64",
    "channels that a convolution takes": "x:1x64x64",
    "two parts that must be as long": "x:1x64x4 z:1x64x4",
    "a number of elements": "x:1x64x4",
    "a name for the shell": "ODD:1x64",
}
"""What a user sets: without it, sizes are found that run."""

RUNS: dict[str, tuple[Model, str]] = {
    "a kernel that is larger than its input": (
        (
            """(float[N,3,H,W] x) => (float[N,4,K,M] y) { h = Conv<strides = [8, 8]>(x, w) r = Relu(h)
                y = Conv<kernel_shape = [9, 3], pads = [1, 0, 0, 0], dilations = [2, 1]>(r, v) }""",
            {"w": weight(8, 3, 5, 5), "v": weight(4, 8, 9, 3)},
        ),
        "a window of 17 does not fit into axis 2 of 'r' (1x8x8x8), padded by 1: it takes at least 16",
    ),
    "a pool that is larger than its input": (
        (
            """(float[N,3,H,W] x) => (float[N,4] y) { h = Conv<strides = [8, 8]>(x, w)
                p = AveragePool<kernel_shape = [7, 9]>(h) g = GlobalAveragePool(p) y = Flatten(g) }""",
            {"w": weight(4, 3, 1, 1)},
        ),
        "a window of 9 does not fit into axis 3 of 'h' (1x4x8x8): it takes at least 9",
    ),
    "positions beyond a table": (
        (
            """(float[N,L,4] x) => (float[N,L,8] y) { h = MatMul(x, w) s = Shape<start = 1, end = 2>(x)
                n = Squeeze(s) p = Range(zero, n, one) e = Gather(t, p) a = Add(h, e) y = MatMul(a, v) }""",
            {
                "w": weight(4, 8),
                "t": weight(50, 8),
                "v": weight(8, 8),
                "zero": np.array(0),
                "one": np.array(1),
            },
        ),
        "index 63 of 'p' is outside of axis 0 of 't' (50x8): the largest is 49",
    ),
    "k over the size": (
        (
            """(float[N,L,4] x) => (float[N,8] y) { h = MatMul(x, w) t, i = TopK<axis = 1>(h, k)
                y = ReduceMean<keepdims = 0>(t, one) }""",
            {"w": weight(4, 8), "k": np.array([100]), "one": np.array([1])},
        ),
        "k = 100 does not fit: axis 1 of 'h' (1x64x8) has 64",
    ),
    "two lengths that must be equal": (
        (
            """(float[N,L,4] x, float[N,M,4] z) => (float[N,L,8] y) {
                h = MatMul(x, w) c = Concat<axis = 1>(z, z) g = MatMul(c, v) y = Add(h, g) }""",
            {"w": weight(4, 8), "v": weight(4, 8)},
        ),
        "'h' (1x64x8) and 'g' (1x128x8) do not fit: 64 against 128",
    ),
    "a width that a product takes": (
        (
            """(float[N,A] x, float[N,B] z) => (float[N,3] y) {
                c = Concat<axis = 1>(x, z) n = Neg(c) y = MatMul(n, w) }""",
            {"w": weight(20, 3)},
        ),
        "'n' (1x128) and 'w' (20x3) do not fit: 128 against 20",
    ),
    "a width that a Gemm takes": (
        ("(float[N,D] x) => (float[N,3] y) { n = Neg(x) y = Gemm<transB = 1>(n, w) }", {"w": weight(3, 12)}),
        "'n' (1x64) and 'w' (3x12) do not fit: 64 against 12",
    ),
    "channels that a convolution takes": (
        ("(float[N,C,L] x) => (float[N,3,L] y) { n = Neg(x) y = Conv(n, w) }", {"w": weight(3, 12, 1)}),
        "'n' (1x64x64) has 64 channels, 'w' (3x12x1) takes 12",
    ),
    "two parts that must be as long": (
        (
            """(float[N,L,4] x, float[N,M,4] z) => (float[N,L,3] y) { s = Slice(z, one, far, one)
                c = Concat<axis = 2>(x, s) y = MatMul(c, w) }""",
            {"w": weight(8, 3), "one": np.array([1]), "far": np.array([999])},
        ),
        "do not fit: 64 against",
    ),
    "a number of elements": (
        (
            """(float[N,L,4] x) => (float[N,3] y) { h = MatMul(x, w) f = Reshape(h, s) y = MatMul(f, v) }""",
            {"w": weight(4, 8), "s": np.array([-1, 10 * 8]), "v": weight(80, 3)},
        ),
        "the 512 elements of 'h' (1x64x8) cannot have the shape [-1, 80]",
    ),
    "an image of one size": (
        (
            """(float[N,3,H,W] x) => (float[N,3] y) { h = Conv<strides = [4, 4]>(x, w) f = Flatten(h)
                y = MatMul(f, v) }""",
            {"w": weight(4, 3, 4, 4), "v": weight(4 * 7 * 7, 3)},
        ),
        "'f' (1x1024) and 'v' (196x3) do not fit: 1024 against 196",
    ),
    "a name for the shell": (
        (
            """(float[N,A] "x") => (float[N,3] y) { n = Neg("x") y = MatMul(n, w) }""".replace('"x"', "x"),
            {"w": weight(20, 3)},
        ),
        "do not fit: 64 against 20",
    ),
}
ODD = "it's a name; with $(all) : that = shells take"


def typed(path: Path, *more: str) -> Result:
    arguments = ["score", str(path), "-o", str(path.with_suffix(".json")), "--seeds", "1", "--threads", "1"]
    return CliRunner().invoke(cli.main, [*arguments, "--batch", "4", *more])


def hinted(found: Result) -> list[str]:
    """The options that a hint shows, as a shell would split them."""
    line = found.stderr.strip()
    assert "\n" not in line
    return shlex.split(line[line.index("Try other sizes: ") + len("Try other sizes: ") :])


@pytest.mark.parametrize("name", RUNS)
def test_the_hint_makes_it_run(name: str, tmp_path: Path):
    (text, constants), cause = RUNS[name]
    proto = model(text, constants)
    if name == "a name for the shell":
        proto.graph.input[0].name = proto.graph.node[0].input[0] = ODD
    onnx.save(proto, tmp_path / "m.onnx")
    wrong = [shape.replace("ODD", ODD) for shape in FED.get(name, "").split()]
    given = [word for shape in wrong for word in ("--input-shape", shape)]
    first = typed(tmp_path / "m.onnx", *given)
    assert first.exit_code == 4
    assert "the node cannot run on these inputs: " in first.stderr
    assert cause in first.stderr
    options = hinted(first)
    assert options[::2] == ["--input-shape"] * (len(options) // 2)
    second = typed(tmp_path / "m.onnx", *given, *options)
    assert second.exit_code == 0, second.stderr


FIXED: dict[str, tuple[Model, str]] = {
    "indices from an input": (
        (
            """(int64[N,4] i, float[N,8] z) => (float[N,8] y) { m = Mul(i, far) e = Gather(t, m)
                s = ReduceSum<keepdims = 0>(e, one) y = Add(s, z) }""",
            {"t": weight(50, 8), "far": np.array(90), "one": np.array([1])},
        ),
        "Input 'i' must lead to indices of at most 49: set its values, such as --input i=0",
    ),
    "k over what the data leave": (
        (
            """(float[N,6] x) => (float[K] y) { h = MatMul(x, w) m = Mul(h, low) b = Greater(m, high)
                f = Reshape(h, flat) g = Reshape(b, flat) c = Compress(f, g) y, i = TopK(c, k) }""",
            {
                "w": weight(6, 3),
                "low": np.float32(0.01),
                "high": np.float32(99),
                "k": np.array([5]),
                "flat": np.array([-1]),
            },
        ),
        "The graph wants 5 of what is left, which follows from 'x': real data may leave more "
        "(--input x=@FILE.npy), or cut the model before this node",
    ),
    "sizes that contradict each other": (
        (
            "(float[2,6] x, float[2,5] z) => (float[2,3] y) { "
            "a = Relu(x) b = Relu(z) c = Add(a, b) y = MatMul(c, w) }",
            {"w": weight(6, 3)},
        ),
        "All sizes of 'x', 'z' are fixed in the file, so it contradicts itself here: export it again",
    ),
    "sizes that nothing meets": (
        (
            """(float[N,L,6] x) => (float[N,3] y) { h = MatMul(x, w) s = Shape<start = 1, end = 2>(x)
                p = Add(s, s) d = Add(p, one) e = Concat<axis = 0>(one, d, three) o = Expand(h, e)
                z = Concat<axis = 1>(h, h) k = Add(z, o) y = ReduceMean(k, one) }""",
            {"w": weight(6, 3), "one": np.array([1]), "three": np.array([3])},
        ),
        "No sizes were found that run; set those of the inputs behind it: --input-shape x:1x64x6",
    ),
}


@pytest.mark.parametrize("name", FIXED)
def test_what_only_the_user_can_choose_is_named(name: str, tmp_path: Path):
    (text, constants), expected = FIXED[name]
    onnx.save(model(text, constants), tmp_path / "m.onnx")
    found = typed(tmp_path / "m.onnx")
    assert found.exit_code == 4, found.output
    assert expected in found.stderr
    assert "Free dimensions" not in found.stderr
    shown = re.search(r"--input (\w+=\d+)", found.stderr)
    if shown is not None:
        second = typed(tmp_path / "m.onnx", "--input", shown[1])
        assert second.exit_code == 0, second.stderr


def test_an_index_is_the_largest_that_the_table_has(tmp_path: Path):
    text = """(int64[N,4] i, float[N,8] z) => (float[N,8] y) { e = Gather(t, i)
        s = ReduceSum<keepdims = 0>(e, one) a = Add(s, z) y = MatMul(a, w) }"""
    constants = {"t": weight(50, 8), "one": np.array([1]), "w": weight(8, 8)}
    onnx.save(model(text, constants), tmp_path / "m.onnx")
    found = typed(tmp_path / "m.onnx", "--input", "i=50")
    assert found.exit_code == 4
    assert "index 50 of 'i' is outside of axis 0 of 't' (50x8): the largest is 49" in found.stderr
    assert "such as --input i=49" in found.stderr
    assert typed(tmp_path / "m.onnx", "--input", "i=49").exit_code == 0


def test_lengths_that_add_up_to_a_told_one_are_found(tmp_path: Path):
    """What the mask is cut to follows from its values: only a run tells that it does not fit."""
    text = """(float[N,L,4] x, float[N,M,4] z, float[N,T] mask) => (float[N,8] y) { c = Concat<axis = 1>(x, z)
        h = MatMul(c, w) k = ReduceMax<keepdims = 0>(mask, zero) g = Greater(k, low)
        cut = Compress<axis = 1>(mask, g) u = Unsqueeze(cut, two) m = Mul(h, u)
        y = ReduceMean<keepdims = 0>(m, one) }"""
    constants = {"one": np.array([1]), "two": np.array([2]), "zero": np.array([0]), "low": np.float32(-1e9)}
    proto = model(text, constants | {"w": weight(4, 8)})
    proto.graph.input[2].type.tensor_type.shape.dim[1].dim_param = "L + M"
    onnx.save(proto, tmp_path / "m.onnx")
    found = typed(tmp_path / "m.onnx", "--input-shape", "mask:1x48")
    assert found.exit_code == 0, found.stderr
    fed = {row.name: row.shape for row in Report.load(tmp_path / "m.json").document.settings.inputs_fed}
    assert fed["mask"] == (4, 48)
    assert fed["x"][1] + fed["z"][1] == 48
    wrong = typed(tmp_path / "m.onnx", "--input-shape", "mask:1x48", "--input-shape", "x:1x64x4")
    assert wrong.exit_code == 2, wrong.stderr
    assert "axis 1 of 'mask' is 'L + M', which is at least 64 with L = 64, and not 48" in wrong.stderr
    assert typed(tmp_path / "m.onnx", "--input-shape", "x:1x64x4").exit_code == 0


@pytest.mark.parametrize("name", RUNS)
def test_sizes_are_found_where_none_are_told(name: str, tmp_path: Path):
    (text, constants), _ = RUNS[name]
    onnx.save(model(text, constants), tmp_path / "m.onnx")
    found = typed(tmp_path / "m.onnx")
    assert found.exit_code == 0, found.stderr
    free = Report.load(tmp_path / "m.json").document.settings.free_sizes
    reasons = {row.source: row.reason for row in free}
    assert {"operator", "trial"} & {*reasons}
    assert all(reasons[source] for source in ("operator", "trial") if source in reasons)


def test_a_search_is_bounded(monkeypatch: pytest.MonkeyPatch):
    (text, constants), _ = RUNS["an image of one size"]
    monkeypatch.setattr(search_sizes, "MAX_TRIES", 1)
    config = ScoreConfig.for_protocol(seeds=1, batch=4, threads=1, device="cpu")
    with pytest.raises(UnsupportedError, match=r"No sizes were found that run; .*--input-shape x:1x3x"):
        score(model(text, constants), config)


def test_an_index_in_a_loop_is_blamed_on_the_input_around_it(tmp_path: Path):
    text = """(int64[N,4] i, float[N,8] z) => (float[N,8] y) { m = Mul(i, far)
        l = Loop<body = b (int64 r, bool k, float[N,8] s) => (bool d, float[N,8] t) {
            d = Identity(k) e = Gather(table, m) o = ReduceSum<keepdims = 0>(e, one)
            t = Add(s, o) }>(n, yes, z)
        y = MatMul(l, w) }"""
    constants = {
        "table": weight(50, 8),
        "w": weight(8, 8),
        "far": np.array(90),
        "one": np.array([1]),
        "n": np.array(3),
        "yes": np.array(True),
    }
    onnx.save(model(text, constants), tmp_path / "m.onnx")
    found = typed(tmp_path / "m.onnx")
    assert found.exit_code == 4, found.output
    assert re.search(
        r"index 90 of '.*' is outside of axis 0 of 'table'.*Input 'i' must lead to", found.stderr
    )


def test_a_failure_of_one_sample_among_many_is_put_down_to_its_values(tmp_path: Path):
    """Two elements have the shape 1 x n, where n is the floor of a sample's largest value: 2 in some."""
    text = """(float[1,64] x) => (float[1,4] y) { h = MatMul(x, w) m = ReduceMax<keepdims = 0>(x) c = Floor(m)
        n = Cast<to = 7>(c) s = Reshape(n, flat) t = Concat<axis = 0>(one, s) r = Reshape(h, t)
        y = MatMul(r, v) }"""
    constants = {
        "w": weight(64, 2),
        "v": weight(2, 4),
        "flat": np.array([-1]),
        "one": np.array([1]),
    }
    onnx.save(model(text, constants), tmp_path / "m.onnx")
    seeds = [typed(tmp_path / "m.onnx", "--seed", str(seed)) for seed in range(8)]
    said = "One sample runs, so the values of 'x' decide: try another --seed, or real data with --input"
    assert any(said in found.stderr for found in seeds)
    assert any(found.exit_code == 0 for found in seeds)
