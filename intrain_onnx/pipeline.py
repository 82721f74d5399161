"""From a path to a report: the only place that knows the order of the steps."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import onnx
import onnx_ir as ir
import torch
from torch import fx

from intrain_onnx import memory
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError, LimitError, SettingsError, UnsupportedError
from intrain_onnx.loading.load import LoadedModel, load
from intrain_onnx.measure import initialise, inputs, preparation, probe
from intrain_onnx.measure.preparation import Prepared, seen_shapes
from intrain_onnx.measure.trace import Trace
from intrain_onnx.network import coverage, gradient_reach, input_shapes
from intrain_onnx.network.layers import LayerMap, analyse
from intrain_onnx.ops.limits import element_limit
from intrain_onnx.parity.check import check_parity
from intrain_onnx.parity.compare import Parity
from intrain_onnx.proxies.measure import Measured, measure
from intrain_onnx.proxies.network import Network
from intrain_onnx.report import assemble, comparison
from intrain_onnx.report.document import Report
from intrain_onnx.report.model_warnings import static_warnings
from intrain_onnx.report.rows import Model, WarningRow
from intrain_onnx.rewrites.normalise import find_heads, infer_shapes, normalise, write_values
from intrain_onnx.rewrites.protocol import rewrite_for
from intrain_onnx.runtime import convert, onnx2torch_converter
from intrain_onnx.runtime.interpreter import NodeError, run
from intrain_onnx.scores import scoring

Source = str | os.PathLike[str] | onnx.ModelProto | ir.Model
Progress = Callable[[str, float], None]
"""Called with the name of the step that begins, and the share of the work that is done."""


def _silent(step: str, share: float) -> None:
    pass


@dataclass
class _Warnings:
    rows: list[WarningRow] = field(default_factory=list)

    def add(self, code: str, message: str, node: str | None = None) -> None:
        self.rows.append(WarningRow(code, message, node))


def score(source: Source, config: ScoreConfig | None = None, *, progress: Progress = _silent) -> Report:
    """Score a model.

    Args:
        source: path of an ONNX file, or a model in memory.
        config: the settings; the ``architecture`` protocol where none are given.
        progress: is told of each step.

    Raises:
        IntrainError: one of its kinds, with the file, node, op and next step.
    """
    config = config or ScoreConfig.for_protocol()
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    try:
        with _runtime(config) as (device, threads), element_limit(memory.elements_of_one_tensor()):
            return _Scoring(source, config, device, threads, progress).run()
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise LimitError(
            "out of memory", path=path, hint="Take a smaller --batch or --input-shape"
        ) from error
    except IntrainError as error:
        error.at(path=path)
        raise


@contextmanager
def _runtime(config: ScoreConfig) -> Iterator[tuple[torch.device, int]]:
    """Set threads and CUDA arithmetic for one score, and put them back."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise SettingsError("device is 'cuda', and torch finds no CUDA device", hint="Use --device auto")
    cuda = config.device != "cpu" and torch.cuda.is_available()
    before = torch.get_num_threads()
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    flags = (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32)
    threads = config.threads or len(os.sched_getaffinity(0))
    try:
        torch.set_num_threads(threads)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = True, False, False, False
        yield torch.device("cuda" if cuda else "cpu"), threads
    finally:
        torch.set_num_threads(before)
        cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32 = flags


