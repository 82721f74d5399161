"""Writes measurements into the metadata of the model's nodes, where Netron shows them.

The graph, its weights and all other fields are unchanged, ``ir_version`` included: protobuf readers skip the
node metadata of IR version 10 as an unknown field, and a higher version would change what initializers
among the inputs mean (IR version 4).
"""

from __future__ import annotations

import hashlib
import math
import os
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import google.protobuf.message  # type: ignore[import-untyped]
import onnx

from intrain_onnx import untrusted
from intrain_onnx.errors import LimitError, ModelFileError, SettingsError, printable
from intrain_onnx.loading.module_paths import PART
from intrain_onnx.report.derived import layer_gradient, layer_health, relative_ratio
from intrain_onnx.report.document import Report, write_atomically
from intrain_onnx.report.output_files import check_outputs
from intrain_onnx.report.rows import Document, Layer, Parameter

PREFIX = "intrain."
"""Prefix of every key written; existing entries with it are replaced."""

_STEPS_TO_WEIGHT = 6
"""Nodes (casts, transposes and the like) that may lie between a node and its weight."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """What was written: counts of annotated nodes and the layers without a node.

    Attributes:
        nodes: number of nodes with measurements.
        elsewhere: layers without a node in the file's graph, such as those inside functions.
    """

    nodes: int
    elsewhere: tuple[str, ...]


def annotate(source: Path, report: Report, target: Path) -> Annotated:
    """Write a copy of a model with the measurements of its report as metadata.

    External data is not copied: the copy refers to it by the same relative path, so it must be written to
    the model's own folder.

    Raises:
        SettingsError: the target is the model or its data, in another folder than its data, or not writable.
        ModelFileError: the file is not the one that was scored.
    """
    check_outputs([(f"--annotate {target}", target)], (), [source])
    _check_external(source, report, target)
    try:
        with untrusted.opened(source) as (file, size):
            data = file.read(size)
        if hashlib.sha256(data).hexdigest() != report.document.model.sha256:
            raise ModelFileError("the file is not the one that was scored", path=str(source))
        model = onnx.ModelProto.FromString(data)
        written = add_metadata(model, report.document)
        content = model.SerializeToString()
    except (google.protobuf.message.Error, ValueError) as error:
        raise LimitError(f"the annotated model cannot be serialised: {printable(error)}") from error
    try:
        write_atomically(target, content)
    except OSError as error:
        raise SettingsError(f"cannot write {target}: {error.strerror or error}") from error
    return written


def _check_external(source: Path, report: Report, target: Path) -> None:
    locations = report.document.model.external_sha256
    if not locations:
        return
    folder = Path(os.path.realpath(source)).parent
    if Path(os.path.realpath(target)).parent != folder:
        raise SettingsError(
            f"--annotate {target}: the model's weights lie beside it", hint=f"Name a file in {folder}"
        )


def add_metadata(model: onnx.ModelProto, report: Document) -> Annotated:
    """Add the measurements of a report to the metadata of a model and of its nodes, in place."""
    nodes = list(_nodes(model.graph))
    _clear(model)
    for node in nodes:
        _clear(node)
    found, elsewhere = _owners(nodes, report.layers, strict=bool(model.functions))
    parameters = {p.name: p for p in report.parameters}
    ranks = _ranks(report.layers)
    for index, rows in found.items():
        _write(nodes[index], _measurements(rows, parameters, ranks))
    _write(model, _summary(report, len(elsewhere)))
    return Annotated(len(found), tuple(elsewhere))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Nodes of a graph and its subgraphs; a function's are left out, as each serves many calls."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for body in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                yield from _nodes(body)


def _clear(holder: onnx.ModelProto | onnx.NodeProto) -> None:
    kept = [p for p in holder.metadata_props if not p.key.startswith(PREFIX)]
    if len(kept) < len(holder.metadata_props):
        del holder.metadata_props[:]
        holder.metadata_props.extend(kept)


def _write(holder: onnx.ModelProto | onnx.NodeProto, entries: Mapping[str, str]) -> None:
    for key, value in entries.items():
        holder.metadata_props.add(key=PREFIX + key, value=value)


def _owners(
    nodes: Sequence[onnx.NodeProto], layers: Sequence[Layer], *, strict: bool
) -> tuple[dict[int, list[Layer]], list[str]]:
    """Layers by the index of the file's node that they come from, and the names of layers without one.

    A layer has its node's name or, if that is empty, the name of its first output; a name that is not unique
    is followed by an output, and a part of a fused layer by its number. ``strict``: a node must also read the
    layer's weight, since nodes of expanded functions may have the same names as others.
    """
    by_name: defaultdict[str, list[int]] = defaultdict(list)
    for index, node in enumerate(nodes):
        first = next((name for name in node.output if name), "")
        by_name[node.name or first].append(index)
        for name in node.output:
            by_name[f"{node.name or first}:{name}"].append(index)
    makers = {name: node for node in nodes for name in node.output if name}
    found: defaultdict[int, list[Layer]] = defaultdict(list)
    elsewhere = []
    for layer in layers:
        candidates = by_name.get(layer.name) or by_name.get(PART.sub("", layer.name), [])
        same = [i for i in candidates if nodes[i].op_type == layer.op]
        if strict:
            same = [i for i in same if _reads(nodes[i], set(layer.weights), makers)]
        if same or (len(candidates) == 1 and not strict):
            found[(same or candidates)[0]].append(layer)
        else:
            elsewhere.append(layer.name)
    return dict(found), elsewhere


def _reads(node: onnx.NodeProto, weights: set[str], makers: Mapping[str, onnx.NodeProto]) -> bool:
    names = set(node.input)
    for _ in range(_STEPS_TO_WEIGHT):
        if names & weights:
            return True
        names = {name for x in names if x in makers for name in makers[x].input if name}
    return False


def _ranks(layers: Iterable[Layer]) -> dict[str, str]:
    """Rank of each measured layer by relative participation ratio, lowest first."""
    shares = [(share, x.name) for x in layers if (share := relative_ratio(x)) is not None]
    return {name: f"{i} of {len(shares)}" for i, (_, name) in enumerate(sorted(shares), start=1)}


def _measurements(
    rows: Sequence[Layer], parameters: Mapping[str, Parameter], ranks: Mapping[str, str]
) -> dict[str, str]:
    """Metadata of one layer, or of the parts that a fused layer was measured in.

    Over parts, logarithms are summed as in the score; ratio and share are geometric means.
    """
    logs = _known(x.log_participation_ratio for x in rows)
    entries = {
        "participation_ratio": _geometric(x.participation_ratio for x in rows),
        "share": _geometric(relative_ratio(x) for x in rows),
        "log_participation_ratio": _number(math.fsum(logs)) if logs else "",
        "rank_of_share": ", ".join(ranks[x.name] for x in rows if x.name in ranks),
        "health": _mean(layer_health(x, parameters) for x in rows),
        "gradient_std": _mean(layer_gradient(x, parameters) for x in rows),
        "depth": str(min(x.depth for x in rows)),
        "channels": str(sum(x.channels for x in rows)),
        "status": ", ".join(dict.fromkeys(x.status for x in rows)),
        "counted": ", ".join(dict.fromkeys("yes" if x.counted else "no" for x in rows)),
        "parts": str(len(rows)) if len(rows) > 1 else "",
    }
    return {key: value for key, value in entries.items() if value}


def _summary(report: Document, elsewhere: int) -> dict[str, str]:
    score, settings = report.score, report.settings
    entries = {
        "score": _number(score.intrain),
        "score_ci95": " to ".join(map(_number, score.ci95)) if score.ci95 else "",
        "geometric_capacity": _number(score.geometric_capacity),
        "optimization_resilience": _number(score.optimization_resilience),
        "layers": str(score.layers),
        "layers_without_a_node": str(elsewhere) if elsewhere else "",
        "protocol": settings.protocol,
        "seeds": str(settings.seeds),
        "samples": str(settings.samples),
        "warnings": str(len(report.warnings)),
        "model_sha256": report.model.sha256,
        "version": report.tool.version or "",
    }
    return {key: value for key, value in entries.items() if value}


def _known(values: Iterable[float | None]) -> list[float]:
    return [v for v in values if v is not None]


def _geometric(values: Iterable[float | None]) -> str:
    known = _known(values)
    return _number(statistics.geometric_mean(known)) if known else ""


def _mean(values: Iterable[float | None]) -> str:
    known = _known(values)
    return _number(statistics.fmean(known)) if known else ""


def _number(value: float) -> str:
    return f"{value:.4g}"
