"""What holds for all proxies: they repeat, they leave no trace, and one that fails says why."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from builders import model, weight
from click.testing import CliRunner

from intrain_onnx.cli import main
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError
from intrain_onnx.pipeline import score
from intrain_onnx.proxies import aggregate
from intrain_onnx.proxies.blocks import before_pooling, blocks
from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.measure import Measured, measure
from intrain_onnx.proxy_table import PROXIES, names
from proxies.nets import SAMPLES, cnn, network

ALL = tuple(PROXIES)
FILES = sorted(SAMPLES.glob("*.onnx"))


def values(found: dict[str, Measured]) -> dict[str, float | None]:
    return {part: value for m in found.values() for part, value in m.values.items()}


@pytest.mark.parametrize("protocol", ["paper", "architecture", "checkpoint"])
def test_same_file_settings_and_seed_give_the_same_values_whatever_else_is_measured(protocol):
    first = values(measure(ALL, network(cnn(), protocol)))
    second = values(measure(tuple(reversed(ALL)), network(cnn(), protocol)))
    assert None not in first.values()
    assert first == second
    for name in ALL:
        alone = values(measure((name,), network(cnn(), protocol)))
        assert alone == {part: first[part] for part in PROXIES[name].parts}


def test_another_seed_gives_other_values_of_what_is_not_static():
    first, second = (values(measure(ALL, network(cnn(), seed=s))) for s in (0, 1))
    static = {part for proxy in PROXIES.values() if proxy.static for part in proxy.parts}
    same = {part for part, value in first.items() if value == second[part]}
    assert same == static | {"az_nas_complexity"}


@pytest.mark.parametrize("protocol", ["paper", "architecture", "checkpoint"])
def test_the_module_is_left_as_it_was_found(protocol):
    net = network(cnn(), protocol)
    net.draw_weights()  # before, they hold what lay in memory: a NaN equals nothing
    parameters = dict(net.module.named_parameters())
    for parameter in parameters.values():
        parameter.requires_grad_(parameter.dim() > 1)
        parameter.grad = torch.full_like(parameter, 7.0) if parameter.dim() > 1 else None
    code = net.module.code
    before = {name: t.detach().clone() for name, t in net.module.state_dict().items()}
    measure(ALL, net)
    assert all(torch.equal(t, before[name]) for name, t in net.module.state_dict().items())
    for parameter in parameters.values():
        assert parameter.requires_grad == (parameter.dim() > 1)
        assert (parameter.grad is None) == (parameter.dim() <= 1)
        assert parameter.grad is None or bool((parameter.grad == 7.0).all())
    assert net.module.code == code
    assert not any(m._forward_hooks for m in net.module.modules())


def test_names_and_the_order_of_nodes_change_nothing():
    renamed = cnn("other_")
    assert values(measure(ALL, network(cnn()))) == values(measure(ALL, network(renamed)))


def test_a_folded_graph_has_the_synflow_of_the_one_that_it_came_from():
    kept = measure(("synflow",), network(cnn(), "paper"))["synflow"].values
    folded = measure(("synflow",), network(cnn(), "architecture"))["synflow"].values
    assert kept["synflow"] == pytest.approx(folded["synflow"], rel=1e-9)


def test_a_proxy_that_cannot_be_has_none_and_a_reason_and_the_others_stay():
    # One linear map of ids: no activation, no block, no positions, and regression of a single number.
    graph = model("(int64[batch] x) => (float[batch, 1] y) { e = Gather(t, x) y = Gemm<transB = 1>(e, w) }",
                  {"t": weight(9, 4), "w": weight(1, 4)})  # fmt: skip
    found = measure(ALL, network(graph))
    reasons = {name: m.error for name, m in found.items() if m.error}
    assert reasons == {
        "naswot": "has no activation function",
        "meco": "no layer gives several positions for one sample",
        "az_nas": "has fewer than two blocks",
        "vkdnw": "needs class logits",
    }
    assert found["az_nas"].values["az_nas_complexity"] == 4
    assert found["naswot"].values == {"naswot": None}
    assert all(v is None or math.isfinite(v) for v in values(found).values())


def test_ids_without_an_embedding_have_no_continuous_input():
    body = "(int64[batch, 3] x) => (float[batch, 4] y) { f = Cast<to = 1>(x) y = Gemm<transB = 1>(f, w) }"
    found = measure(("jacov", "synflow", "zen", "snip"), network(model(body, {"w": weight(4, 3)})))
    assert {n: m.error for n, m in found.items()} == {
        "jacov": "needs a continuous input",
        "synflow": "needs a continuous input",
        "zen": "needs a continuous input",
        "snip": None,
    }


def test_a_given_array_is_a_continuous_input_and_a_given_number_is_none():
    body = "h = Gemm<transB = 1>(x, w) r = Relu(h) y = Gemm<transB = 1>(r, v)"
    body = f"(float[batch, 3] x) => (float[batch, 4] y) {{ {body} }}"
    graph = model(body, {"w": weight(5, 3), "v": weight(4, 5)})
    for given, error in ((weight(8, 3), None), (0.5, "needs a continuous input")):
        found = measure(("jacov",), network(graph, inputs={"x": given}))
        assert found["jacov"].error == error


def test_what_is_not_finite_is_none():
    values_ = {"w": np.full((4, 3), 1e38, np.float32), "v": np.full((4, 4), 1e38, np.float32)}
    body = "h = Gemm<transB = 1>(x, w) r = Relu(h) y = Gemm<transB = 1>(r, v)"
    body = f"(float[batch, 3] x) => (float[batch, 4] y) {{ {body} }}"
    found = measure(("grad_norm", "snip", "params"), network(model(body, values_), "checkpoint"))
    assert found["snip"].values == {"snip": None}
    assert "snip is" in (found["snip"].error or "")
    assert found["params"].values == {"params": 28.0}


LSTM = model(
    """(float[steps, batch, 5] x) => (float[batch, 3] y) {
        s, h, c = LSTM<hidden_size = 6>(x, w, r, b)
        a = Constant<value_ints = [0]>()
        last = Squeeze(h, a)
        y = Gemm<transB = 1>(last, v)
    }""",
    {"w": weight(1, 24, 5), "r": weight(1, 24, 6), "b": weight(1, 48, scale=0.1), "v": weight(3, 6)},
)


@pytest.mark.parametrize("protocol", ["architecture", "checkpoint", "paper"])
def test_a_recurrence(protocol):
    found = measure(ALL, network(LSTM, protocol, batch=8, sequence=8))
    missing = {name: m.error for name, m in found.items() if m.error}
    assert set(missing) <= {"naswot", "az_nas"}, missing


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
@pytest.mark.parametrize("protocol", ["architecture", "checkpoint"])
def test_every_sample_has_every_value(path, protocol):
    found = measure(ALL, network(path, protocol))
    assert {name: m.error for name, m in found.items() if m.error} == {}


def test_two_exports_of_one_network_have_the_same_values():
    twins = [SAMPLES / f"pytorch_resnet_{kind}.onnx" for kind in ("dynamo", "torchscript", "training")]
    first, *others = (values(measure(ALL, network(path, "architecture"))) for path in twins)
    for other in others:
        assert {k: v for k, v in other.items() if k != "params"} == pytest.approx(
            {k: v for k, v in first.items() if k != "params"}, rel=1e-4
        )


def test_a_graph_with_its_batch_built_in_has_the_values_of_an_open_one():
    fixed = cnn()
    for value in (*fixed.graph.input, *fixed.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    lock_step = network(fixed, "paper")
    lock_step.batched = False
    assert values(measure(ALL, lock_step)) == pytest.approx(values(measure(ALL, network(cnn()))), rel=2e-3)


def test_blocks_end_where_every_path_goes_through():
    net = network(SAMPLES / "pytorch_resnet_training.onnx", "paper")
    found = blocks(net.module, net.layers)
    assert 3 <= len(found) < len(net.layers.layers)
    assert before_pooling(net.module, net.layers) not in {x.output for x in net.layers.layers}
    chain = network(cnn(), "paper")
    assert [b.output for b in blocks(chain.module, chain.layers)] == ["n1", "n2"]
    assert before_pooling(chain.module, chain.layers) == "r2"


def test_aggregates_sum_up_the_logarithms_of_ranks():
    parts = aggregate.AGGREGATES["az_nas"]
    rows = [dict(zip(parts, row, strict=True)) for row in ((1, 5, 2, 9), (2, 4, 2, 8), (3, 3, 3, 7))]
    expected = [math.log(1 * 3 * 1.5 * 3 / 81), math.log(2 * 2 * 1.5 * 2 / 81), math.log(3 * 1 * 3 * 1 / 81)]
    assert aggregate.aggregate("az_nas", rows) == pytest.approx(expected)
    lacking = rows[0] | {parts[0]: None}
    assert aggregate.aggregate("az_nas", [*rows, lacking]) == [*aggregate.aggregate("az_nas", rows), None]
    assert {part for p in aggregate.AGGREGATES.values() for part in p} <= {
        part for proxy in PROXIES.values() for part in proxy.parts
    }


def test_names():
    assert names("all") == ALL
    assert names(" synflow, naswot,synflow") == ("synflow", "naswot")
    for wrong in ("synflo", "all,snip", ""):
        with pytest.raises(SettingsError, match="naswot"):
            names(wrong)
    with pytest.raises(SettingsError, match="synflo"):
        ScoreConfig.for_protocol(proxies=("synflo",))


def test_the_report_and_the_summary_have_them():
    path = str(SAMPLES / "jax_cnn.onnx")
    done = CliRunner().invoke(main, ["score", path, "--seeds", "1", "--proxies", "snip,az_nas", "-o", "-"])
    assert done.exit_code == 0, done.output
    data = json.loads(done.stdout)
    assert data["settings"]["proxies"] == ["snip", "az_nas"]
    assert data["proxies"]["snip"]["direction"] == 1
    assert data["proxies"]["snip"]["error"] is None
    assert set(data["proxies"]["az_nas"]["values"]) == set(PROXIES["az_nas"].parts)
    assert data["timings_s"]["proxy_snip"] >= 0
    assert "az_nas_progressivity" in done.stderr
    wrong = CliRunner().invoke(main, ["score", path, "--proxies", "snap"])
    assert wrong.exit_code == 2


def test_the_score_is_the_same_with_and_without_them():
    config = {"seeds": 2, "parity": False, "batch": 8}
    graph: onnx.ModelProto = cnn()
    plain = score(graph, ScoreConfig.for_protocol(**config))
    beside = score(graph, ScoreConfig.for_protocol(**config, proxies=ALL))
    assert plain.data["score"] == beside.data["score"]
    assert plain.data["layers"] == beside.data["layers"]


def test_a_shared_pass_costs_every_proxy_that_uses_it(monkeypatch: pytest.MonkeyPatch):
    """Once each, whoever made it: three proxies use the first pass, ZiCo a second one too."""
    real = ProxyContext.run

    def slow(context: ProxyContext, *args: Any, **kwargs: Any) -> Any:
        time.sleep(0.2)
        return real(context, *args, **kwargs)

    monkeypatch.setattr(ProxyContext, "run", slow)
    shared = ("grad_norm", "snip", "fisher", "zico")
    for order in (shared, shared[::-1]):
        found = measure(order, network(cnn(), "paper"))
        assert {name: int(found[name].seconds / 0.2) for name in shared} == dict.fromkeys(shared, 1) | {
            "zico": 2
        }


@pytest.mark.parametrize("protocol", ["paper", "architecture", "checkpoint"])
def test_memory_that_nobody_wrote_is_never_read(protocol: str, monkeypatch: pytest.MonkeyPatch):
    def reports() -> dict[str, Any]:
        config = ScoreConfig.for_protocol(protocol, seeds=1, batch=8, parity=False, proxies=ALL, threads=1)
        data = {path.name: dict(score(path, config).data) for path in FILES}
        return {name: {**row, "timings_s": None} for name, row in data.items()}

    def poisoned(*args: Any, **kwargs: Any) -> torch.Tensor:
        made = empty(*args, **kwargs)
        return made.fill_(math.nan) if made.is_floating_point() else made

    before, empty = reports(), torch.empty
    monkeypatch.setattr(torch, "empty", poisoned)
    assert reports() == before
