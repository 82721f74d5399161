"""Budgets of memory and work, held against estimates from shapes before a network is run."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

import onnx_ir as ir
import torch

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError, LimitError
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import enough
from intrain_onnx.measure.segments import PLAIN, Segments, Way, segments
from intrain_onnx.network import given_inputs
from intrain_onnx.network.footprint import FLOAT, Footprint, footprint
from intrain_onnx.network.input_shapes import Signature, shape_options
from intrain_onnx.network.layers import LayerMap
from intrain_onnx.network.values import name_of, static_shape
from intrain_onnx.ops.limits import check_elements
from intrain_onnx.rewrites.infer_shapes import infer_shapes
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.protocol.sequence import ProtocolNetwork
from intrain_onnx.runtime import streamed

MOST_MACS: Mapping[str, float] = {"cpu": 1e15, "cuda": 1e17}
"""Multiply-accumulate operations of a score, unless ``ScoreConfig.max_macs`` is set: hours on that device."""

_PASSES = 3
"""Work of a forward and backward pass, in forward passes."""

_FEWEST = 2
"""Samples below which another shape is the better advice."""


def require(network: Network, probed: ProtocolNetwork, config: ScoreConfig, device: torch.device) -> Way:
    """Refuse a score that takes more memory than is free on the device, or more work than the limit.

    Returns:
        What the run has to do without to fit: weights, or activations.

    Raises:
        LimitError: with the option that lowers it.
    """
    used = given_inputs.resolve(probed.model, config, sizes=probed.sizes)
    estimate = footprint(probed.model, network.single.batch)
    if estimate.place is not None:
        _require_elements(estimate.place)
    free = _free(device)
    room = min(free, config.max_memory or free)
    ways = _ways(network, probed, config, estimate)
    way, estimate = _fitting(ways, used.batch, room)
    _require_memory(network, config, used, estimate, room, free)
    limit = config.max_macs or allowance.current().limits.macs or MOST_MACS[device.type]
    work = _work(estimate, used.batch, config)
    if work > limit:
        raise LimitError(
            f"{_samples(used)} and {config.seeds} seeds take about {work:.1e} multiply-accumulates, and the "
            f"limit is {limit:.1e}",
            hint=_less_work(estimate, used, config, limit),
        )
    return way


def _fitting(ways: Iterator[tuple[Way, Footprint]], samples: int, room: int) -> tuple[Way, Footprint]:
    """The first that fits, or the one that takes least."""
    found: list[tuple[Way, Footprint]] = []
    for way, estimate in ways:
        found.append((way, estimate))
        if estimate.peak(samples) <= room:
            return way, estimate
    return min(found, key=lambda each: each[1].peak(samples))


def _ways(
    network: Network, probed: ProtocolNetwork, config: ScoreConfig, plain: Footprint
) -> Iterator[tuple[Way, Footprint]]:
    """Ways to run a network, and what they take: all give the same numbers."""
    yield PLAIN, plain
    if config.proxies or config.converter != "native":
        return
    cut = segments(probed.model, network.single.batch)
    if cut is not None:
        yield Way(segments=cut), recomputed(plain, cut, probed.layers, calibrated=config.calibrate)
    names = streamed.of_layers(probed.model, probed.layers)
    without = footprint(probed.model, network.single.batch, names)
    yield Way(stream=True), without
    if cut is not None:
        yield Way(stream=True, segments=cut), replace(without, kept=cut.kept)


def recomputed(plain: Footprint, cut: Segments, layers: LayerMap, *, calibrated: bool) -> Footprint:
    """What a run in segments takes; where it calibrates, it keeps the weights of most of them as drawn."""
    copied = {
        weight.name: FLOAT * math.prod(weight.shape)
        for layer in layers.layers
        if layer.kind in ("convolution", "linear") and cut.of.get(layer.node_output, cut.last) < cut.last
        for weight in layer.weights
    }
    return replace(plain, kept=cut.kept, copied=sum(copied.values()) if calibrated else 0)


def _require_elements(value: ir.Value) -> None:
    """Refuse a value that has more elements than the limit of one tensor, as the operator would."""
    node = value.producer()
    try:
        check_elements(static_shape(value) or ())
    except LimitError as error:
        if node is None:
            error.message = f"input {value.name!r}: {error.message}"
        else:
            error.at(node=name_of(node), op=node.op_type)
        raise


def _require_memory(
    network: Network, config: ScoreConfig, used: Signature, estimate: Footprint, room: int, free: int
) -> None:
    size = estimate.peak(used.batch)
    if size > room:
        node = estimate.place.producer() if estimate.place is not None else None  # most of it is needed there
        few = f"{room / 2**30:.1f} GiB are free" if room == free else f"max_memory is {_in_words(room)}"
        raise LimitError(
            f"a run of {_samples(used)} needs about {_in_words(size)} of memory, and {few}",
            node=name_of(node) if node is not None else None,
            op=node.op_type if node is not None else None,
            hint=_more_memory(size, room, free)
            or _fewer_samples(estimate, used, room)
            or _smaller_shapes(network, config, used, room),
        )


def _in_words(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**28 else f"{size / 2**20:.1f} MiB"


def _more_memory(size: int, room: int, free: int) -> str:
    """The option for as much as is needed, where the limit is one that was set."""
    return f"Allow it with --max-memory {enough(size)}" if room < free and size < free else ""


def _samples(used: Signature) -> str:
    return f"{used.batch} sample{'s' if used.batch > 1 else ''}"


def _free(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory.available()


def _work(estimate: Footprint, samples: int, config: ScoreConfig) -> float:
    passes = _PASSES + config.calibrate
    return float(estimate.macs) * samples * passes * config.seeds


def _fewer_samples(estimate: Footprint, used: Signature, free: int) -> str:
    """The option for as many samples as fit; empty if these are too few, or given."""
    step = used.fixed_batch or 1
    each = (estimate.peak(used.batch) - estimate.peak(0)) / used.batch
    fit = int((free - estimate.peak(0)) / max(each, 1)) // step * step
    if any(given.source != "value" for given in used.given.values()):
        return f"Give {fit} samples or fewer" if fit >= 1 else ""
    return f"Take fewer samples: --batch {fit}" if _FEWEST <= fit < used.batch else ""


def _smaller_shapes(network: Network, config: ScoreConfig, used: Signature, free: int) -> str:
    """The option for smaller free sizes that fit; other advice if there are none."""
    for shapes in _smaller(used):
        smaller = replace(config, input_shapes={**config.input_shapes, **shapes})
        model = network.model.clone()
        try:
            single = given_inputs.resolve(model, smaller, batch=1)
        except IntrainError:  # sizes that depend on each other
            continue
        if infer_shapes(model, single) and footprint(model, single.batch).peak(used.batch) <= free:
            return f"Take smaller shapes: {shape_options(shapes)}"
    return "Use a machine with more memory"


def _smaller(used: Signature) -> Iterator[dict[str, tuple[int, ...]]]:
    """Shapes whose free dimensions, other than the batch, are divided by powers of two."""
    for factor in (2, 4, 8, 16):
        shapes = {
            spec.name: tuple(
                max(size // factor, 1) if not isinstance(dim, int) and axis != spec.batch_axis else size
                for axis, (dim, size) in enumerate(zip(spec.declared, spec.shape, strict=True))
            )
            for spec in used.inputs
        }
        changed = {s.name: shapes[s.name] for s in used.inputs if shapes[s.name] != s.shape}
        if changed:
            yield changed


def _less_work(estimate: Footprint, used: Signature, config: ScoreConfig, limit: float) -> str:
    """Options for fewer seeds, then fewer samples; the limit itself where these do not do."""
    enough = 10.0 ** math.ceil(math.log10(_work(estimate, used.batch, config)))
    allow = f"or allow it with --max-macs {enough:.0e}"
    if config.seeds > 1 and _work(estimate, used.batch, replace(config, seeds=1)) <= limit:
        return f"Take --seeds 1, {allow}"
    one = replace(config, seeds=1)
    fit = int(limit / max(_work(estimate, 1, one), 1.0)) // (used.fixed_batch or 1) * (used.fixed_batch or 1)
    if fit >= _FEWEST and not used.given:
        return f"Take --seeds 1 --batch {fit}, {allow}"
    return f"{allow[3].upper()}{allow[4:]}"
