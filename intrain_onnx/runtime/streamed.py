"""Weights that a module does not hold: each is made when a node reads it, and made again on the way back.

Of a weight only a recipe is kept: the generator that it is drawn from, or its place in the file. Its gradient
is read when it is complete, and dropped. So a run needs the memory of the activations, and of one layer.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import onnx_ir as ir
import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import saved_tensors_hooks

from intrain_onnx.network.layers import LayerMap
from intrain_onnx.runtime import convert

LEAST = 2**16
"""Elements from which on a weight is not held."""


class StreamedWeight(nn.Module):
    """Makes the value of an initializer at each call; a complete gradient of it goes to ``read``.

    Attributes:
        shape: in the file.
        make_new: makes the value, in the shape of the file, in float32; may be exchanged.
        read: gets the gradient of a pass.
        blank: give zeros, which take no time to make.
    """

    def __init__(self, tensor: ir.TensorProtocol, device: torch.device) -> None:
        super().__init__()
        self.shape = tuple(tensor.shape.numpy())
        self.device = device
        self.make_new: Callable[[], Tensor] = lambda: convert.to_tensor(tensor)
        self.read: Callable[[Tensor], None] | None = None
        self._factors: list[Tensor] = []
        self.blank = False
        self._last: Callable[[], Tensor | None] = _none
        self._live: dict[int, StreamedWeight] | None = None
        self._anchor = torch.zeros((), requires_grad=True)

    def restart(self, make_new: Callable[[], Tensor]) -> None:
        """Take another recipe, without the factors of the one before."""
        self.make_new = make_new
        self._factors.clear()

    def mul_(self, factor: Tensor) -> None:
        """Multiply what is made from now on, and what is still to be read, as a parameter's value would be.

        The factor is kept, and should be a view of few elements.
        """
        self._factors.append(factor)
        last = self._last()
        if last is not None:
            last.data.mul_(factor)

    def take_back(self) -> None:
        """Make without the last factor from now on."""
        self._factors.pop()

    def value(self) -> Tensor:
        """The value, without a gradient."""
        with torch.no_grad():
            made = self.make_new().to(self.device)
            for factor in self._factors:
                made = made.mul_(factor)
        return made

    def forward(self) -> Tensor:
        """The value, whose gradient is read."""
        if self.blank:
            return torch.zeros((), device=self.device).expand(self.shape)
        made: Tensor = _Made.apply(self._anchor, self)
        self._last = weakref.ref(made)
        if self._live is not None:
            place = made.untyped_storage().data_ptr()
            self._live[place] = self
            weakref.finalize(made, self._live.pop, place, None)
        return made


def _none() -> None:
    return None


class _Made(torch.autograd.Function):
    """The value of a streamed weight; autograd sums its gradient over all places that read it."""

    @staticmethod
    def forward(ctx: Any, _: Tensor, weight: StreamedWeight) -> Tensor:
        """Make the value."""
        ctx.weight = weight
        return weight.value()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None]:
        """Read the gradient, and pass none on."""
        if ctx.weight.read is not None:
            ctx.weight.read(gradient)
        return None, None


class _Again(NamedTuple):
    """What is kept of a saved view of a weight."""

    weight: StreamedWeight
    size: torch.Size
    stride: tuple[int, ...]
    offset: int | torch.SymInt


def _unpack(saved: Tensor | _Again) -> Tensor:
    if isinstance(saved, Tensor):
        return saved
    return saved.weight.value().as_strided(saved.size, saved.stride, saved.offset)


class Saving(NamedTuple):
    """What autograd keeps in place of a tensor, and what makes the tensor of it."""

    pack: Callable[[Tensor], Any]
    unpack: Callable[[Any], Tensor]


_AS_IT_IS: Final = Saving(lambda tensor: tensor, lambda tensor: tensor)


def weights(module: fx.GraphModule) -> dict[str, StreamedWeight]:
    """The weights that a module does not hold, by ONNX name."""
    found: dict[str, StreamedWeight] = module.meta.get("stand_ins", {})
    return found


@contextmanager
def made_again(module: fx.GraphModule) -> Iterator[Saving]:
    """Within it, autograd keeps no value of a streamed weight: the backward pass makes it again.

    The value is for hooks that take the place of these.
    """
    streamed = weights(module)
    if not streamed:
        yield _AS_IT_IS
        return
    live: dict[int, StreamedWeight] = {}

    def pack(tensor: Tensor) -> Tensor | _Again:
        weight = live.get(tensor.untyped_storage().data_ptr())
        if weight is None:
            return tensor
        return _Again(weight, tensor.shape, tensor.stride(), tensor.storage_offset())

    for weight in streamed.values():
        weight._live = live
    try:
        with saved_tensors_hooks(pack, _unpack):
            yield Saving(pack, _unpack)
    finally:
        for weight in streamed.values():
            weight._live = None


@contextmanager
def blank(module: fx.GraphModule) -> Iterator[None]:
    """Within it, streamed weights are zero: for a run of which only shapes and failures matter."""
    for weight in weights(module).values():
        weight.blank = True
    try:
        yield
    finally:
        for weight in weights(module).values():
            weight.blank = False


def large(model: ir.Model, among: Iterable[str]) -> list[str]:
    """Names of the initializers of floats, of those given, that have at least ``LEAST`` elements."""
    held = model.graph.initializers
    tensors = {name: held[name].const_value for name in sorted(set(among) & held.keys())}
    return [
        n for n, t in tensors.items() if t is not None and t.dtype.is_floating_point() and t.size >= LEAST
    ]


def of_layers(model: ir.Model, layers: LayerMap) -> list[str]:
    """Names of the weights of layers that need not be held."""
    return large(model, (weight.name for layer in layers.layers for weight in layer.weights))


def stand_ins(model: ir.Model, names: Iterable[str], device: torch.device) -> dict[str, nn.Module]:
    """Modules that make the values of initializers from the file, for ``convert``."""
    tensors = ((name, model.graph.initializers[name].const_value) for name in names)
    return {name: StreamedWeight(tensor, device) for name, tensor in tensors if tensor is not None}
