"""The steps from an ONNX file to a report: load, normalise, check parity, rewrite, convert, probe, score."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, fx

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import SettingsError, UnsupportedError, printable
from intrain_onnx.loading import allowance
from intrain_onnx.loading.limits import Limits
from intrain_onnx.loading.load import LoadedModel, Source, load
from intrain_onnx.measure import budget, inputs, node_hints
from intrain_onnx.measure.prepare import Runnable, prepare
from intrain_onnx.measure.probe import calibrate_and_probe, probe
from intrain_onnx.measure.runner import runs_on
from intrain_onnx.measure.segments import segments
from intrain_onnx.measure.trace import Trace
from intrain_onnx.network import coverage, input_shapes
from intrain_onnx.network.layers import LayerMap, analyse
from intrain_onnx.parity import onnxruntime_process
from intrain_onnx.parity.check import check_parity
from intrain_onnx.progress import Log, Progress, silent
from intrain_onnx.proxies.context import ProxyContext
from intrain_onnx.proxies.measure import Measured, measure
from intrain_onnx.report import assemble, comparison
from intrain_onnx.report.document import Report
from intrain_onnx.rewrites.infer_shapes import infer_shapes
from intrain_onnx.rewrites.network import Network
from intrain_onnx.rewrites.normalise import normalise
from intrain_onnx.rewrites.protocol.sequence import for_protocol
from intrain_onnx.runtime import convert
from intrain_onnx.runtime.fuse import fuse
from intrain_onnx.runtime.interpreter import Observer, Samples
from intrain_onnx.runtime.lazy_module import plain
from intrain_onnx.runtime.machine import Machine, machine_for
from intrain_onnx.runtime.random_streams import may_draw, random_nodes_from
from intrain_onnx.scores import scoring

Watch = Callable[[Runnable], Mapping[str, Observer]]
"""Makes observers of the values of a converted network, by name; they change none."""


def score(
    source: Source | Network,
    config: ScoreConfig | None = None,
    *,
    limits: Limits | None = None,
    progress: Progress = silent,
    watch: Watch | None = None,
    stream: bool = False,
    recompute: bool = False,
) -> Report:
    """Score a model.

    Args:
        source: path of an ONNX file, or a model in memory; one that was loaded or normalised before is not
            loaded or normalised again.
        config: the settings; by default the ``architecture`` protocol.
        limits: on what the model may take; they do not change its score.
        progress: called at the start of each step.
        watch: called with the converted network; what it returns observes the first run.
        stream: make weights when they are read even if they fit into memory (see ``runtime.streamed``).
        recompute: make activations again even if they fit into memory (see ``runtime.recomputed``).

    Raises:
        IntrainError: one of its kinds, with the file, node, op and next step.
    """
    config = config or ScoreConfig.for_protocol()
    if config.parity:
        onnxruntime_process.start_early()
    with _under(source, limits), machine_for(config) as machine:
        log, runs = Log(progress), runs_on(machine.device)
        with log.step("load", 0.0):
            made, loaded = (source, source.loaded) if isinstance(source, Network) else (None, load(source))
        with log.step("normalise", 0.02):
            fitting = made if made is not None and made.serves(config) else None
            network = fitting or Network.of(loaded, config, runs)
            config = replace(config, inputs=network.given)
        with node_hints.told(network, config, machine.device):
            return _measured(network, config, machine, log, watch, stream=stream, recompute=recompute)


def _measured(
    network: Network,
    config: ScoreConfig,
    machine: Machine,
    log: Log,
    watch: Watch | None,
    *,
    stream: bool,
    recompute: bool,
) -> Report:
    """All runs of a network, and the report of them."""
    with log.step("parity", 0.05):
        parity = check_parity(network, machine, config.seed) if config.parity else None
    if network.runner is not None:
        network.runner.forget()
    with log.step("rewrite", 0.1):
        probed = for_protocol(network, config, runs_on(machine.device).see)
        way = budget.require(network, probed, config, machine.device)
        way = replace(way, stream=way.stream or stream)
        if recompute and way.segments is None:
            way = replace(way, segments=segments(probed.model, network.single.batch))
    with log.step("convert", 0.12):
        runnable = prepare(probed, config, machine.device, way)
    if watch is not None:  # any value may be watched
        runnable = replace(runnable, module=runnable.whole)
    watching = watch(runnable) if watch is not None else {}
    traces = list(_runs(runnable, config, log, watching))
    proxies = _proxies(network, runnable, config, log)
    with log.step("score", 0.98):
        scored = scoring.score(probed.layers, traces, config, runnable.points)
    measured = assemble.Measurements(
        config, machine, network, probed, runnable, traces, scored, parity, proxies, log.seconds
    )
    return Report.of(assemble.report(measured))


def _runs(
    runnable: Runnable, config: ScoreConfig, log: Log, watching: Mapping[str, Observer]
) -> Iterator[Trace]:
    """A run for each seed; where it repeats the activations of the first, it measures gradients alone."""
    first: _First | None = None
    repeats = (
        config.weights == "keep"
        and config.converter == "native"
        and not config.projections  # each run draws its own
        and not may_draw(runnable.whole)
    )
    for index in range(config.seeds):
        fed, trace = _one_run(runnable, config, index, log, {} if index else watching, first)
        if index == 0 and repeats:
            first = _First(fed, trace)
        yield trace


class _First(NamedTuple):
    """The first run, where the activations of others depend on what they are fed alone."""

    fed: Sequence[Tensor | Samples]
    trace: Trace


def _one_run(
    runnable: Runnable,
    config: ScoreConfig,
    index: int,
    log: Log,
    watching: Mapping[str, Observer],
    first: _First | None,
) -> tuple[Sequence[Tensor | Samples], Trace]:
    """Draw weights and inputs for a seed, calibrate, and probe once; returns the inputs too."""
    start, share = 0.15 + 0.8 * index / config.seeds, 0.8 / config.seeds
    seed = config.seed + index
    generator = torch.Generator().manual_seed(seed)
    with random_nodes_from(seed):
        fed = runnable.feed(generator)
        if config.weights == "reinitialise":
            with log.step("initialise", start):
                runnable.redraw(seed)
        measure = calibrate_and_probe if config.calibrate else probe
        if first is not None and inputs.identical(fed, first.fed):
            measure = partial(probe, known=first.trace)
        if config.converter == "onnx2torch":
            with log.step("convert", start):
                if config.calibrate:
                    runnable.calibrate(fed)
                runnable, measure = _through_onnx2torch(runnable, config), probe
        with log.step("probe", start + 0.3 * share):
            return fed, measure(runnable, fed, generator, watching)


def _through_onnx2torch(runnable: Runnable, config: ScoreConfig) -> Runnable:
    """The same network, with the same weights, as onnx2torch converts it."""
    try:  # here: it imports torchvision, torch._dynamo and triton, a second that no other run needs
        from intrain_onnx.runtime.onnx2torch_converter import convert_second  # noqa: PLC0415
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision was built for another torch
        raise SettingsError(
            f"onnx2torch cannot be loaded: {printable(error, 200)}",
            hint="Install torchvision in the build of torch (docs/install.md), or use --converter native",
        ) from error

    values = {name: p.detach().cpu().numpy() for name, p in runnable.parameters.items()}
    module = convert_second(
        runnable.probed.model, runnable.layers, values, batch_statistics=runnable.batch_statistics
    )
    return replace(runnable, module=module.to(runnable.device))


def _proxies(network: Network, runnable: Runnable, config: ScoreConfig, log: Log) -> Mapping[str, Measured]:
    """The other zero-cost proxies that were asked for, on the weights and inputs of the first run."""
    if not config.proxies:
        return {}
    with log.step("proxies", 0.95):
        parameters = assemble.parameter_count(network)
        found = measure(config.proxies, ProxyContext(runnable, config, parameters, assemble.macs(network)))
    log.seconds.update({f"proxy_{name}": measured.seconds for name, measured in found.items()})
    return found


def network_of(loaded: LoadedModel, config: ScoreConfig, *, keyed: bool = False) -> Network:
    """Normalise a loaded model, running it for values that only a run determines (see ``Network.of``).

    Raises:
        IntrainError: one of its kinds.
    """
    with _under(loaded), machine_for(config) as machine:
        return Network.of(loaded, config, runs_on(machine.device), keyed=keyed)


def canonical_layers(source: Source, config: ScoreConfig | None = None) -> LayerMap:
    """The layers after the protocol's rewrites (default: ``architecture``), the same for all exporters.

    Raises:
        IntrainError: one of its kinds.
    """
    return _canonical(source, config)[0]


def canonical_network(
    source: Source, config: ScoreConfig | None = None, *, limits: Limits | None = None
) -> comparison.LayerList:
    """The operand of ``compare``: the canonical layers, and the share of the weights that they cover.

    Raises:
        IntrainError: one of its kinds.
    """
    return comparison.network_of(*_canonical(source, config, limits))


def _canonical(
    source: Source, config: ScoreConfig | None, limits: Limits | None = None
) -> tuple[LayerMap, coverage.Coverage]:
    config = config or ScoreConfig.for_protocol()
    with _under(source, limits), machine_for(config) as machine:
        runs = runs_on(machine.device)
        network = Network.of(load(source), config, runs)
        return for_protocol(network, config, runs.see).layers, network.coverage


def to_torch(source: Source, *, limits: Limits | None = None) -> fx.GraphModule:
    """Convert a model to a trainable ``torch.fx.GraphModule``.

    Parameters carry their ONNX names, ties are kept, inputs and outputs are the graph's in order, all in the
    element types of the file. A sequence is a list, an optional without a value None.

    Raises:
        IntrainError: one of its kinds.
    """
    with _under(source, limits):
        loaded = load(source)
        memory.require_for_weights(loaded.tensor_bytes)
        model = loaded.fresh()
        normalise(model, unrolled=False)  # parameters are the file's own
        try:
            shapes = input_shapes.resolve(model, ScoreConfig.for_protocol(), batch=1)
        except UnsupportedError:  # a sequence, an optional, strings, or an unknown rank: none are needed
            shapes = None
        infer_shapes(model, shapes)
        module = convert.convert(model, analyse(model).slots, half_as_float=False)
        return plain(fuse(module, [value.name or "" for value in model.graph.outputs]))


def _under(source: Source | Network, limits: Limits | None = None) -> AbstractContextManager[object]:
    """The block in which a model is worked on: under its limits, with its path in every error."""
    loaded = source.loaded if isinstance(source, Network) else source
    path = loaded.path if isinstance(loaded, LoadedModel) else loaded
    return allowance.held(limits, os.fspath(path) if isinstance(path, (str, os.PathLike)) else None)
