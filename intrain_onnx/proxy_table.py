"""The table of the other zero-cost proxies: formula, source and direction. Importing this needs no torch.

A proxy yields raw values of one network; ranks over a population are formed in `proxies.aggregate`, so that
no stored value depends on which other networks were measured. Each proxy is one module of `proxies`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, Literal

from intrain_onnx.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Proxy:
    """Metadata of a proxy; the module of its name computes it.

    Attributes:
        name: of the proxy and of its module.
        title: as its authors call it.
        formula: in one line.
        source: authors, venue, year.
        direction: 1 where a higher value is better, else -1.
        parts: names of the raw values that it yields.
        static: computed from the graph, without a forward or backward pass.
        needs: what a network must have to be measured.
        agreement: Kendall's tau with published values on 200 NAS-Bench-201 networks, as
            ``benchmarks/published_proxies.py`` measures it; None if no values are published.
    """

    name: str
    title: str
    formula: str
    source: str
    direction: Literal[1, -1]
    parts: tuple[str, ...]
    static: bool = False
    needs: str = "a weight that the loss reaches"
    agreement: float | None = None


_ROWS: Final = (
    Proxy(
        "params",
        "#Params",
        "number of trainable elements",
        "a baseline without an author",
        1,
        ("params",),
        static=True,
        needs="the graph",
        agreement=1.0,
    ),
    Proxy(
        "flops",
        "FLOPs",
        "multiply-accumulate operations for one sample",
        "a baseline without an author",
        1,
        ("flops",),
        static=True,
        needs="known shapes",
        agreement=1.0,
    ),
    Proxy(
        "layers",
        "layer count",
        "number of layers with weights",
        "Tybl and Neumann, VKDNW, CVPR 2025, show how strong it is",
        1,
        ("layers",),
        static=True,
        needs="the graph",
    ),
    Proxy(
        "grad_norm",
        "GradNorm",
        "sum over weights W of ||dL/dW||_2",
        "Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021",
        1,
        ("grad_norm",),
        agreement=0.9,
    ),
    Proxy(
        "snip",
        "SNIP",
        "sum over weights of |w dL/dw|",
        "Lee, Ajanthan and Torr, ICLR 2019; as a proxy Abdelfattah et al., ICLR 2021",
        1,
        ("snip",),
        agreement=0.9,
    ),
    Proxy(
        "grasp",
        "GraSP",
        "sum over weights of -w (H g), g = dL/dw, H its Hessian",
        "Wang, Zhang and Grosse, ICLR 2020; as a proxy Abdelfattah et al., ICLR 2021",
        1,
        ("grasp",),
        needs="operators with a second derivative",
        agreement=0.62,
    ),
    Proxy(
        "fisher",
        "Fisher",
        "sum over layers and channels of 1/2 mean over samples of (sum over space of z dL/dz)^2",
        "Turner et al., BlockSwap, ICLR 2020; as a proxy Abdelfattah et al., ICLR 2021",
        1,
        ("fisher",),
        agreement=0.7,
    ),
    Proxy(
        "synflow",
        "SynFlow",
        "log of the sum over weights of |w dR/dw|, R = sum of the outputs for an input of ones under |w|",
        "Tanaka et al., NeurIPS 2020; as a proxy Abdelfattah et al., ICLR 2021",
        1,
        ("synflow",),
        needs="a float input or an embedding, and a path to the output that stays positive",
        agreement=0.94,
    ),
    Proxy(
        "naswot",
        "NASWOT",
        "log det K, K_ij = number of units whose activation has the same sign for samples i and j",
        "Mellor et al., Neural Architecture Search without Training, ICML 2021",
        1,
        ("naswot",),
        needs="activation functions, and samples apart",
        agreement=0.79,
    ),
    Proxy(
        "jacov",
        "Jacov",
        "-sum over i of log(v_i + k) + 1 / (v_i + k), v eigenvalues of the correlation of input gradients",
        "Mellor et al., arXiv 2006.04647v1, 2020; as a proxy Abdelfattah et al., ICLR 2021",
        1,
        ("jacov",),
        needs="a float input or an embedding",
        agreement=0.76,
    ),
    Proxy(
        "zico",
        "ZiCo",
        "sum over weights W of log of the sum over w of mean |g| / std g over two batches",
        "Li et al., ICLR 2023",
        1,
        ("zico",),
    ),
    Proxy(
        "zen",
        "Zen-score",
        "log mean ||f(x) - f(x + a e)||_1 + sum over BatchNorms of log sigma, weights N(0, 1)",
        "Lin et al., Zen-NAS, ICCV 2021",
        1,
        ("zen",),
        needs="a float input or an embedding",
        agreement=0.83,
    ),
    Proxy(
        "meco",
        "MeCo",
        "sum over layers of the least eigenvalue of the correlation between channels of one sample",
        "Jiang, Wang and Bie, NeurIPS 2023",
        1,
        ("meco",),
        needs="a layer with several positions",
    ),
    Proxy(
        "az_nas",
        "AZ-NAS",
        "of blocks: summed entropy of eigenvalues, its least increase, mean of 2 - s - 1/s; and FLOPs",
        "Lee and Ham, CVPR 2024",
        1,
        tuple(f"az_nas_{part}" for part in ("expressivity", "progressivity", "trainability", "complexity")),
        needs="two blocks or more",
    ),
    Proxy(
        "vkdnw",
        "VKDNW",
        "layer count + entropy of the deciles of the Fisher information's eigenvalues",
        "Tybl and Neumann, CVPR 2025",
        1,
        ("vkdnw", "vkdnw_entropy"),
        needs="class logits",
    ),
)

PROXIES: Final[Mapping[str, Proxy]] = MappingProxyType({row.name: row for row in _ROWS})

LOWER: Final = frozenset(part for proxy in PROXIES.values() if proxy.direction < 0 for part in proxy.parts)
"""Parts of proxies of which a lower value is better."""


def names(text: str) -> tuple[str, ...]:
    """Names of proxies from ``all`` or a list such as ``synflow,naswot``, each once and in the order given.

    Raises:
        SettingsError: one of them is not known.
    """
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if wanted == ["all"]:
        return tuple(PROXIES)
    unknown = [name for name in wanted if name not in PROXIES]
    if unknown or not wanted:
        what = f"no proxy is called {', '.join(map(repr, unknown))}" if unknown else "no proxy is named"
        raise SettingsError(what, hint=f"Use all, or some of {', '.join(PROXIES)}")
    return tuple(dict.fromkeys(wanted))
