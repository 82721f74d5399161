"""The score from hand-made traces: no network, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from builders import for_all
from hypothesis import strategies as st

from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import UnsupportedError
from intrain_onnx.measure.trace import GradientStatistics, LayerTrace, Participation, Trace
from intrain_onnx.network.layers import LayerMap, Slot
from intrain_onnx.network.recognise import Layer, Weight
from intrain_onnx.report.assemble import _depth_profile
from intrain_onnx.scores import scoring
from intrain_onnx.scores.scoring import Score

ARCHITECTURE = ScoreConfig.for_protocol("architecture")
PAPER = ScoreConfig.for_protocol("paper")
HEALTHY = GradientStatistics(std=0.5, max_abs=1.0, size=100)
ZERO = GradientStatistics(std=0.0, max_abs=0.0, size=100)


def layer(name: str, depth: int, *, bias: bool = True) -> Layer:
    return Layer(
        name=name,
        op="Conv",
        kind="convolution",
        depth=depth,
        weights=(Weight(f"{name}.w", (8, 4, 3, 3), (), 36),),
        bias=f"{name}.b" if bias else None,
        bias_shape=(8,) if bias else (),
        node_output=f"{name}.out",
        output=f"{name}.out",
        channel_axes=(1,),
        channels=8,
        macs=1,
        key=f"key of {name}",
    )


def layer_map(*layers: Layer) -> LayerMap:
    slots = {x.weights[0].name: Slot("weight", x.name, x.depth, f"{x.key}.1") for x in layers}
    slots |= {x.bias: Slot("bias", x.name, x.depth, f"{x.key}.2") for x in layers if x.bias}
    return LayerMap(layers, slots, frozenset(x.node_output for x in layers), len(layers), 0, None, 0)


def trace(
    ratios: dict[str, float | None],
    gradients: dict[str, GradientStatistics],
    seed: int = 0,
    corrected: float | None = 3.0,
) -> Trace:
    rows = {
        name: LayerTrace((16, 8, 4, 4), 256, 8, Participation(r, corrected if r else None))
        for name, r in ratios.items()
    }
    return Trace(seed, rows, gradients, (), {})


CHAIN = layer_map(layer("a", 1), layer("b", 2), layer("c", 3))
RATIOS: dict[str, float | None] = {"a": 2.0, "b": 4.0, "c": 8.0}
GRADIENTS = {
    "a.w": GradientStatistics(0.1, 0.5, size=100),
    "b.w": GradientStatistics(0.2, 0.5, size=100),
    "c.w": GradientStatistics(0.4, 0.5, size=100),
    "a.b": GradientStatistics(0.3, 0.6, size=100),
    "b.b": GradientStatistics(0.3, 0.4, size=100),
    "c.b": GradientStatistics(0.3, 0.3, size=100),
}


def score(
    traces: Trace | Sequence[Trace], config: ScoreConfig = ARCHITECTURE, layers: LayerMap = CHAIN
) -> Score:
    return scoring.score(layers, [traces] if isinstance(traces, Trace) else traces, config)


def statuses(result: Score) -> dict[str, str]:
    return {s.layer.name: s.status for s in result.layers} | {p.name: p.status for p in result.parameters}


def test_the_formula_by_hand() -> None:
    result = score(trace(RATIOS, GRADIENTS))
    gamma, o = math.log(2 * 4 * 8), 0.2 + 0.4 + 0.8
    assert result.geometric_capacity == pytest.approx(gamma)
    assert result.optimization_resilience == pytest.approx(o)
    assert result.intrain == pytest.approx(gamma * (1 + o) / math.log(4))
    assert (result.counted_layers, result.counted_parameters) == (3, 3)
    assert set(statuses(result).values()) == {"measured"}


def test_health_over_all_tensors_adds_the_biases() -> None:
    result = score(trace(RATIOS, GRADIENTS), replace(ARCHITECTURE, health_over="all"))
    assert result.optimization_resilience == pytest.approx(1.4 + 0.5 + 0.75 + 1.0)
    assert result.counted_parameters == 6
    assert result.geometric_capacity == pytest.approx(math.log(64))


def test_eps_enters_the_health() -> None:
    result = score(trace(RATIOS, GRADIENTS), replace(ARCHITECTURE, eps=0.5))
    assert result.optimization_resilience == pytest.approx(0.1 + 0.2 + 0.4)


def test_a_dead_layer_leaves_the_sums_and_the_count_where_only_live_layers_count() -> None:
    dead = GRADIENTS | {"b.w": ZERO}
    live = score(trace(RATIOS, dead))
    assert statuses(live)["b"] == "dead"
    assert live.counted_layers == live.counted_parameters == 2
    assert live.intrain == pytest.approx(math.log(16) * (1 + 1.0) / math.log(3))
    every = score(trace(RATIOS, dead), replace(ARCHITECTURE, live_layers_only=False))
    assert statuses(every)["b"] == "dead"
    assert every.intrain == pytest.approx(math.log(64) * (1 + 1.0) / math.log(4))


def test_a_layer_is_dead_only_if_it_is_dead_in_every_run() -> None:
    traces = [trace(RATIOS, GRADIENTS | {"b.w": ZERO}), trace(RATIOS, GRADIENTS, seed=1)]
    result = score(traces)
    assert statuses(result)["b"] == statuses(result)["b.w"] == "measured"
    assert result.optimization_resilience == pytest.approx((1.0 + 1.4) / 2)


def test_a_layer_that_no_gradient_reaches_is_unreached() -> None:
    gradients = {k: v for k, v in GRADIENTS.items() if not k.startswith("a.")}
    result = score(trace(RATIOS, gradients))
    assert statuses(result)["a"] == statuses(result)["a.w"] == "unreached"
    assert result.counted_layers == 2
    parameter = next(p for p in result.parameters if p.name == "a.w")
    assert (parameter.health, parameter.std, parameter.max_abs, parameter.counted) == (
        None,
        None,
        None,
        False,
    )
    every = score(trace(RATIOS, gradients), replace(ARCHITECTURE, live_layers_only=False))
    assert (every.counted_layers, every.counted_parameters) == (3, 2)


def test_a_collapsed_layer_counts_and_adds_nothing() -> None:
    """Never log(channels), which is what eps * identity would give it."""
    result = score(trace(RATIOS | {"b": None}, GRADIENTS))
    assert statuses(result)["b"] == "collapsed"
    collapsed = next(s for s in result.layers if s.layer.name == "b")
    assert (collapsed.ratio, collapsed.corrected, collapsed.log_ratio) == (None, None, 0.0)
    assert result.geometric_capacity == pytest.approx(math.log(16))
    assert result.counted_layers == 3


def test_a_layer_that_was_not_run_counts_nowhere() -> None:
    result = score(trace({"a": 2.0, "c": 8.0}, GRADIENTS), replace(PAPER, eps=0.0))
    assert statuses(result)["b"] == "not_run"
    assert result.counted_layers == 2
    assert next(s for s in result.layers if s.layer.name == "b").trace is None


def test_a_layer_of_one_row_says_so() -> None:
    measured = trace(RATIOS, GRADIENTS)
    short = LayerTrace((1, 8), 1, 8, None)
    result = score(replace(measured, layers={**measured.layers, "b": short}))
    assert statuses(result)["b"] == "too_few_rows"
    assert result.geometric_capacity == pytest.approx(math.log(16))


def test_a_network_of_which_no_layer_has_two_rows_has_no_score() -> None:
    measured = trace(RATIOS, GRADIENTS)
    short = dict.fromkeys(RATIOS, LayerTrace((1, 8), 1, 8, None))
    with pytest.raises(UnsupportedError, match="two rows"):
        score(replace(measured, layers=short))


@pytest.mark.parametrize(("share", "status"), [(0.1, "round_off"), (10.0, "measured")])
def test_a_bias_below_the_noise_of_its_weight_has_no_health(share: float, status: str) -> None:
    """Before a BatchNorm in training mode its true gradient is zero, and what is left is round-off."""
    largest = 0.5 * scoring.NOISE_FLOOR * share
    gradients = GRADIENTS | {"b.b": GradientStatistics(0.4 * largest, largest, size=100)}
    result = score(trace(RATIOS, gradients), replace(ARCHITECTURE, health_over="all"))
    assert statuses(result)["b.b"] == status
    expected = 0.0 if status == "round_off" else 0.4
    assert result.optimization_resilience == pytest.approx(1.4 + 0.5 + 1.0 + expected)


def test_a_small_weight_gradient_is_no_round_off() -> None:
    """The floor is for biases; a weight may be small because all after it is."""
    gradients = GRADIENTS | {"b.w": GradientStatistics(0.4e-12, 1e-12, size=100)}
    result = score(trace(RATIOS, gradients))
    assert statuses(result)["b.w"] == "measured"
    assert result.optimization_resilience == pytest.approx(0.2 + 0.4 + 0.8)


def test_a_shared_weight_counts_once() -> None:
    a, b = layer("a", 1, bias=False), layer("b", 2, bias=False)
    tied = layer_map(a, replace(b, weights=a.weights))
    result = score(trace({"a": 2.0, "b": 4.0}, {"a.w": HEALTHY}), layers=tied)
    assert (result.counted_layers, result.counted_parameters) == (2, 1)
    assert result.optimization_resilience == 0.5


def test_a_network_without_a_path_to_the_loss_has_no_score() -> None:
    with pytest.raises(UnsupportedError, match="path to the loss"):
        score(trace(RATIOS, {}))
    with pytest.raises(UnsupportedError, match="path to the loss"):
        score(trace({}, {}), layers=layer_map())


def test_a_network_of_dead_layers_scores_nothing() -> None:
    """So that a ranking can place it: last."""
    result = score(trace(RATIOS, dict.fromkeys(GRADIENTS, ZERO)))
    assert {s.status for s in result.layers} == {"dead"}
    assert (result.intrain, result.geometric_capacity, result.counted_layers) == (0.0, 0.0, 0)
    assert scoring.intrain(0.0, 0.0, 0) == 0.0


def test_the_interval_is_that_of_scipy() -> None:
    rng = np.random.default_rng(0)
    traces = [trace({k: float(rng.uniform(1, 9)) for k in RATIOS}, GRADIENTS, seed=i) for i in range(5)]
    result = score(traces)
    values = [run.intrain for run in result.runs]
    assert result.intrain == pytest.approx(np.mean(values))
    assert result.std == pytest.approx(np.std(values, ddof=1))
    expected = scipy.stats.t.interval(0.95, 4, loc=np.mean(values), scale=scipy.stats.sem(values))
    assert result.ci95 == pytest.approx(expected)
    assert [run.seed for run in result.runs] == [0, 1, 2, 3, 4]


def test_a_single_run_has_no_spread() -> None:
    result = score(trace(RATIOS, GRADIENTS))
    assert (result.std, result.ci95) == (None, None)


def test_layers_and_parameters_are_averaged_over_runs() -> None:
    other = {k: GradientStatistics(g.std / 2, g.max_abs, size=100) for k, g in GRADIENTS.items()}
    result = score(
        [trace(RATIOS, GRADIENTS), trace({"a": 8.0, "b": 4.0, "c": 2.0}, other, 1, corrected=12.0)]
    )
    a = result.layers[0]
    assert a.ratio == pytest.approx(4.0)
    assert a.log_ratio == pytest.approx(math.log(4.0))
    assert a.corrected == pytest.approx(6.0)
    weight = next(p for p in result.parameters if p.name == "a.w")
    assert (weight.health, weight.std, weight.max_abs) == pytest.approx((0.15, 0.075, 0.5))


@st.composite
def networks(draw: st.DrawFn) -> tuple[LayerMap, list[Trace]]:
    """Layers at random depths, some collapsed or dead, some without a gradient."""
    count = draw(st.integers(1, 6))
    layers = [layer(f"l{i}", draw(st.integers(1, 4)), bias=draw(st.booleans())) for i in range(count)]
    values = st.floats(0.01, 1.0)
    fates = [draw(st.sampled_from(["live", "live", "dead", "unreached"])) for _ in range(count)]
    fates[0] = "live"
    traces = []
    for seed in range(draw(st.integers(1, 3))):
        ratios = {x.name: draw(st.one_of(st.none(), st.floats(1.0, 8.0))) for x in layers}
        gradients = {}
        for x, fate in zip(layers, fates, strict=True):
            if fate != "unreached":
                largest = draw(values)
                std = draw(values) * largest
                drawn = GradientStatistics(std, largest, size=100)
                gradients[x.weights[0].name] = ZERO if fate == "dead" else drawn
                if x.bias:
                    gradients[x.bias] = GradientStatistics(std, largest, size=100)
        traces.append(trace(ratios, gradients, seed))
    return layer_map(*layers), traces


@for_all(network=networks(), live=st.booleans(), over=st.sampled_from(["weights", "all"]))
def test_the_depth_profile_ends_with_the_totals(
    network: tuple[LayerMap, list[Trace]], live: bool, over: str
) -> None:
    layers, traces = network
    config = replace(ARCHITECTURE, live_layers_only=live, health_over=over)
    result = score(traces, config, layers)
    profile = _depth_profile(result)
    assert [row.depth for row in profile] == sorted({row.depth for row in profile})
    assert sum(row.layers for row in profile) == result.counted_layers
    last = profile[-1]
    assert last.cumulative_log_participation_ratio == pytest.approx(result.geometric_capacity, abs=1e-9)
    assert last.cumulative_health == pytest.approx(result.optimization_resilience, abs=1e-9)
    for column in ("cumulative_log_participation_ratio", "cumulative_health"):
        values = [getattr(row, column) for row in profile]
        assert values == sorted(values)


@for_all(network=networks())
def test_the_order_of_layers_and_runs_changes_no_mean(network: tuple[LayerMap, list[Trace]]) -> None:
    layers, traces = network
    turned = replace(layers, layers=layers.layers[::-1], slots=dict(reversed(layers.slots.items())))
    a, b = score(traces, layers=layers), score(traces[::-1], layers=turned)
    assert b.intrain == pytest.approx(a.intrain, rel=1e-12)
    assert b.counted_layers == a.counted_layers


@for_all(network=networks(), factor=st.floats(1.1, 5.0))
def test_more_directions_or_more_health_never_lower_the_score(
    network: tuple[LayerMap, list[Trace]], factor: float
) -> None:
    layers, traces = network
    richer = [
        replace(
            t,
            layers={
                n: replace(x, participation=Participation(x.participation.ratio * factor, None))
                if x.participation and x.participation.ratio
                else x
                for n, x in t.layers.items()
            },
            gradients={n: replace(g, std=min(g.std * factor, g.max_abs)) for n, g in t.gradients.items()},
        )
        for t in traces
    ]
    assert score(richer, layers=layers).intrain >= score(traces, layers=layers).intrain - 1e-12
