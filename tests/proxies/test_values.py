"""Each proxy against its closed form, or against a slow computation on the network written by hand."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch
from builders import model, weight
from torch import Tensor
from torch.func import functional_call

from intrain_onnx.proxies import (
    az_nas,
    fisher,
    flops,
    grad_norm,
    grasp,
    jacov,
    layers,
    meco,
    naswot,
    params,
    snip,
    synflow,
    vkdnw,
    zen,
    zico,
)
from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.runtime.random_streams import generator_for
from proxies.nets import Twin, cnn, network


@pytest.fixture(params=["paper", "checkpoint"])
def net(request: pytest.FixtureRequest) -> Iterator[ProxyContext]:
    made = network(cnn(), request.param)
    with made.borrowed():
        yield made


def close(value: float, expected: float, tolerance: float = 1e-4) -> None:
    assert value == pytest.approx(expected, rel=tolerance)


def test_static_counts(net):
    assert params.compute(net) == {"params": 4 * 27 + 6 * 36 + 30 + 5 + 2 * (4 + 6)}
    assert flops.compute(net) == {"flops": 64 * 4 * 27 + 16 * 6 * 36 + 30}
    assert layers.compute(net) == {"layers": 3}


def test_grad_norm_and_snip(net):
    twin = Twin(net)
    twin.loss(net).backward()
    close(grad_norm.compute(net)["grad_norm"], sum(float(w.grad.norm()) for w in twin.weights))
    close(snip.compute(net)["snip"], sum(float((w * w.grad).abs().sum()) for w in twin.weights))


def test_grasp_is_minus_the_weights_times_the_whole_hessian_times_the_gradient(net):
    twin = Twin(net).double()
    (x,) = net.feed()
    net._drawn[0] = [x.double()]
    start = torch.cat([w.detach().flatten() for w in twin.weights])
    sizes = [w.numel() for w in twin.weights]

    def loss(flat: Tensor) -> Tensor:
        parts = zip(("c1.weight", "c2.weight", "fc.weight"), flat.split(sizes), twin.weights, strict=True)
        given = {name: part.reshape(w.shape) for name, part, w in parts}
        return functional_call(_Loss(twin, net), {f"twin.{k}": v for k, v in given.items()}, ())

    hessian = torch.autograd.functional.hessian(loss, start)
    gradient = torch.autograd.functional.jacobian(loss, start)
    net._drawn[0] = [x]
    close(grasp.compute(net)["grasp"], -float(start @ hessian @ gradient), 1e-3)


class _Loss(torch.nn.Module):
    def __init__(self, twin: Twin, net: ProxyContext) -> None:
        super().__init__()
        self.twin, self.net = twin, net

    def forward(self) -> Tensor:
        return self.twin.loss(self.net)


def test_fisher_sums_one_channel_and_sample_after_another(net):
    twin = Twin(net)
    loss = twin.loss(net)
    total = 0.0
    for name, fan_in in (("c1", 27), ("c2", 36), ("fc", 6)):
        z = twin.seen[name]
        (g,) = torch.autograd.grad(loss, z, retain_graph=True)
        for c in range(z.shape[1]):
            per_sample = [float((z[n, c] * g[n, c]).sum()) for n in range(len(z))]
            total += fan_in * 0.5 * sum(v * v for v in per_sample) / len(z)
    close(fisher.compute(net)["fisher"], total)


def test_synflow_of_a_chain_is_its_depth_times_the_product_of_absolute_matrices():
    values = {"a": weight(7, 3), "b": weight(4, 7), "c": weight(2, 4)}
    body = "h = Gemm<transB = 1>(x, a) r = Relu(h) k = Gemm<transB = 1>(r, b) y = Gemm<transB = 1>(k, c)"
    net = network(model(f"(float[batch, 3] x) => (float[batch, 2] y) {{ {body} }}", values), "checkpoint")
    with net.borrowed():
        found = synflow.compute(net)["synflow"]
    a, b, c = (np.abs(values[k]).astype(float) for k in "abc")
    close(found, math.log(3 * (np.ones(2) @ c @ b @ a @ np.ones(3))), 1e-12)


def test_synflow_switches_batch_norm_off(net):
    twin = Twin(net).double()
    with torch.no_grad():
        for w in twin.weights:
            w.abs_()
    twin.n1, twin.n2 = torch.nn.Identity(), torch.nn.Identity()
    twin(torch.ones(1, 3, 8, 8, dtype=torch.float64)).sum().backward()
    flow = sum(float((w * w.grad).abs().sum()) for w in twin.weights)
    close(synflow.compute(net)["synflow"], math.log(flow), 1e-6)


def test_naswot_counts_equal_signs_pair_by_pair(net):
    twin = Twin(net)
    twin(net.feed()[0])
    codes = np.concatenate([twin.seen[k].detach().flatten(1).numpy() > 0 for k in ("n1", "n2")], 1)
    kernel = np.array([[np.sum(a == b) for b in codes] for a in codes], float)
    close(naswot.compute(net)["naswot"], np.linalg.slogdet(kernel)[1], 1e-10)


def test_jacov_of_numpy_correlations(net):
    twin = Twin(net)
    x = net.feed()[0].clone().requires_grad_()
    twin(x).sum().backward()
    values = np.linalg.eig(np.corrcoef(x.grad.flatten(1).double().numpy()))[0].real
    close(jacov.compute(net)["jacov"], -np.sum(np.log(values + 1e-5) + 1 / (values + 1e-5)))


def test_zico_of_two_batches(net):
    gradients = []
    for batch in (0, 1):
        twin = Twin(net)
        twin.loss(net, batch).backward()
        gradients.append([w.grad.double().numpy().ravel() for w in twin.weights])
    total = 0.0
    for pair in zip(*gradients, strict=True):
        stacked = np.stack(pair)
        std, mean = stacked.std(0), np.abs(stacked).mean(0)
        total += math.log(np.sum(mean[std != 0] / std[std != 0]))
    close(zico.compute(net)["zico"], total, 1e-3)


def test_zen_with_batch_norm_of_the_batch():
    net = network(cnn(), "paper")
    with net.borrowed(), net.scratch(), torch.no_grad():
        zen._draw(net)
        twin = Twin(net)
        x = net.feed()[0]
        step = torch.randn(x.shape, generator=generator_for(net.seed, "zen step"))
        plain = twin.features(x)
        scales = [twin.seen[k].var((0, 2, 3), correction=0).mean().sqrt() for k in ("c1", "c2")]
        moved = twin.features(x + 0.01 * step)
        expected = (plain - moved).abs().sum((1, 2, 3)).mean().log() + sum(s.log() for s in scales)
        drawn = float(net.weights["w2"].std())
    with net.borrowed():
        close(zen.compute(net)["zen"], float(expected))
    assert drawn == pytest.approx(1.0, abs=0.2)


def test_meco_of_numpy_correlations(net):
    twin = Twin(net)
    twin(net.feed()[0])
    least = [
        np.linalg.eigvalsh(np.corrcoef(twin.seen[k][0].detach().double().flatten(1).numpy()))[0]
        for k in ("c1", "c2")
    ]
    close(meco.compute(net)["meco"], sum(least))


def test_meco_of_more_channels_than_positions_and_of_a_constant_channel_is_zero():
    assert meco.least_eigenvalue(torch.randn(4, 4, dtype=torch.float64)) == 0.0
    rows = torch.randn(9, 3, dtype=torch.float64)
    assert meco.least_eigenvalue(rows) > 0.0
    rows[:, 1] = 2.0
    assert meco.least_eigenvalue(rows) == 0.0


def test_az_nas_of_the_two_blocks(net):
    twin = Twin(net)
    twin(net.feed()[0])
    ends = [twin.seen[k] for k in ("n1", "n2")]
    entropies = []
    for end in ends:
        rows = end.detach().double().movedim(1, -1).flatten(0, 2).numpy()
        shares = np.linalg.eigvalsh(np.cov(rows.T))
        shares = shares / shares.sum()
        entropies.append(-np.sum(shares * np.log(shares + 1e-8)))
    found = az_nas.compute(net)
    close(found["az_nas_expressivity"], sum(entropies))
    close(found["az_nas_progressivity"], min(b - a for a, b in pairwise(entropies)))
    assert found["az_nas_complexity"] == net.macs
    close(found["az_nas_trainability"], _trainability(net, *ends))


def _trainability(net: ProxyContext, before: Tensor, after: Tensor) -> float:
    """Outer products position by position; four positions of the finer image are channels of one."""
    generator = generator_for(net.seed, "az_nas signs")
    n, c, h, w = after.shape
    signs = (torch.randint(0, 2, (n, h, w, c), generator=generator) * 2 - 1).float().movedim(-1, 1)
    (g,) = torch.autograd.grad(after, before, signs)
    total = np.zeros((before.shape[1] * 4, c))
    for i in range(n):
        for y in range(h):
            for x in range(w):
                patch = g[i, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].flatten().numpy()
                total += np.outer(patch, signs[i, :, y, x].numpy())
    s = np.linalg.svd(total / (n * h * w))[1][0]
    return 2 - s - 1 / (s + 1e-6)


@pytest.mark.parametrize("protocol", ["paper", "checkpoint"])
def test_vkdnw_of_whole_jacobians(protocol):
    net = network(cnn(), protocol)
    with net.borrowed():
        twin = Twin(net).double()
        x = net.feed()[0].double()
        if protocol == "paper":
            _freeze(twin, x)
        firsts = [w.detach().flatten()[:1].clone() for w in twin.weights]

        def logits(*values: Tensor) -> Tensor:
            names = ("c1.weight", "c2.weight", "fc.weight")
            changed = {}
            for name, w, v in zip(names, twin.weights, values, strict=True):
                changed[name] = torch.cat([v, w.detach().flatten()[1:]]).reshape(w.shape)
            return functional_call(twin, changed, (x,))

        jacobian = torch.cat(torch.autograd.functional.jacobian(logits, tuple(firsts)), 2).numpy()
        p = torch.softmax(twin(x), 1).detach().numpy() * 0.95 + 0.05 / 5
        blocks = [j.T @ (np.diag(q) - np.outer(q, q)) @ j for j, q in zip(jacobian, p, strict=True)]
        expected = np.mean(blocks, 0)
        np.testing.assert_allclose(vkdnw.information(net).numpy(), expected, rtol=1e-3, atol=1e-9)
        deciles = np.quantile(np.linalg.eigvalsh(expected), np.arange(1, 10) / 10)
        shares = deciles / deciles.sum()
        entropy = -np.sum(shares * np.log(shares))
        found = vkdnw.compute(net)
    close(found["vkdnw_entropy"], entropy, 1e-3)
    assert found["vkdnw"] == pytest.approx(3 + found["vkdnw_entropy"])


def _freeze(twin: Twin, x: Tensor) -> None:
    """Make running statistics of those of the batch, so that samples stay apart."""
    with torch.no_grad():
        twin(x)
        for norm, made in ((twin.n1, "c1"), (twin.n2, "c2")):
            norm.running_mean.copy_(twin.seen[made].mean((0, 2, 3)))
            norm.running_var.copy_(twin.seen[made].var((0, 2, 3), correction=0))
    twin.eval()


def test_vkdnw_directions_stand_for_the_covariance_of_a_softmax():
    few, many = torch.randn(3, 5), torch.randn(3, 4000) / 10
    for logits, tolerance in ((few, 1e-6), (many, 0.05)):
        p = torch.softmax(logits, 1) * 0.95 + 0.05 / logits.shape[1]
        found = torch.stack(vkdnw._directions(logits, 0), 2)
        probe = torch.randn(3, logits.shape[1], generator=torch.Generator().manual_seed(1))
        got = (probe[:, None] @ found).square().sum((1, 2)).mean()
        expected = (p * probe.square()).sum(1) - (p * probe).sum(1).square()
        assert float(got) == pytest.approx(float(expected.mean()), rel=max(tolerance * 5, 1e-5))
