"""Searches sizes of free dimensions by running the model, for shapes that depend on computed values."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import islice

import onnx_ir as ir
import torch

from intrain_onnx.errors import IntrainError
from intrain_onnx.measure.inputs import draw
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.interpreter import NodeError, run

_MOST_TRIALS = 32
_LARGEST = 4096
_SMALL = (32, 16, 8, 4, 2, 1)


def fit_sizes(
    model: ir.Model,
    sizes: Mapping[str, int],
    resolve: Callable[[Mapping[str, int]], Signature],
    device: torch.device,
) -> dict[str, int]:
    """Sizes with which one sample runs; the given ones if they run, or if the search fails.

    Candidates change one free dimension: to a size in the shapes of the file's initializers, from the default
    downward, then upward, or to a small power of two.

    Args:
        model: in normal form.
        sizes: replace the defaults so far.
        resolve: computes the inputs of one sample from sizes of free dimensions.
        device: to run on.
    """
    usual = resolve(sizes)
    try:
        module = convert.convert(model).to(device)
        if not usual.free or _runs(module, usual, device):
            return dict(sizes)
        for name, size in islice(_candidates(model, usual.free), _MOST_TRIALS):
            tried = {**sizes, name: size}
            if _runs(module, resolve(tried), device):
                return tried
    except IntrainError:  # reported when the model is run
        pass
    return dict(sizes)


def _runs(module: torch.fx.GraphModule, signature: Signature, device: torch.device) -> bool:
    try:
        with torch.no_grad():
            run(module, draw(signature, torch.Generator().manual_seed(0), device))
    except NodeError:
        return False
    return True


def _candidates(model: ir.Model, free: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    tensors = (v.const_value for v in model.graph.initializers.values())
    found = {d for t in tensors if t is not None for d in t.shape.numpy() if 1 < d <= _LARGEST}
    for name, usual in free.items():
        below = sorted((d for d in found if d < usual), reverse=True)
        for size in (*below, *sorted(d for d in found if d > usual), *(s for s in _SMALL if s not in found)):
            yield name, size
