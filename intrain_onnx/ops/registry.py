"""Registry of handlers: the torch function that computes an ONNX operator, by exact version.

A handler is a plain function of tensors. ONNX inputs are its positional parameters (``None`` for an omitted
optional input), ONNX attributes its keyword-only parameters, with ONNX's own names and defaults. Some
keyword-only parameters are set by the converter instead of an attribute:

- ``n_outputs``: the number of outputs that the node declares. A handler that takes it returns a tuple;
  every other handler returns one value.
- ``carrier``: the float tensor that the first input was quantised from, or None; for the gradient alone.
- ``stream``: the ordinal of this node among the random nodes of the graph, to seed its own generator.

A parameter annotated ``torch.dtype`` takes an ONNX element type, one annotated ``torch.Tensor`` a tensor
attribute. A graph attribute is passed as a closure: a callable of the graph's formal inputs that returns a
tuple, with captured values bound.
"""

from __future__ import annotations

import inspect
import typing
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from intrain_onnx.opset import plugins, support

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Handler:
    """The function of one operator of one domain, for all versions with its semantics."""

    domain: str
    op_type: str
    versions: tuple[int, ...]
    function: Callable[..., Any]
    attributes: frozenset[str]
    dtype_attributes: frozenset[str]
    returns_tuple: bool
    takes_stream: bool
    takes_carrier: bool


_HANDLERS: defaultdict[tuple[str, str], dict[int, Handler]] = defaultdict(dict)


def op(op_type: str, *versions: int, domain: str = "") -> Callable[[Function], Function]:
    """Register a function for an operator at the given since-versions.

    Raises:
        ValueError: a version is registered already, or none is given.
    """
    if not versions:
        raise ValueError(f"{op_type}: name at least one since_version")

    def register(function: Function) -> Function:
        handler = _describe(function, domain, op_type, versions)
        known = _HANDLERS[domain, op_type]
        for version in versions:
            if version in known:
                raise ValueError(f"{domain or 'ai.onnx'}::{op_type}-{version} has two handlers")
        known.update(dict.fromkeys(versions, handler))
        return function

    return register


def _describe(function: Callable[..., Any], domain: str, op_type: str, versions: tuple[int, ...]) -> Handler:
    try:
        parameters = inspect.signature(function).parameters.values()
        keywords = {p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}
        hints = typing.get_type_hints(function)
    except (ValueError, TypeError):  # builtins of torch have no signature; they have no attributes here
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


def register_op(op_type: str, *versions: int, domain: str = "") -> Callable[[Function], Function]:
    """Decorator: register a function as the handler of an ONNX operator that has none.

    The function takes ONNX's inputs as positional parameters and its attributes as keyword-only ones, and
    must be differentiable by torch. See docs/add-an-operator.md.

    Args:
        op_type: the operator's name.
        versions: the since-versions with these semantics; by default 1 for a domain other than ONNX's.
        domain: the operator's domain; empty for ONNX's own.

    Raises:
        TypeError: used without parentheses, or on something that is not a function.
        ValueError: ONNX has no such version, or one has a handler already.

    >>> @register_op("Twice", domain="com.example")
    ... def twice(x):
    ...     return 2 * x
    """
    if not isinstance(op_type, str):
        raise TypeError("register_op takes the operator's name: @register_op('Magic', domain='com.acme')")
    domain = "" if domain == "ai.onnx" else domain
    name = f"{domain or 'ai.onnx'}::{op_type}"
    exist = sorted(support.known_versions(domain, op_type))
    versions = versions or (() if exist or not domain else (1,))
    if not versions or not all(type(v) is int and v > 0 for v in versions):
        raise ValueError(f"{name}: name the since_versions that the function has, from {exist or 'ONNX'}")
    unknown = sorted(set(versions) - set(exist))
    if exist and unknown:
        raise ValueError(f"{name} has the since_versions {exist}, not {unknown}")
    taken = sorted(set(versions) & _HANDLERS[domain, op_type].keys())
    if taken:
        raise ValueError(f"{name} has a handler for {taken} already")

    def register(function: Function) -> Function:
        if not callable(function) or not str(getattr(function, "__name__", "")).isidentifier():
            raise TypeError(f"the handler of {name} is no function with a name: {function!r}")
        op(op_type, *versions, domain=domain)(function)
        support.registered.setdefault((domain, op_type), set()).update(versions)
        return function

    return register


def resolve(domain: str, op_type: str, opset: int) -> Handler | None:
    """The handler of exactly the version in the opset, or None; imports a plugin that declares it."""
    handler = _find(domain, op_type, opset)
    if handler is None and plugins.load(domain, op_type):
        handler = _find(domain, op_type, opset)
    return handler


def _find(domain: str, op_type: str, opset: int) -> Handler | None:
    known = _HANDLERS.get((domain, op_type), {})
    version = support.handled_version(domain, op_type, opset, known)
    return None if version is None else known[version]


def supported() -> list[Handler]:
    """Every handler of this package once, ordered by domain and operator."""
    unique = {id(h): h for known in _HANDLERS.values() for h in known.values() if not _is_added(h)}
    return sorted(unique.values(), key=lambda h: (h.domain, h.op_type, h.versions))


def _is_added(handler: Handler) -> bool:
    added = support.registered.get((handler.domain, handler.op_type), set())
    return not added.isdisjoint(handler.versions)
