"""Which torch function computes which ONNX operator, by exact version.

A handler is a plain function of tensors. ONNX inputs are its positional parameters (``None`` where an
optional input is left out), ONNX attributes its keyword-only parameters, with ONNX's own names and defaults.
Some keyword-only parameters are filled in by the converter instead of an attribute:

- ``n_outputs``: the number of outputs that the node declares. A handler that takes it returns a tuple;
  every other handler returns one value.
- ``carrier``: the float tensor that the first input was quantised from, or None; for the gradient alone.
- ``stream``: the ordinal of this node among the random nodes of the graph, to seed its own generator.

A parameter annotated ``torch.dtype`` takes an ONNX element type, one annotated ``torch.Tensor`` a tensor
attribute. An attribute that holds a graph arrives as a callable of the graph's formal inputs that returns a
tuple; what it captures from outside is bound already.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from intrain_onnx.operators import since_version

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Handler:
    """One operator of one domain, in every version whose semantics the function has."""

    domain: str
    op_type: str
    versions: tuple[int, ...]
    function: Callable[..., Any]
    attributes: frozenset[str]
    dtype_attributes: frozenset[str]
    returns_tuple: bool
    takes_stream: bool
    takes_carrier: bool


_HANDLERS: dict[tuple[str, str, int], Handler] = {}


def op(op_type: str, *versions: int, domain: str = "") -> Callable[[Function], Function]:
    """Register a function for an operator at the given since-versions.

    Raises:
        ValueError: a version is registered already, or none is given.
    """
    if not versions:
        raise ValueError(f"{op_type}: name at least one since_version")

    def register(function: Function) -> Function:
        handler = _describe(function, domain, op_type, versions)
        for version in versions:
            key = (domain, op_type, version)
            if key in _HANDLERS:
                raise ValueError(f"{domain or 'ai.onnx'}::{op_type}-{version} has two handlers")
            _HANDLERS[key] = handler
        return function

    return register


def _describe(function: Callable[..., Any], domain: str, op_type: str, versions: tuple[int, ...]) -> Handler:
    try:
        parameters = inspect.signature(function).parameters.values()
        keywords = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        hints = typing.get_type_hints(function)
    except (ValueError, TypeError):  # builtins of torch have no signature and take no attributes here
        keywords, hints = set(), {}
    dtypes = {n for n in keywords if torch.dtype in (hints.get(n), *typing.get_args(hints.get(n)))}
    return Handler(
        domain=domain,
        op_type=op_type,
        versions=versions,
        function=function,
        attributes=frozenset(keywords - {"n_outputs", "stream", "carrier"}),
        dtype_attributes=frozenset(dtypes),
        returns_tuple="n_outputs" in keywords,
        takes_stream="stream" in keywords,
        takes_carrier="carrier" in keywords,
    )


def resolve(domain: str, op_type: str, opset: int) -> Handler | None:
    """The handler of exactly the version that the opset has, or None."""
    return _HANDLERS.get((domain, op_type, since_version(domain, op_type, opset)))


def supported() -> list[Handler]:
    """Every handler once, ordered by domain and operator."""
    unique = {id(h): h for h in _HANDLERS.values()}
    return sorted(unique.values(), key=lambda h: (h.domain, h.op_type, h.versions))
