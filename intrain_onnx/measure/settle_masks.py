"""Determines the polarity of mask inputs by running: outputs must depend on the other inputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice, product
from typing import Literal

import onnx_ir as ir
import torch
from torch import Tensor, fx

from intrain_onnx.errors import IntrainError
from intrain_onnx.measure.inputs import draw
from intrain_onnx.network.input_shapes import InputSpec, Signature
from intrain_onnx.network.signature.input_roles import Role
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.interpreter import run

_MOST_TRIALS = 8

_Fill = Literal["ones", "zeros"]


def settle_masks(model: ir.Model, single: Signature, device: torch.device) -> Mapping[str, Role]:
    """Roles of masks that mask everything when filled with ones.

    A mask is a boolean input, or a numeric one named so that no layer reads. With ones, the outputs must be
    finite and change with the other inputs; otherwise zeros are tried, then each mixture over the masks. Ones
    are kept if none fits, or if the model cannot be run.
    """
    drawn = [spec for spec in single.inputs if spec.name not in single.given]
    masks = [spec for spec in drawn if spec.kind == "ones" and spec.number >= 0]
    others = any(spec.kind not in ("ones", "zeros") for spec in drawn)
    if not masks or not others:
        return {}
    try:
        module = convert.convert(model).to(device)
        for fills in islice(_trials(len(masks)), _MOST_TRIALS):
            told = {mask.name: fill for mask, fill in zip(masks, fills, strict=True)}
            if _follows(module, single, told, device):
                return {name: Role(fill) for name, fill in told.items() if fill != "ones"}
    except IntrainError:  # reported when the model is run
        return {}
    return {}


def _trials(count: int) -> Iterator[tuple[_Fill, ...]]:
    ones: _Fill = "ones"
    zeros: _Fill = "zeros"
    yield from ((ones,) * count, (zeros,) * count)
    yield from (mixed for mixed in product((ones, zeros), repeat=count) if len(set(mixed)) > 1)


def _follows(
    module: fx.GraphModule, single: Signature, told: Mapping[str, _Fill], device: torch.device
) -> bool:
    """Whether the outputs are finite and differ between two draws of the other inputs."""
    signature = replace(single, inputs=tuple(_filled(spec, told) for spec in single.inputs))
    with torch.no_grad():
        first, second = (
            [parts[0] for parts in run(module, draw(signature, torch.Generator().manual_seed(seed), device))]
            for seed in (0, 1)
        )
    floats = [(a, b) for a, b in zip(first, second, strict=True) if _is_float(a) and _is_float(b)]
    finite = all(bool(torch.isfinite(v).all()) for pair in floats for v in pair)
    return finite and (not floats or any(a.shape != b.shape or not torch.equal(a, b) for a, b in floats))


def _filled(spec: InputSpec, told: Mapping[str, _Fill]) -> InputSpec:
    return replace(spec, kind=told[spec.name]) if spec.name in told else spec


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
