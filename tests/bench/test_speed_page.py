"""The page of speed, made from numbers that nobody measured, and the scripts that it compares with."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in [name for name in sys.modules if name.startswith("speed")]:
        monkeypatch.delitem(sys.modules, name)


def numbers(seed: float) -> dict:
    times = {"bare": [1.0, 2.0], "architecture": [seed, 2 * seed], "native": [1.0, 2.0], "eigvalsh": [9.0]}
    nodes = {
        "load": 1.0,
        "static pass": 2.0,
        "rewriting": 1.0,
        "conversion": 2.0,
        "onnx": 1.0,
        "nodes": 100.0,
    }
    return {"machine": "none", "torch": "0", "times": {"resnet50": times}, "nodes": [nodes]}


def test_ratios_are_taken_within_a_round():
    import speed_page

    text = speed_page.page(numbers(1.1))

    assert "| 1.10 (1.10 to 1.10) |" in text  # 2 seconds against 1 in the other round would be 1.65
    assert "| 9.00 (9.00 to 9.00) |" in text


@pytest.mark.parametrize(("seed", "shown"), [(1.15, "1.15"), (1.16, "**1.16**")])
def test_a_miss_is_bold(seed: float, shown: str):
    import speed_page

    lines = speed_page.page(numbers(seed)).splitlines()

    row = next(line for line in lines if line.startswith("| one seed over the bare pass, ResNet-50"))
    assert row.endswith(f"| at most 1.15 | {shown} |")
    assert any("nodes | at most 4 | **6.00** |" in line for line in lines)


def test_numbers_of_an_earlier_state_stand_beside_the_new_ones():
    import speed_page

    text = speed_page.page(numbers(1.0), numbers(2.0))

    assert "| one seed over the bare pass, ResNet-50 | at most 1.15 | 2.00 | 1.00 |" in text


def profiled(**seconds: float) -> dict:
    """Profiles of one network in which operators take so many seconds."""
    total = sum(seconds.values())
    rows = [[name, 2, s, s / total] for name, s in sorted(seconds.items(), key=lambda item: -item[1])]
    return {"profiles": {"resnet50": {"bare": rows, "architecture": rows}}}


def test_profiles_of_two_states_stand_in_one_table():
    import speed_page

    now, before = profiled(mm=0.3, conv=0.1), profiled(var=0.5, mm=0.5)
    lines = speed_page.page(numbers(1.0) | now, before | {"state": "two passes", "times": {}}).splitlines()
    start = lines.index("### ResNet-50, one seed of `architecture`")
    assert lines[start + 2 :] == [
        "| operator | calls before | ms before | share before | calls now | ms now | share now |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        "| `mm` | 2 | 500.0 | 50 % | 2 | 300.0 | 75 % |",
        "| `conv` | - | - | - | 2 | 100.0 | 25 % |",
        "| `var` | 2 | 500.0 | 50 % | - | - | - |",
        "| all |  | 1000.0 | 100 % |  | 400.0 | 100 % |",
    ]
    assert "| figure | goal | measured |" in lines  # nothing but profiles is known of the earlier state
    assert any(line.endswith("before: two passes.") for line in lines)


def test_profiles_alone_are_exchanged():
    import speed_page

    old = speed_page.page(numbers(1.0) | profiled(mm=0.3))
    other = {"times": {}} | profiled(conv=0.2)
    new = speed_page.with_parts(old, other)
    assert new == speed_page.page(numbers(1.0) | profiled(conv=0.2))
    assert speed_page.with_parts(old + "\n## More\n", other) == new + "\n## More\n"


def test_sections_and_goals_that_are_measured_again_are_exchanged():
    import speed_page

    whole, more = numbers(1.0), {"nodes": 300.0, "onnx": 2.0}
    again = {"times": {}, "nodes": [whole["nodes"][0] | {"load": 2.0}, whole["nodes"][0] | more]}
    found = speed_page.with_parts(speed_page.page(whole), again)
    assert found == speed_page.page(whole | {"nodes": again["nodes"]})


def test_a_straight_line_has_no_residual_and_a_bent_one_has():
    import speed_runs

    offset, slope, worst = speed_runs.line([(x, 3 + 2 * x) for x in (1.0, 5.0, 30.0)])
    assert (offset, slope, worst) == pytest.approx((3, 2, 0), abs=1e-9)
    assert speed_runs.line([(x, x * x) for x in (1.0, 5.0, 30.0)])[2] > 0.5


def test_the_scripts_compute_what_they_are_named_for():
    import speed_rivals

    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    x = torch.randn(40, 6)

    score = speed_rivals.eigenvalues(network, x)
    outputs = [network[0](x).detach().numpy(), network(x).detach().numpy()]
    spectra = [np.linalg.eigvalsh(np.cov(o.T.astype(np.float64), bias=True)) for o in outputs]
    capacity = sum(math.log(s.sum() ** 2 / (s**2).sum()) for s in spectra)
    grads = [p.grad.numpy().astype(np.float64) for p in network.parameters()]
    health = sum(g.std() / abs(g).max() for g in grads)
    assert score == pytest.approx(capacity * (1 + health) / math.log(3), rel=1e-4)

    code = outputs[0] > 0
    kernel = (code[:, None] == code[None]).sum(-1).astype(np.float64)[:4, :4]
    assert speed_rivals.naswot(network, x[:4]) == pytest.approx(np.linalg.slogdet(kernel)[1], rel=1e-4)


def test_every_network_is_written_as_torch_has_it(tmp_path: Path):
    """The twins are the same function: what is compared on the page is one network."""
    import speed_nets

    import intrain_onnx

    for name in ("lstm", "tiny_linear", "operators"):
        net = speed_nets.NETS[name]
        module, x = net.native(), torch.randn(net.shape)
        assert module is not None
        converted = intrain_onnx.to_torch(net.file(tmp_path))
        torch.testing.assert_close(converted(x), module(x), rtol=1e-4, atol=1e-4)
