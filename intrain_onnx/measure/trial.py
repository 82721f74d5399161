"""Runs of one sample of a normalised model, converted once, on first use."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import onnx_ir as ir
import torch
from torch import Tensor, fx

from intrain_onnx import memory
from intrain_onnx.errors import UnsupportedError
from intrain_onnx.measure.inputs import draw
from intrain_onnx.network.footprint import held_bytes
from intrain_onnx.network.input_shapes import Signature
from intrain_onnx.runtime import convert, streamed
from intrain_onnx.runtime.interpreter import Observer, run
from intrain_onnx.runtime.random_streams import random_nodes_from


class Trial:
    """A model and its converted module, which is kept until :meth:`forget`.

    Args:
        model: in normal form; its nodes are not changed while this is used.
        device: to run on.
    """

    def __init__(self, model: ir.Model, device: torch.device) -> None:
        self.model = model
        self.device = device
        self._module: fx.GraphModule | None = None

    @property
    def module(self) -> fx.GraphModule:
        """The converted module.

        Raises:
            MissingOpsError, UnsupportedError: see ``convert``.
        """
        if self._module is None:
            fits = memory.fits(held_bytes(self.model))
            names = () if fits else streamed.large(self.model, self.model.graph.initializers)
            stand_ins = streamed.stand_ins(self.model, names, self.device)
            self._module = convert.convert(self.model, stand_ins=stand_ins).to(self.device)
        return self._module

    def forget(self) -> None:
        """Free the module's memory; the next use converts again."""
        self._module = None

    def run(
        self, signature: Signature, seed: int = 0, observers: Mapping[str, Observer] | None = None
    ) -> list[Tensor]:
        """The outputs of one run without gradients.

        Raises:
            NodeError: a node fails on these inputs.
            IntrainError: the model cannot be converted, or a limit is exceeded.
        """
        drawn = draw(signature, torch.Generator().manual_seed(seed), self.device)
        with torch.no_grad(), random_nodes_from(seed):
            return [parts[0] for parts in run(self.module, drawn, observers or {})]

    def shapes(self, single: Signature) -> dict[str, tuple[int, ...]]:
        """Shapes of all values in two runs of one sample each; none if the whole graph cannot be run.

        A shape that differs between the runs follows from the data and is left out.
        """
        runs: list[dict[str, tuple[int, ...]]] = []
        try:
            names = [n for node in self.module.graph.nodes for n in node.meta.get("onnx_outputs", ()) if n]
            for seed in (0, 1):
                shapes: dict[str, tuple[int, ...]] = {}
                self.run(single, seed, {name: partial(_note_shape, shapes, name) for name in names})
                runs.append(shapes)
        except UnsupportedError:
            return {}
        first, second = runs
        return {name: shape for name, shape in first.items() if second.get(name) == shape}


def _note_shape(shapes: dict[str, tuple[int, ...]], name: str, parts: list[Tensor]) -> None:
    shapes[name] = tuple(parts[0].shape)
