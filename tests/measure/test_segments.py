"""Where a graph is cut: what is kept against sums by hand, and cuts where the fewest bytes cross."""

from __future__ import annotations

import pytest
from builders import model, weight

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.load import load
from intrain_onnx.measure.segments import Segments, segments
from intrain_onnx.network.footprint import footprint
from intrain_onnx.rewrites.network import Network

VALUE = 16 * 8 * 4
"""Bytes of one value of a sample."""


def built(body: str, **weights: object) -> tuple[Network, Segments | None]:
    proto = model(f"(float[N,16,8] x) => (float y) {{ {body} }}", weights)
    network = Network.of(load(proto), ScoreConfig.for_protocol())
    return network, segments(network.model, network.single.batch)


def chain(layers: int) -> str:
    steps = " ".join(
        f"h{i} = MatMul({f'r{i - 1}' if i else 'x'}, w) r{i} = Tanh(h{i})" for i in range(layers)
    )
    return f"{steps} y = MatMul(r{layers - 1}, w)"


@pytest.mark.parametrize("layers", [9, 36, 100])
def test_a_chain_keeps_the_square_root_of_it(layers: int) -> None:
    """Each layer keeps one value. In s segments of n / s: s - 1 cross, and one segment is there."""
    network, cut = built(chain(layers), w=weight(8, 8))
    assert footprint(network.model).kept == layers * VALUE
    assert cut is not None
    best = min(parts - 1 + -(-layers // parts) for parts in range(1, layers + 1))
    assert best * VALUE <= cut.kept <= (best + 2) * VALUE
    numbers = [cut.of[f"r{i}"] for i in range(layers)]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(cut.last + 1))


def test_a_cut_lies_where_one_value_crosses() -> None:
    """Inside of a block of two layers with a skip, two values are alive; between blocks, one."""
    blocks = " ".join(
        f"a{i} = MatMul({f's{i - 1}' if i else 'x'}, w) b{i} = Tanh(a{i}) c{i} = MatMul(b{i}, w) "
        f"d{i} = Tanh(c{i}) s{i} = Add(d{i}, {f's{i - 1}' if i else 'x'})"
        for i in range(16)
    )
    _, cut = built(f"{blocks} y = MatMul(s15, w)", w=weight(8, 8))
    assert cut is not None
    ends = [name for name in cut.of if name != "y" and cut.of[name] < cut.last]
    last = {cut.of[name]: name for name in ends}
    assert len(last) > 1
    assert all(name.startswith("s") for name in last.values()), last


def test_what_is_read_later_is_kept_once_for_all_cuts() -> None:
    """A value that the last layer reads crosses every cut."""
    _, alone = built(chain(36), w=weight(8, 8))
    _, skip = built(f"{chain(36).replace('y =', 'z =')} y = Add(z, r0)", w=weight(8, 8))
    assert alone is not None
    assert skip is not None
    assert alone.kept < skip.kept <= alone.kept + 2 * VALUE


def test_there_are_no_cuts_where_nothing_is_gained() -> None:
    assert built("h = MatMul(x, w) y = MatMul(h, w)", w=weight(8, 8))[1] is None
