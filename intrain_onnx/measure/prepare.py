"""From a network in a protocol's form to a module with inputs that is ready to be probed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from torch import Tensor, fx, nn

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import UnsupportedError
from intrain_onnx.loading.warnings import ModelWarning
from intrain_onnx.measure import initialise, inputs
from intrain_onnx.measure.loss import synthetic_loss
from intrain_onnx.measure.trace import LossTerm
from intrain_onnx.network import given_inputs, input_shapes, measuring_points
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.ops.limits import element_limit
from intrain_onnx.rewrites.network import Runs
from intrain_onnx.rewrites.protocol.sequence import ProtocolNetwork
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.arrays import to_numpy
from intrain_onnx.runtime.interpreter import NodeError, Samples, run

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class Runnable:
    """A module with all that a run of it needs.

    Attributes:
        probed: the network that it was made from.
        module: the network in torch.
        points: values between the layers that are measured.
        used: the inputs of a run.
        batched: all samples go through in one call; else they go in lock step, each in calls of its own.
        device: where the module lies.
        all_points: measure the covariance of points too, not only their correlation.
        warnings: what a user should know of how it is run.
    """

    probed: ProtocolNetwork
    module: fx.GraphModule
    points: tuple[measuring_points.Point, ...]
    used: input_shapes.Signature
    batched: bool
    device: torch.device
    all_points: bool = False
    warnings: tuple[ModelWarning, ...] = ()

    @property
    def layers(self) -> LayerMap:
        """The static pass of the graph that the module was made from."""
        return self.probed.layers

    @property
    def head_names(self) -> list[str]:
        """The graph outputs that the module's outputs stand for, in order."""
        return [head.output for head in self.probed.heads]

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The module's parameters by ONNX name."""
        return initialise.parameters(self.module)

    def feed(self, generator: torch.Generator) -> list[Tensor | Samples]:
        """Inputs of one run, drawn from the generator's seed."""
        return inputs.feed(self.used, generator, self.device, batched=self.batched)

    def loss(
        self, outputs: Sequence[list[Tensor]], generator: torch.Generator
    ) -> tuple[Tensor, list[LossTerm]]:
        """The synthetic loss of the module's outputs (see ``synthetic_loss``)."""
        last = any(spec.channels_last for spec in self.used.inputs)
        return synthetic_loss(outputs, self.head_names, self.used.batch, generator, channels_last=last)


def prepare(probed: ProtocolNetwork, config: ScoreConfig, device: torch.device) -> Runnable:
    """Convert a network, and find out whether all samples can go through in one call.

    Raises:
        MissingOpsError, UnsupportedError: see ``convert``.
    """
    module = convert.convert(probed.model, probed.layers.slots)
    if config.batch_norm == "training":
        initialise.use_batch_statistics(module)
    module.to(device)
    found = measuring_points.find(probed.model, probed.layers)
    points = tuple(p for p in found if p.cut or config.points == "all")
    used = given_inputs.resolve(probed.model, config)
    if config.weights == "reinitialise":
        initialise.reinitialise(module, probed.layers, config.seed)
    batched, warnings = _choose_execution(module, used, config.seed, device)
    if not batched and config.batch_norm == "training" and used.fixed_batch != used.batch:
        text = "the graph runs sample by sample; BatchNorm is normalised over all samples at once"
        warnings = [*warnings, ModelWarning("batch_statistics", text, None)]
    return Runnable(probed, module, points, used, batched, device, config.points == "all", tuple(warnings))


def _choose_execution(
    module: fx.GraphModule, used: input_shapes.Signature, seed: int, device: torch.device
) -> tuple[bool, list[ModelWarning]]:
    """Whether all samples can go through in one call: the batch is open, or samples stay apart."""
    if used.fixed_batch == used.batch:
        return True, []
    size = used.fixed_batch or 1
    how = f"{used.batch // size} calls were run in lock step"
    pair = input_shapes.resized(used, 2 * size)
    drawn = inputs.draw(pair, torch.Generator().manual_seed(seed), device)
    with torch.no_grad():
        try:
            together = run(module, drawn)
        except NodeError as error:
            apart = run(module, inputs.chunk(drawn, pair, size))
            assert apart
            text = f"the graph has a batch of {size} built in; {how}"
            return False, [ModelWarning("sample_by_sample", text, error.node)]
        if used.fixed_batch is None:
            return True, []
        apart = run(module, inputs.chunk(drawn, pair, size))
    if all(inputs.same(a, b) for a, b in zip(together, apart, strict=True)):
        return True, []
    text = f"the graph mixes samples when it is given more than {size}; {how}"
    return False, [ModelWarning("sample_by_sample", text, None)]


def runs_on(device: torch.device) -> Runs:
    """What finds shapes and values by running a graph: shapes on a device, weights on the CPU."""
    return Runs(partial(seen_shapes, device=device), evaluate)


def evaluate(model: ir.Model) -> list[np.ndarray[Any, Any]]:
    """The outputs of a model without inputs.

    Raises:
        UnsupportedError, LimitError: a node cannot be run, or makes too much; names it.
    """
    with torch.no_grad(), element_limit(memory.elements_of_one_tensor()):
        return [to_numpy(part) for (part,) in run(convert.convert(model), [])]


def seen_shapes(
    model: ir.Model, single: input_shapes.Signature, device: torch.device = _CPU
) -> dict[str, tuple[int, ...]]:
    """Shapes of all values in a run of one sample; none where the whole graph cannot be run."""
    shapes: dict[str, tuple[int, ...]] = {}
    try:
        module = convert.convert(model).to(device)
        names = [n for node in module.graph.nodes for n in node.meta.get("onnx_outputs", ()) if n]
        drawn = inputs.draw(single, torch.Generator().manual_seed(0), device)
        with torch.no_grad():
            run(module, drawn, {name: partial(_note_shape, shapes, name) for name in names})
    except UnsupportedError:
        return {}
    return shapes


def _note_shape(shapes: dict[str, tuple[int, ...]], name: str, parts: list[Tensor]) -> None:
    shapes[name] = tuple(parts[0].shape)
