"""Which execution provider of onnxruntime runs which node of a file. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

import onnx_ir as ir

from intrain_onnx import memory
from intrain_onnx.audit.deployment.facts import AssignmentFacts, Placed
from intrain_onnx.errors import printable
from intrain_onnx.loading.load import LoadedModel
from intrain_onnx.network.layers import data_dependent
from intrain_onnx.network.subgraphs import every_node
from intrain_onnx.network.values import name_of, node_id
from intrain_onnx.parity import onnxruntime_process
from intrain_onnx.parity.onnxruntime_process import NoReferenceError

CPU = "CPUExecutionProvider"

TIMEOUT = 600.0
"""Seconds that a session, with its runs, is waited for: providers that compile take long."""

NO_ROOM = "the weights do not fit into memory, where onnxruntime needs them"

Node = tuple[str, str, str]
"""Provider, name and operator of a node that is run."""


def assignment_facts(loaded: LoadedModel, providers: Sequence[str], threads: int) -> AssignmentFacts:
    """Ask onnxruntime for a session on these providers, and trace its nodes back to the file's."""
    asked = tuple(providers)
    if not memory.fits(loaded.tensor_bytes):
        return AssignmentFacts(asked, error=NO_ROOM)
    file, model = _with_names(loaded)
    try:
        told = onnxruntime_process.assignment(file, asked, threads=threads, timeout=TIMEOUT)
    except NoReferenceError as error:
        return AssignmentFacts(asked, error=printable(error, 500))
    nodes: list[Node] = [(provider, name, op) for provider, name, op in told["nodes"]]
    placed = placed_nodes(nodes, model.graph, lambda: _optimised(file))
    fell = asked[0] != CPU
    return AssignmentFacts(
        asked=asked,
        available=tuple(told["available"]),
        used=tuple(told["used"]),
        nodes=dict(Counter(node.provider for node in placed)),
        fallen=tuple(node for node in placed if fell and node.provider == CPU),
        untraced=sum(node.file_node is None for node in placed),
    )


def _with_names(loaded: LoadedModel) -> tuple[str | bytes, ir.Model]:
    """The file and its graph, with names for nodes that have none: onnxruntime tells nodes by name.

    A model with external data is given by its path, and keeps what names it has.
    """
    model = loaded.fresh()
    nameless = [node for node in every_node(model.graph) if not node.name]
    for node in nameless:
        node.name = node_id(node)
    if nameless and not loaded.external:
        return ir.to_proto(model).SerializeToString(), model
    return loaded.for_onnxruntime(), model


def _optimised(file: str | bytes) -> Mapping[str, Sequence[str]]:
    try:
        told = onnxruntime_process.optimised_nodes(file, timeout=TIMEOUT)
    except NoReferenceError:  # then these nodes stay untraced
        return {}
    return {name: outputs for name, outputs in told["nodes"] if name}


def placed_nodes(
    nodes: Iterable[Node], graph: ir.Graph, optimised: Callable[[], Mapping[str, Sequence[str]]]
) -> list[Placed]:
    """The nodes of a session, each with the node of the file that it stands for.

    Args:
        nodes: as onnxruntime tells them.
        graph: of the file.
        optimised: outputs by name of the nodes of the optimised graph; asked if a name is not the file's.
    """
    of_file = list(every_node(graph))
    names = {node.name: node for node in of_file if node.name}
    makers = {value.name: node for node in of_file for value in node.outputs if value.name}
    data = data_dependent(graph)
    outputs: Mapping[str, Sequence[str]] | None = None
    placed = []
    for provider, name, op in nodes:
        node = names.get(name)
        if node is None:
            outputs = optimised() if outputs is None else outputs
            node = next((makers[v] for v in outputs.get(name, ()) if v in makers), None)
        placed.append(_placed(provider, name, op, node, data))
    return placed


def _placed(provider: str, name: str, op: str, node: ir.Node | None, data: Collection[ir.Value]) -> Placed:
    if node is None:
        return Placed(provider, name, op, None, sizes=False)
    return Placed(provider, name, op, name_of(node), not any(value in data for value in node.outputs))