@dataclass
class _Scoring:
    source: Source
    config: ScoreConfig
    device: torch.device
    threads: int
    progress: Progress
    warnings: _Warnings = field(default_factory=_Warnings)
    seconds: dict[str, float] = field(default_factory=dict)

    def run(self) -> Report:
        config = self.config
        with self._step("load", 0.0):
            loaded = load(self.source)
            memory.require_for_weights(loaded.tensor_bytes)
            model = loaded.fresh()
            constants = normalise(model)
            single = input_shapes.resolve(model, config, batch=1)
            known = infer_shapes(model, single)
        for code, message, node in loaded.warnings:
            self.warnings.add(code, message, node)
        with self._step("parity", 0.05):
            compared = self._parity(loaded, model, single)
        with self._step("shapes", 0.09):
            floating = preparation.use_float_form(model, single, self.device)
            quantisation = floating.quantisation
        with self._step("convert", 0.1):
            original = analyse(model, keys=False)
            reached = gradient_reach.trace(model.graph, find_heads(model))
            covered = coverage.measure(model, original)
            self.warnings.rows += static_warnings(model, original, covered, quantisation, shapes_known=known)
            described = assemble.describe(loaded, model, original, single)
            prepared = preparation.prepare(model, config)
            prepared.module.to(self.device)
        traces, batched, used = self._runs(model, prepared)
        peers = self._proxies(prepared, used, batched, described)
        with self._step("score", 0.98):
            result = scoring.score(prepared.layers, traces, config, prepared.points)
            document = assemble.report(
                described=described,
                result=result,
                original=original,
                covered=covered,
                reached=reached,
                kept=prepared.rewritten.kept,
                split=prepared.rewritten.split,
                parameter_shapes={
                    n: tuple(p.shape) for n, p in initialise.parameters(prepared.module).items()
                },
                heads=prepared.heads,
                absorbed=prepared.rewritten.absorbed,
                constants=constants + floating.made,
                dequantised=(quantisation.removed, len(quantisation.activations)) if quantisation else (0, 0),
                config=config,
                used=used,
                batched=batched,
                traces=traces,
                compared=compared,
                peers=peers,
                device=_device_name(self.device),
                threads=self.threads,
                warnings=self.warnings.rows,
                seconds=self.seconds,
            )
        return Report.of(document)

    @contextmanager
    def _step(self, name: str, share: float) -> Iterator[None]:
        self.progress(name, share)
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def _parity(self, loaded: LoadedModel, model: ir.Model, single: input_shapes.Signature) -> Parity | None:
        if not self.config.parity:
            return None
        compared = check_parity(loaded, model, single, self.device, self.threads, self.config.seed)
        if compared.ok is False:
            self.warnings.add("parity", f"differs from onnxruntime: {compared.reason}")
        elif compared.ok is None:
            self.warnings.add("parity_not_checked", compared.reason or "")
        return compared

    def _runs(self, model: ir.Model, prepared: Prepared) -> tuple[list[Trace], bool, input_shapes.Signature]:
        used = input_shapes.resolve(model, self.config)
        module = prepared.module
        if self.config.weights == "reinitialise":
            initialise.reinitialise(module, prepared.layers, self.config.seed)
        with self._step("execution", 0.12):
            batched = self._choose_execution(module, used)
        if not batched and self.config.batch_norm == "training" and used.fixed_batch != used.batch:
            self.warnings.add(
                "batch_statistics",
                "the graph runs sample by sample; BatchNorm is normalised over all samples at once",
            )
        traces = []
        for index in range(self.config.seeds):
            start = 0.15 + 0.8 * index / self.config.seeds
            traces.append(self._one_run(prepared, used, batched, self.config.seed + index, start))
        return traces, batched, used

    def _proxies(
        self, prepared: Prepared, used: input_shapes.Signature, batched: bool, described: Model
    ) -> dict[str, Measured]:
        """The peers' proxies that were asked for, on the weights and inputs of the first run."""
        if not self.config.proxies:
            return {}
        network = Network(
            prepared.module,
            prepared.layers,
            prepared.norms,
            [head.output for head in prepared.heads],
            used,
            batched,
            self.config,
            self.device,
            described.parameters,
            described.macs,
        )
        self.progress("proxies", 0.95)
        found = measure(self.config.proxies, network)
        self.seconds.update({f"proxy_{name}": m.seconds for name, m in found.items()})
        return found

    def _one_run(
        self, prepared: Prepared, used: input_shapes.Signature, batched: bool, seed: int, start: float
    ) -> Trace:
        generator = torch.Generator().manual_seed(seed)
        fed = inputs.feed(used, generator, self.device, batched=batched)
        if self.config.weights == "reinitialise":
            with self._step("initialise", start):
                initialise.reinitialise(prepared.module, prepared.layers, seed)
        if self.config.calibrate:
            with self._step("calibrate", start):
                initialise.calibrate(prepared.module, prepared.layers, prepared.norms, fed)
        module = prepared.module
        if self.config.converter == "onnx2torch":
            with self._step("convert", start):
                module = self._second(prepared)
        with self._step("probe", start + 0.25 / self.config.seeds):
            return probe.probe(
                module,
                prepared.layers,
                fed,
                [head.output for head in prepared.heads],
                used.batch,
                generator,
                seed,
                points=prepared.points,
                all_points=self.config.points == "all",
                channels_last=any(spec.channels_last for spec in used.inputs),
            )

    def _second(self, prepared: Prepared) -> fx.GraphModule:
        """The same network, with the same weights, through onnx2torch."""
        values = {n: p.detach().cpu().numpy() for n, p in initialise.parameters(prepared.module).items()}
        write_values(prepared.rewritten.model, values)
        return onnx2torch_converter.convert_second(
            prepared.rewritten.model, prepared.layers, batch_statistics=self.config.batch_norm == "training"
        ).to(self.device)

    def _choose_execution(self, module: fx.GraphModule, used: input_shapes.Signature) -> bool:
        """Whether all samples can go through in one call: the batch is open, or samples stay apart."""
        if used.fixed_batch == used.batch:
            return True
        size = used.fixed_batch or 1
        calls = used.batch // size
        pair = input_shapes.resized(used, 2 * size)
        drawn = inputs.draw(pair, torch.Generator().manual_seed(self.config.seed), self.device)
        with torch.no_grad():
            try:
                together = run(module, drawn)
            except NodeError as error:
                apart = run(module, inputs.chunk(drawn, pair, size))
                assert apart
                self.warnings.add(
                    "sample_by_sample",
                    f"the graph has a batch of {size} built in; {calls} calls were run in lock step",
                    error.node,
                )
                return False
            if used.fixed_batch is None:
                return True
            apart = run(module, inputs.chunk(drawn, pair, size))
        if all(inputs.same(a, b) for a, b in zip(together, apart, strict=True)):
            return True
        self.warnings.add(
            "sample_by_sample",
            f"the graph mixes samples when it is given more than {size}; {calls} calls were run in lock step",
        )
        return False


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def to_torch(source: Source) -> fx.GraphModule:
    """Convert a model to a trainable ``torch.fx.GraphModule``.

    Parameters carry their ONNX names, ties are kept, inputs and outputs are the graph's in order, all in the
    element types of the file. A sequence is a list, an optional without a value None.

    Raises:
        IntrainError: one of its kinds.
    """
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    try:
        loaded = load(source)
        memory.require_for_weights(loaded.tensor_bytes)
        model = loaded.fresh()
        normalise(model, unrolled=False)  # parameters are the file's own
        infer_shapes(model, _shapes_if_any(model))
        return convert.convert(model, analyse(model).slots, half_as_float=False)
    except IntrainError as error:
        error.at(path=path)
        raise


