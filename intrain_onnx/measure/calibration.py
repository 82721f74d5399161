"""Calibration of layers to zero mean and unit variance, in a pass that can be the probe's own.

A layer's raw output tells its statistics when it appears. It is standardised there, and the weights are
scaled where they lie, so that what autograd has saved of them is scaled too: the gradients of the rest of the
pass are those of the calibrated network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import torch
from torch import Tensor, fx, nn

from intrain_onnx.measure.as_drawn import GATES, Reason
from intrain_onnx.measure.finiteness import first_non_finite_value
from intrain_onnx.measure.initialise import parameters, to_file_layout
from intrain_onnx.measure.statistics.moments import as_rows
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.recognise import Layer
from intrain_onnx.rewrites.protocol.step import FreeNorm
from intrain_onnx.runtime import streamed
from intrain_onnx.runtime.interpreter import Observer, Samples, run
from intrain_onnx.runtime.of_graph import once
from intrain_onnx.runtime.recomputed import Change, Changes
from intrain_onnx.runtime.streamed import StreamedWeight

HINT: Final = "Feed it values of another size"

_SAVED: Final[Mapping[str, tuple[str | None, ...]]] = {
    "ConvolutionBackward0": (None, "_saved_weight"),
    "MmBackward0": ("_saved_self", "_saved_mat2"),
    "AddmmBackward0": (None, "_saved_mat1", "_saved_mat2"),
    "BmmBackward0": ("_saved_self", "_saved_mat2"),
    "NativeBatchNormBackward0": (None, "_saved_weight"),
    "CudnnBatchNormBackward0": (None, "_saved_weight"),
}
"""What autograd saves of each operand of a product, by the kind of its node."""

_VIEWS: Final = frozenset(
    f"{name}Backward{version}"
    for name in ("View", "UnsafeView", "ReshapeAlias", "T", "Transpose", "Permute", "Squeeze", "Unsqueeze")
    for version in range(3)
)


Weight = nn.Parameter | StreamedWeight
"""Of a layer, held or not."""


class Standard(NamedTuple):
    """A calibrated layer's output as a matrix.

    Attributes:
        matrix: (rows, channels), centred, of unit variance where it varies.
        mean: (channels,), what was subtracted, in units of the deviation.
        shape: of the value, or of its first part.
    """

    matrix: Tensor
    mean: Tensor
    shape: tuple[int, ...]


class Calibration:
    """Scales and shifts convolutions and linear layers to zero mean and unit variance per channel, in place.

    Data-dependent initialisation as LSUV (Mishkin and Matas, ICLR 2016), but per channel and with a shift: in
    one forward pass each layer is calibrated on the outputs of the calibrated layers before it. BatchNorm
    does the same at initialisation, so a graph with folded BatchNorm behaves as the original network. Free
    BatchNorm nodes are calibrated in the same pass. Recurrences (the scale of a gate matters) and embeddings
    are not calibrated, nor are those in ``as_drawn`` and a layer tied to an embedding. Another tied weight is
    calibrated at its first use; a constant channel keeps its scale, as does one that is not finite. Biases
    are zeroed first, so that a calibrated network can be calibrated again.

    Args:
        module: the converted module.
        layers: of a graph in which each such layer has a separate bias (``own_biases``).
        norms: BatchNorm nodes that no layer absorbed.
        as_drawn: layers to leave alone (see ``as_drawn.reasons``); a pooled one only with one row a sample.
        samples: in a run.

    Attributes:
        observers: to be called in the pass, by name of the value.
        standardised: matrices of the layers' outputs, by name, from when they appear until they are taken.
        changes: notes what is done to weights and values where that is wanted.
        gradients_hold: a backward pass of the same run gives the gradients of the calibrated network. False
            where a weight is read before its layer, or autograd saved a copy of it; known after the pass.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        layers: LayerMap,
        norms: Iterable[FreeNorm],
        as_drawn: Mapping[str, Reason] = MappingProxyType({}),
        samples: int = 0,
    ) -> None:
        self.observers: dict[str, Observer] = {}
        self.standardised: dict[str, Standard] = {}
        self.gradients_hold = True
        self.changes = Changes()
        self._varies: list[tuple[str, Tensor]] = []
        self._tensors: dict[str, tuple[Weight, nn.Parameter, int]] = {}
        held = parameters(module)
        values: dict[str, Weight] = {**held, **streamed.weights(module)}
        kept = (
            x for x in layers.layers if x.kind in ("embedding", "recurrent") or as_drawn.get(x.name) in GATES
        )
        self._done = {weight.name for layer in kept for weight in layer.weights}
        first = dict(_first_readers(module))
        for layer in layers.layers:
            name = layer.weights[0].name
            if layer.kind in ("convolution", "linear") and name in values and layer.bias in held:
                least = samples + 1 if layer.name in as_drawn else 0
                self._tensors[layer.name] = values[name], held[layer.bias], least
                self.observers[layer.node_output] = partial(self._layer, layer, *self._tensors[layer.name])
                held[layer.bias].data.zero_()
                if name not in self._done and name in first:
                    self.gradients_hold &= layer.node_output in first.pop(name)
        for norm in norms:
            self.observers[norm.output] = partial(self._norm, norm.output, held[norm.scale], held[norm.bias])
            held[norm.bias].data.zero_()

    def flat(self) -> list[str]:
        """Names of layers with channels that do not vary."""
        return [name for name, varies in self._varies if not bool(varies.all())]

    def is_due(self, layer: Layer, rows: int) -> bool:
        """Whether a layer whose output has so many rows will be calibrated when it runs."""
        found = self._tensors.get(layer.name)
        return found is not None and rows >= found[2] and layer.weights[0].name not in self._done

    def before(self, layer: Layer, mean: Tensor, scale: Tensor) -> None:
        """Calibrate a layer that is due before it runs: its output has this mean and 1 / deviation."""
        self._varies.append((layer.name, torch.ones_like(scale, dtype=torch.bool)))
        self._apply(layer, *self._tensors[layer.name][:2], mean, scale)

    def _apply(self, layer: Layer, weight: Weight, bias: nn.Parameter, mean: Tensor, scale: Tensor) -> None:
        reference = layer.weights[0]
        self._done.add(reference.name)
        repeats = reference.shape[0] // scale.numel()
        factor = scale.repeat(repeats) if repeats > 1 else scale
        spread = _along(factor, 0, len(reference.shape)).expand(reference.shape)
        value = weight.data if isinstance(weight, nn.Parameter) else weight
        value.mul_(to_file_layout(spread, tuple(weight.shape), reference.steps))
        bias.data.copy_((-mean * scale).reshape(bias.shape))

    def _layer(
        self, layer: Layer, weight: Weight, bias: nn.Parameter, least: int, parts: list[Tensor]
    ) -> None:
        reference, axis = layer.weights[0], layer.channel_axes[0]
        rows = sum(part.numel() // part.shape[axis] for part in parts)
        if reference.name in self._done or rows < least:
            return
        with torch.no_grad():
            found = _standardise(parts, axis)
            self._varies.append((layer.name, found.varies))
            apply = partial(self._apply, layer, weight, bias, found.mean, found.scale)
            shifted = layer.output == layer.node_output
            self._change(layer.node_output, weight, bias, apply, _Rescale(found, axis, shifted), parts)
        if len(layer.channel_axes) == 1:
            self.standardised[layer.output] = Standard(
                found.matrix, found.mean * found.scale, tuple(parts[0].shape)
            )

    def _norm(self, name: str, scale: nn.Parameter, bias: nn.Parameter, parts: list[Tensor]) -> None:
        with torch.no_grad():
            found = _standardise(parts, 1)
            apply = partial(_apply_to_norm, scale, bias, found.mean, found.scale)
            self._change(name, scale, bias, apply, _Rescale(found, 1, shifted=True), parts)

    def _change(
        self,
        value: str,
        weight: Weight,
        bias: nn.Parameter,
        apply: Callable[[], None],
        rescale: _Rescale,
        parts: list[Tensor],
    ) -> None:
        """Scale weights, and give the value what they were given."""
        if parts[0].requires_grad:
            self.gradients_hold &= _saves_itself(parts[0], weight)

        def change(parts: list[Tensor]) -> None:
            apply()
            rescale(parts)

        if self.changes.wanted:
            self.changes.noted.append(Change(value, _undoes(weight, bias), change))
        change(parts)


def calibrate(
    module: fx.GraphModule,
    layers: LayerMap,
    norms: Iterable[FreeNorm],
    inputs: Sequence[Tensor | Samples],
    as_drawn: Mapping[str, Reason] = MappingProxyType({}),
    samples: int = 0,
) -> list[str]:
    """Calibrate a module in a forward pass of its own (see :class:`Calibration`).

    Returns:
        Names of layers with channels that do not vary.

    Raises:
        NumericalError: what a layer gives is not finite; names the node where that began.
    """
    calibration = Calibration(module, layers, norms, as_drawn, samples)
    finite: list[Tensor] = []

    def checked(observer: Observer, parts: list[Tensor]) -> None:
        finite.append(torch.stack([torch.isfinite(part).all() for part in parts]).all())
        observer(parts)
        calibration.standardised.clear()

    observers = {name: partial(checked, observer) for name, observer in calibration.observers.items()}
    with torch.no_grad():
        run(module, inputs, observers)
    if finite and not bool(torch.stack(finite).all()):
        raise first_non_finite_value(module, inputs, HINT)
    return calibration.flat()


class _Rescale:
    """Gives a value what its producer's weights were given, unseen by autograd, which saved no value."""

    def __init__(self, found: _Standardised, axis: int, shifted: bool) -> None:
        self.factor, self.offset = found.scale, -found.mean * found.scale
        self.axis = axis
        self.shifted = shifted

    def __call__(self, parts: list[Tensor]) -> None:
        factor = _along(self.factor, self.axis, parts[0].dim())
        offset = _along(self.offset, self.axis, parts[0].dim())
        for part in parts:
            if self.shifted:
                torch.addcmul(offset, part.data, factor, out=part.data)
            else:
                part.data.mul_(factor)


def _apply_to_norm(scale: nn.Parameter, bias: nn.Parameter, mean: Tensor, factor: Tensor) -> None:
    scale.data.mul_(factor)
    bias.data.copy_(-mean * factor)


def _undoes(weight: Weight, bias: nn.Parameter) -> Callable[[], None]:
    """What gives a weight its value of now, and its layer no bias."""
    drawn = weight.data.clone() if isinstance(weight, nn.Parameter) else None

    def undo() -> None:
        if isinstance(weight, StreamedWeight):
            weight.take_back()
        elif drawn is not None:
            weight.data.copy_(drawn)
        bias.data.zero_()

    return undo


class _Standardised(NamedTuple):
    matrix: Tensor
    mean: Tensor
    scale: Tensor
    varies: Tensor


def _standardise(parts: list[Tensor], axis: int) -> _Standardised:
    """The rows of a value, centred and scaled, with mean and 1 / standard deviation of each channel."""
    matrices = [as_rows(part.detach(), (axis,)) for part in parts]
    whole = torch.cat(matrices) if len(matrices) > 1 else matrices[0]
    mean = whole.mean(0)
    owned = whole.untyped_storage().data_ptr() != parts[0].untyped_storage().data_ptr()
    centred = whole.sub_(mean) if owned else whole - mean
    variance = torch.linalg.vector_norm(centred, dim=0).square_() / max(len(whole), 1)
    limits = torch.finfo(variance.dtype)
    if len(whole) < 2:
        ones = torch.ones_like(mean)
        return _Standardised(centred, torch.zeros_like(mean), ones, ones.bool())
    noise = (mean * (8 * limits.eps)).square_().clamp_(min=limits.tiny)
    varies = (variance > noise) & (variance < math.inf)
    scale = torch.where(varies, variance.rsqrt(), 1.0)
    return _Standardised(centred.mul_(scale), mean.nan_to_num(0.0, 0.0, 0.0), scale, varies)


def _along(vector: Tensor, axis: int, rank: int) -> Tensor:
    return vector.reshape([-1 if i == axis % rank else 1 for i in range(rank)])


@once
def _first_readers(module: fx.GraphModule) -> Mapping[str, frozenset[str]]:
    """What the first node gives that reads each parameter and anything else too."""
    paths = {path: name for name, path in module.meta["parameters"].items()}
    not_held = streamed.weights(module)
    origin: dict[fx.Node, str] = {}
    found: dict[str, frozenset[str]] = {}
    for node in module.graph.nodes:
        if node.op == "call_module" and node.meta.get("onnx_name") in not_held:
            origin[node] = node.meta["onnx_name"]
            continue
        if node.op == "get_attr":
            if node.target in paths:
                origin[node] = paths[node.target]
            continue
        read = {origin[x] for x in node.all_input_nodes if x in origin}
        if len(read) == 1 and all(x in origin for x in node.all_input_nodes):
            origin[node] = next(iter(read))
            continue
        for name in read:
            found.setdefault(name, frozenset(node.meta.get("onnx_outputs", ())))
    return found


def _saves_itself(y: Tensor, weight: Weight) -> bool:
    """Whether autograd saved the weight itself, and no copy, for the gradient of what it multiplies."""
    node: Any = y.grad_fn
    while node is not None and node.name() in _VIEWS:
        node = node.next_functions[0][0]
    saved = _SAVED.get(node.name()) if node is not None else None
    if saved is None:
        return False
    for attribute, (operand, _) in zip(saved, node.next_functions, strict=False):
        if attribute is not None and _leads_to(operand, weight):
            if isinstance(weight, StreamedWeight):  # asking for it would make it
                return True
            kept = getattr(node, attribute)
            return kept is None or kept.untyped_storage().data_ptr() == weight.untyped_storage().data_ptr()
    return False


def _leads_to(node: Any, weight: Weight) -> bool:
    while node is not None and node.name() in _VIEWS:
        node = node.next_functions[0][0]
    return getattr(node, "variable" if isinstance(weight, nn.Parameter) else "weight", None) is weight


def observed(first: Mapping[str, Observer], then: Mapping[str, Observer]) -> Mapping[str, Observer]:
    """Both observers of the values that have two."""

    def both(name: str, parts: list[Tensor]) -> None:
        first[name](parts)
        then[name](parts)

    return {**first, **then, **{name: partial(both, name) for name in first.keys() & then.keys()}}
