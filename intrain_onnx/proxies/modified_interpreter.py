"""Interpreter that changes normalisation or weights of a converted module for one pass."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, fx
from torch.nn import functional

from intrain_onnx.ops.norm import batch_normalization_of_batch
from intrain_onnx.opset.kinds import Kind
from intrain_onnx.opset.traits import UNKNOWN, of_call
from intrain_onnx.runtime.interpreter import ObservedInterpreter, Observer, Samples, parts

Norms = Literal["as_is", "batch", "frozen", "off"]

_BATCH_NORM = "BatchNormalization"


class ModifiedInterpreter(ObservedInterpreter):
    """An interpreter that changes the computation of one pass; the module is not modified.

    Args:
        module: the converted module.
        observers: see ``ObservedInterpreter``.
        norms: ``batch`` normalises every BatchNorm by the statistics of its batch; ``frozen`` too, but
            without gradients through the statistics, so that samples are independent; ``off`` replaces every
            normalisation by the identity.
        attribute: applied to each weight and constant when it is read.
        activation: called with the input of each activation function, as a list of tensors.
        batch_norm: called with the input of each BatchNorm, as a list of tensors.
    """

    def __init__(
        self,
        module: fx.GraphModule,
        observers: Mapping[str, Observer] | None = None,
        *,
        norms: Norms = "as_is",
        attribute: Callable[[Tensor], Tensor] | None = None,
        activation: Callable[[list[Tensor]], None] | None = None,
        batch_norm: Callable[[list[Tensor]], None] | None = None,
    ) -> None:
        super().__init__(module, observers or {})
        self.norms = norms
        self.attribute = attribute
        self.activation = activation
        self.batch_norm = batch_norm
        self.op: str | None = None
        self.kind = UNKNOWN.kind

    def inside(self, module: fx.GraphModule) -> ModifiedInterpreter:
        """The interpreter of a subgraph, with the same changes."""
        return ModifiedInterpreter(
            module,
            self.observers,
            norms=self.norms,
            attribute=self.attribute,
            activation=self.activation,
            batch_norm=self.batch_norm,
        )

    def run_node(self, n: fx.Node) -> Any:
        """Run one node, and remember its operator for the call."""
        self.op, self.kind = n.meta.get("onnx_op"), of_call(n.meta).kind
        return super().run_node(n)

    def get_attr(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Read a weight or a constant."""
        value = super().get_attr(target, args, kwargs)
        return self.attribute(value) if self.attribute and isinstance(value, Tensor) else value

    def call_function(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a node's function, or its replacement."""
        op = self.op
        if (
            self.kind is Kind.ACTIVATION
            and self.activation is not None
            and (op != "Clip" or _starts_at_zero(args))
        ):
            self.activation(parts(args[0]))
        if op == _BATCH_NORM and self.batch_norm is not None:
            self.batch_norm(parts(args[0]))
        if self.kind is Kind.NORMALISATION and self.norms == "off":
            return _shaped(target, args, kwargs, args[0])
        if op == _BATCH_NORM and self.norms in ("batch", "frozen"):
            epsilon = args[3] if target is batch_normalization_of_batch else kwargs.get("epsilon", 1e-5)
            if self.norms == "batch":
                operands = (*args[:3], epsilon)
                result = super().call_function(batch_normalization_of_batch, operands, {})
            else:
                result = _normalise_by_constants(args[0], args[1], args[2], epsilon)
            return _shaped(target, args, kwargs, result)
        return super().call_function(target, args, kwargs)


def _starts_at_zero(args: tuple[Any, ...]) -> bool:
    """Whether a Clip is a rectifier, such as ReLU6."""
    return len(args) > 1 and isinstance(args[1], Tensor) and float(args[1]) == 0.0


def _shaped(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any], value: Any) -> Any:
    """The value as the node's function returns it: alone, or as the first of its outputs."""
    count = kwargs.get("n_outputs")
    if count is None or target is batch_normalization_of_batch:
        return value
    return (value, *args[3:5], *args[3:5])[:count]


def _normalise_by_constants(x: Any, scale: Tensor, bias: Tensor, epsilon: float) -> Any:
    given = parts(x)
    with torch.no_grad():
        whole = torch.cat(given)
        var, mean = torch.var_mean(whole, [i for i in range(whole.dim()) if i != 1], correction=0)
    done = [functional.batch_norm(p, mean, var, scale, bias, False, 0.0, epsilon) for p in given]
    return Samples(done) if isinstance(x, Samples) else done[0]
