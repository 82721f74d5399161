"""Model-local functions: checks of their call graph, and the size of the graph once they are inlined.

Thirty functions that each call the one before twice take 2 kB and expand to half a billion nodes; shape
inference and onnxruntime hang on them. So everything is counted before anything is expanded.
"""

from __future__ import annotations

import graphlib
from collections import Counter
from collections.abc import Iterable, Iterator

import onnx

from intrain_onnx.errors import ModelFileError, UnsupportedError, printable
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.protobuf_scan import too_many

FunctionId = tuple[str, str, str]
"""Domain, name and overload."""

_COUNTED = 10**15


def plain_domain(domain: str) -> str:
    """The domain as onnx_ir names it: "" for ``ai.onnx``."""
    return "" if domain == "ai.onnx" else domain


def identity(function: onnx.FunctionProto) -> FunctionId:
    """Identity of a function."""
    return plain_domain(function.domain), function.name, function.overload


def called(node: onnx.NodeProto) -> FunctionId:
    """Identity of the function that a node would call; the model need not define it."""
    return plain_domain(node.domain), node.op_type, node.overload


def all_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    """These nodes and those of all their subgraphs, depth first."""
    stack = [iter(nodes)]
    while stack:
        node = next(stack[-1], None)
        if node is None:
            stack.pop()
            continue
        yield node
        for attribute in node.attribute:
            graphs = [attribute.g] if attribute.HasField("g") else []
            stack.extend(iter(graph.node) for graph in (*graphs, *attribute.graphs))


def check_functions(model: onnx.ModelProto, limits: Limits) -> None:
    """Check that functions are defined once and not recursive, and bound the size of the inlined graph.

    Sizes and depths are summed in topological order of the call graph, callees first: linear in the nodes of
    the file, whatever they expand to.

    Raises:
        ModelFileError: a name defined twice, recursion, or a call with more values than the function has.
        UnsupportedError: a subgraph as argument, or an opset that differs from the model's: onnx_ir cannot
            expand these.
        LimitError: over ``expanded_nodes`` or ``function_depth``.
    """
    functions: dict[FunctionId, onnx.FunctionProto] = {}
    for function in model.functions:
        if functions.setdefault(identity(function), function) is not function:
            raise ModelFileError(f"the function '{_shown(identity(function))}' is defined twice")
    if not functions:
        return
    _check_opsets(model)
    uses = {key: _uses(function.node, functions) for key, function in functions.items()}
    sizes: dict[FunctionId, int] = {}
    depths: dict[FunctionId, int] = {}
    for key in _callees_first({key: set(calls) for key, (_, calls) in uses.items()}):
        sizes[key] = _size(uses[key], sizes)
        depths[key] = 1 + max((depths[callee] for callee in uses[key][1]), default=0)
        if depths[key] > limits.function_depth:
            raise too_many("function_depth", depths[key], limits.function_depth, at_least=True)
    used = _uses(model.graph.node, functions)
    size = _size(used, sizes)
    if size > limits.expanded_nodes:
        raise too_many("expanded_nodes", size, limits.expanded_nodes)


def _check_opsets(model: onnx.ModelProto) -> None:
    versions = {plain_domain(o.domain): o.version for o in model.opset_import}
    for function in model.functions:
        for opset in function.opset_import:
            known = versions.setdefault(plain_domain(opset.domain), opset.version)
            if known != opset.version:
                raise UnsupportedError(
                    f"the function '{printable(function.name)}' uses opset {opset.version} of "
                    f"'{printable(opset.domain or 'ai.onnx')}', the model {known}",
                    hint="Expand it with onnx.inliner.inline_local_functions(model, convert_version=True)",
                )


def _uses(
    nodes: Iterable[onnx.NodeProto], functions: dict[FunctionId, onnx.FunctionProto]
) -> tuple[int, Counter[FunctionId]]:
    """Weighted number of nodes that are not calls, and the number of calls of each function."""
    plain, calls = 0, Counter[FunctionId]()
    for node in all_nodes(nodes):
        function = functions.get(called(node))
        if function is None:
            plain += _weight(node)
            continue
        calls[called(node)] += 1
        if any(a.HasField("g") or a.graphs for a in node.attribute):
            raise UnsupportedError("a function that takes a subgraph", **place(node))
        if len(node.input) > len(function.input) or len(node.output) > len(function.output):
            raise ModelFileError(
                f"{len(node.input)} inputs and {len(node.output)} outputs for a function of "
                f"{len(function.input)} and {len(function.output)}",
                **place(node),
            )
    return plain, calls


def _weight(node: onnx.NodeProto) -> int:
    """A node of more than 16 parts counts as several: each copy has all of them."""
    return 1 + (len(node.input) + len(node.output) + len(node.attribute) + len(node.metadata_props)) // 16


def _callees_first(calls: dict[FunctionId, set[FunctionId]]) -> list[FunctionId]:
    try:
        return list(graphlib.TopologicalSorter(calls).static_order())
    except graphlib.CycleError as error:
        cycle = " calls ".join(f"'{_shown(identity)}'" for identity in error.args[1][:6][::-1])
        raise ModelFileError(f"a function calls itself: {cycle}") from None


def _size(use: tuple[int, Counter[FunctionId]], sizes: dict[FunctionId, int]) -> int:
    """Nodes after inlining, calls not counted; capped at 10**15, to keep the integers short."""
    plain, calls = use
    size = plain + sum(count * sizes[identity] for identity, count in calls.items())
    return min(size, _COUNTED)


def _shown(identity: FunctionId) -> str:
    return printable("::".join(part for part in identity if part))


def place(node: onnx.NodeProto) -> dict[str, str]:
    """``node`` and ``op`` for an IntrainError. A node without a name is named by its first output."""
    domain = plain_domain(node.domain)
    op = f"{domain}::{node.op_type}" if domain else node.op_type
    return {"node": node.name or next(iter(node.output), ""), "op": op}
