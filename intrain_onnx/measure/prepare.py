"""Converts a protocol's network to a module with inputs, and chooses batched or lock-step execution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property

import onnx_ir as ir
import torch
from torch import Tensor, fx, nn

from intrain_onnx.config import ScoreConfig
from intrain_onnx.loading.warnings import ModelWarning
from intrain_onnx.measure import as_drawn, initialise, inputs
from intrain_onnx.measure.calibration import Calibration, calibrate
from intrain_onnx.measure.loss import synthetic_loss
from intrain_onnx.measure.segments import PLAIN, Segments, Way
from intrain_onnx.measure.statistics.through_weights import Reader, readers
from intrain_onnx.measure.trace import LossTerm
from intrain_onnx.network import given_inputs, input_shapes, measuring_points
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.signature.sample_axes import each_by_itself
from intrain_onnx.network.values import constant_array
from intrain_onnx.opset.traits import is_op
from intrain_onnx.rewrites.protocol.sequence import ProtocolNetwork
from intrain_onnx.runtime import convert, streamed
from intrain_onnx.runtime.fuse import fuse
from intrain_onnx.runtime.fuse.visible import measured
from intrain_onnx.runtime.interpreter import NodeError, Samples, run


@dataclass(frozen=True)
class Runnable:
    """A converted network with its inputs, ready to be probed.

    Attributes:
        probed: the network after the protocol's rewrites.
        module: the network in torch, with compositions put together where no measured value lies inside.
        whole: the same with the same parameters, and every value of the graph.
        points: values between the layers that are measured.
        used: shapes of the inputs of a run.
        batched: all samples run in one call; else in several calls in lock step.
        device: of the module.
        as_drawn: layers that calibration leaves alone.
        batch_statistics: BatchNorm normalises by the statistics of the batch.
        all_points: measure the covariance of points too, not only their correlation.
        segments: whose activations are made again on the way back; None to keep all.
        projections: by which the covariances of wide values are estimated; 0 for exact ones.
        warnings: about the execution.
    """

    probed: ProtocolNetwork
    module: fx.GraphModule
    whole: fx.GraphModule
    points: tuple[measuring_points.Point, ...]
    used: input_shapes.Signature
    batched: bool
    device: torch.device
    as_drawn: Mapping[str, as_drawn.Reason]
    batch_statistics: bool
    all_points: bool = False
    segments: Segments | None = None
    projections: int = 0
    warnings: tuple[ModelWarning, ...] = ()

    @property
    def layers(self) -> LayerMap:
        """The static analysis of the converted graph."""
        return self.probed.layers

    @property
    def head_names(self) -> list[str]:
        """Name of the graph output behind each of the module's outputs, in order."""
        return [head.output for head in self.probed.heads]

    @cached_property
    def parameters(self) -> Mapping[str, nn.Parameter]:
        """The module's parameters by ONNX name."""
        return initialise.parameters(self.module)

    @cached_property
    def readers(self) -> Mapping[str, Sequence[Reader]]:
        """Layers whose outputs may be told from what they read (see ``through_weights.readers``)."""
        return readers(self.module, self.layers)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of each parameter by ONNX name, in the file's layout."""
        held = {name: tuple(p.shape) for name, p in self.parameters.items()}
        return held | {name: w.shape for name, w in streamed.weights(self.module).items()}

    def feed(self, generator: torch.Generator) -> list[Tensor | Samples]:
        """Inputs of one run, drawn from the generator's seed."""
        return inputs.feed(self.used, generator, self.device, batched=self.batched)

    def redraw(self, seed: int) -> None:
        """Re-initialise the weights, in place (see ``reinitialise``)."""
        initialise.reinitialise(self.module, self.layers, seed, self.as_drawn)

    def calibration(self) -> Calibration:
        """What calibrates the weights in a pass."""
        return Calibration(self.module, self.layers, self.probed.norms, self.as_drawn, self.used.batch)

    def calibrate(self, fed: Sequence[Tensor | Samples]) -> list[str]:
        """Calibrate the weights on inputs, in place; returns the layers that do not vary."""
        return calibrate(self.module, self.layers, self.probed.norms, fed, self.as_drawn, self.used.batch)

    def loss(
        self, outputs: Sequence[list[Tensor]], generator: torch.Generator
    ) -> tuple[Tensor, list[LossTerm]]:
        """The synthetic loss of the module's outputs (see ``synthetic_loss``)."""
        last = any(spec.channels_last for spec in self.used.inputs)
        return synthetic_loss(outputs, self.head_names, self.used.batch, generator, channels_last=last)