def _shapes_if_any(model: ir.Model) -> input_shapes.Signature | None:
    """Shapes to find trainable parameters by; a conversion needs none."""
    try:
        return input_shapes.resolve(model, ScoreConfig.for_protocol(), batch=1)
    except UnsupportedError:  # a sequence, an optional, strings, or an unknown rank
        return None


def canonical_layers(source: Source, config: ScoreConfig | None = None) -> LayerMap:
    """The layers of a network as the ``architecture`` protocol sees them, whoever exported it.

    Raises:
        IntrainError: one of its kinds.
    """
    return _canonical(source, config)[0]


def canonical_network(source: Source, config: ScoreConfig | None = None) -> comparison.LayerList:
    """The same as ``compare`` takes it: layers, and how much of the network they are.

    Raises:
        IntrainError: one of its kinds.
    """
    return comparison.network_of(*_canonical(source, config))


def _canonical(source: Source, config: ScoreConfig | None) -> tuple[LayerMap, coverage.Coverage]:
    config = config or ScoreConfig.for_protocol()
    path = os.fspath(source) if isinstance(source, (str, os.PathLike)) else None
    try:
        with _runtime(config) as (device, _), element_limit(memory.elements_of_one_tensor()):
            loaded = load(source)
            memory.require_for_weights(loaded.tensor_bytes)
            model = preparation.floating(loaded, config, device)
            covered = coverage.measure(model, analyse(model, keys=False))
            return rewrite_for(model, config, seen_shapes).layers, covered
    except IntrainError as error:
        error.at(path=path)
        raise