def prepare(probed: ProtocolNetwork, config: ScoreConfig, device: torch.device, way: Way = PLAIN) -> Runnable:
    """Convert a network, and test whether all samples can be run in one call.

    Weights that the protocol draws have no values before ``Runnable.redraw``. With ``way.stream``, the
    module does not hold the weights of large layers (see ``runtime.streamed``).

    Raises:
        MissingOpsError, UnsupportedError: see ``convert``.
    """
    names = streamed.of_layers(probed.model, probed.layers) if way.stream else ()
    stand_ins = streamed.stand_ins(probed.model, names, device)
    drawn = config.weights == "reinitialise"
    module = convert.convert(probed.model, probed.layers.slots, to_be_drawn=drawn, stand_ins=stand_ins)
    untrained = config.batch_norm == "inference" and has_untrained_norms(probed.model)
    batch_statistics = untrained or config.batch_norm == "training"
    if batch_statistics:
        initialise.use_batch_statistics(module)
    module.to(device)
    found = measuring_points.find(probed.model, probed.layers)
    points = tuple(p for p in found if p.cut or p.step_axis is not None or config.points == "all")
    used = given_inputs.resolve(probed.model, config, sizes=probed.sizes)
    left = as_drawn.reasons(probed.model, probed.layers) if config.calibrate else {}
    if _is_known_to_batch(probed.model, used, batch_statistics):
        batched, warnings = True, list[ModelWarning]()
    else:
        if drawn:
            initialise.reinitialise(module, probed.layers, config.seed, left)
        batched, warnings = _choose_execution(module, used, config.seed, device)
    if not batched and config.batch_norm == "training" and used.fixed_batch != used.batch:
        text = "the graph runs sample by sample; BatchNorm is normalised over all samples at once"
        warnings = [*warnings, ModelWarning("batch_statistics", text, None)]
    if untrained:
        text = "the statistics of BatchNorm are those before any training; those of the batch are used"
        warnings = [*warnings, ModelWarning("untrained_batch_norm", text, None)]
    return Runnable(
        probed,
        fuse(module, measured(probed.layers, points, calibrated=config.calibrate)),
        module,
        points,
        used,
        batched,
        device,
        as_drawn=left,
        batch_statistics=batch_statistics,
        all_points=config.points == "all",
        segments=way.segments,
        projections=config.projections,
        warnings=tuple(warnings),
    )


def has_untrained_norms(model: ir.Model) -> bool:
    """Whether there is a BatchNorm, and none has seen data: all running means are 0, all variances 1.

    By such statistics it is the identity, which is neither what training begins with nor what is deployed.
    """
    nodes = [node for node in model.graph if is_op(node, "BatchNormalization")]
    statistics = [(constant_array(n.inputs[3]), constant_array(n.inputs[4])) for n in nodes]
    return bool(statistics) and all(
        mean is not None and variance is not None and not mean.any() and bool((variance == 1).all())
        for mean, variance in statistics
    )


def _is_known_to_batch(model: ir.Model, used: input_shapes.Signature, batch_statistics: bool) -> bool:
    """Whether the graph itself says that all samples can be run in one call, so that no trial is needed."""
    if used.given or used.separate or (batch_statistics and used.fixed_batch is not None):
        return False
    return used.fixed_batch == used.batch or each_by_itself(
        model.graph, {spec.name: spec.batch_axis for spec in used.inputs}
    )


def _choose_execution(
    module: fx.GraphModule, used: input_shapes.Signature, seed: int, device: torch.device
) -> tuple[bool, list[ModelWarning]]:
    """Whether all samples can be run in one call, tested on two graph batches run together and apart."""
    if used.fixed_batch == used.batch:
        return True, []
    if used.separate:
        text = f"no axis of the inputs holds samples: {used.batch} calls were run in lock step"
        return False, [ModelWarning("no_batch_axis", text, None)]
    size = used.fixed_batch or 1
    how = f"{used.batch // size} calls were run in lock step"
    pair = input_shapes.resized(used, 2 * size)
    drawn = inputs.draw(pair, torch.Generator().manual_seed(seed), device)
    values_matter = used.fixed_batch is not None
    with torch.no_grad(), nullcontext() if values_matter else streamed.blank(module):
        try:
            together = run(module, drawn)
        except NodeError as error:
            apart = run(module, inputs.chunk(drawn, pair, size))
            assert apart
            text = f"the graph has a batch of {size} built in; {how}"
            return False, [ModelWarning("sample_by_sample", text, error.node)]
        if not values_matter:
            return True, []
        apart = run(module, inputs.chunk(drawn, pair, size))
    if all(inputs.same(a, b) for a, b in zip(together, apart, strict=True)):
        return True, []
    text = f"the graph mixes samples when it is given more than {size}; {how}"
    return False, [ModelWarning("sample_by_sample", text, None)]
