"""Runs a checkpoint with other inputs, to see which layers that seemed dead they wake.

And, of layers without a gradient, whether an output reads them at all: NaN in place of their output reaches
an output through a product with zero, and large numbers through a comparison, but nothing does through a
selection (Slice, Gather) of something else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from intrain_onnx.audit.activation_ranges import Watch
from intrain_onnx.audit.facts import RangeFacts, Variation
from intrain_onnx.audit.suspects import Suspects
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError
from intrain_onnx.measure.prepare import Runnable
from intrain_onnx.measure.probe import probe
from intrain_onnx.network.input_shapes import InputSpec
from intrain_onnx.runtime.interpreter import Observer, Samples, run
from intrain_onnx.runtime.machine import machine_for
from intrain_onnx.runtime.random_streams import generator_for, random_nodes_from

_MOST_REPLACED = 16
"""Most layers whose output is replaced by NaN: each takes a run."""

_LARGE = 1e4
"""The other replacement, with either sign."""

_SEED = 1000
"""Added to the seed for other noise and other ids: no seed of a score reaches it."""

Fed = list[Tensor | Samples]


def vary(facts: RangeFacts, watch: Watch, config: ScoreConfig, suspects: Suspects) -> RangeFacts:
    """Ranges with the variations of the inputs that were tried, and the layers that no output reads.

    Ends when all suspects are awake. A variation that cannot be run wakes none.

    Args:
        facts: of the first run.
        watch: that observed it.
        config: its settings.
        suspects: layers that seem dead.
    """
    runnable = watch.runnable
    assert runnable is not None
    tried: list[Variation] = []
    asleep = suspects
    with machine_for(config):
        for how, names, fed in _variations(runnable, config.seed):
            if not asleep:
                break
            woke = _woken(runnable, watch, config, fed, asleep)
            tried.append(Variation(how, names, tuple(sorted(woke))))
            asleep = Suspects(asleep.silent - woke, asleep.constant - woke, asleep.without_gradient - woke)
        unread = _unread(runnable, config, sorted(asleep.without_gradient)[:_MOST_REPLACED])
    return replace(facts, varied=tuple(tried), unread=frozenset(unread))


@dataclass(frozen=True, slots=True)
class _Change:
    """A way to vary inputs of some kinds: what becomes of a tensor, with its input and a generator."""

    how: str
    kinds: tuple[str, ...]
    make: Callable[[Tensor, InputSpec, torch.Generator], Tensor]


def _inverted(x: Tensor, spec: InputSpec, generator: torch.Generator) -> Tensor:
    return (x == 0).to(x.dtype)


def _half(x: Tensor, spec: InputSpec, generator: torch.Generator) -> Tensor:
    return torch.randint(0, 2, x.shape, generator=generator).to(x)


def _zero(x: Tensor, spec: InputSpec, generator: torch.Generator) -> Tensor:
    return torch.zeros_like(x)


def _other(x: Tensor, spec: InputSpec, generator: torch.Generator) -> Tensor:
    """From half to one and a half times a constant; of a length or a size no more than it."""
    low, high = (0.5, 1.5) if spec.kind == "control" else (0.25, 1.0)
    factor = low + (high - low) * torch.rand(x.shape, generator=generator)
    return (x * factor.to(x.device)).ceil().to(x.dtype) if spec.kind != "control" else x * factor.to(x)


def _positive(x: Tensor, spec: InputSpec, generator: torch.Generator) -> Tensor:
    return x.abs()


_MASKS = ("ones", "zeros")
_CHANGES = (
    _Change("masks inverted", _MASKS, _inverted),
    _Change("masks of zeros and ones", _MASKS, _half),
    _Change("constants of zero", ("control",), _zero),
    _Change("other constants", ("control", "length", "size"), _other),
    _Change("positive noise", ("noise",), _positive),
)
_DRAWN = ("noise", "positive", "ids", "edge_index", "timestep")


def _variations(runnable: Runnable, seed: int) -> Iterator[tuple[str, tuple[str, ...], Fed]]:
    """Each variation: in words, the inputs that it changes, and all inputs."""
    specs = [spec for spec in runnable.used.inputs if spec.name not in runnable.used.given]
    drawn = tuple(spec.name for spec in specs if spec.kind in _DRAWN)
    if drawn:
        yield "other noise and ids", drawn, runnable.feed(torch.Generator().manual_seed(seed + _SEED))
    for change in _CHANGES:
        names = tuple(spec.name for spec in specs if spec.kind in change.kinds)
        if names:
            yield change.how, names, _changed(runnable, seed, change, names)


def _changed(runnable: Runnable, seed: int, change: _Change, names: Sequence[str]) -> Fed:
    fed = runnable.feed(torch.Generator().manual_seed(seed))
    made: Fed = []
    for value, spec in zip(fed, runnable.used.inputs, strict=True):
        if spec.name not in names:
            made.append(value)
            continue
        generator = generator_for(seed, f"{change.how} {spec.number}")
        parts = value if isinstance(value, Samples) else [value]
        new = [change.make(part, spec, generator) for part in parts]
        made.append(Samples(new) if isinstance(value, Samples) else new[0])
    return made


def _woken(
    runnable: Runnable, watch: Watch, config: ScoreConfig, fed: Fed, asleep: Suspects
) -> frozenset[str]:
    """The suspects that are awake in one run; none if it fails before they are seen."""
    seen = watch.of_layers(asleep.silent | asleep.constant)
    gradients: Mapping[str, float] = {}
    try:
        with random_nodes_from(config.seed):
            if asleep.without_gradient:
                trace = probe(runnable, fed, torch.Generator().manual_seed(config.seed), seen)
                gradients = {name: found.max_abs for name, found in trace.gradients.items()}
            else:
                with torch.no_grad():
                    run(runnable.module, fed, seen)
    except IntrainError:
        pass
    by_layer = {found.layer.name: found for found in seen.values() if found.layer is not None}
    moved = {
        layer.name
        for layer in runnable.layers.layers
        if layer.name in asleep.without_gradient
        and any(gradients.get(weight.name, 0.0) > 0 for weight in layer.weights)
    }
    return frozenset(
        {n for n, found in by_layer.items() if n in asleep.silent and found.is_finite and not found.is_silent}
        | {n for n, found in by_layer.items() if n in asleep.constant and watch.varies(found)}
        | moved
    )


def _unread(runnable: Runnable, config: ScoreConfig, names: Sequence[str]) -> Iterator[str]:
    """Of some layers those that change no output, whatever is in place of their own output."""
    for layer in runnable.layers.layers:
        if layer.name in names:
            try:
                whole = _outputs(runnable, config, {})
                others = [_outputs(runnable, config, {layer.output: put}) for put in (_not_numbers, _large)]
            except IntrainError:  # it reaches a size or an index
                continue
            if all(_same(whole, other) for other in others):
                yield layer.name


def _outputs(runnable: Runnable, config: ScoreConfig, put: Mapping[str, Observer]) -> list[list[Tensor]]:
    fed = runnable.feed(torch.Generator().manual_seed(config.seed))
    with torch.no_grad(), random_nodes_from(config.seed):
        return run(runnable.module, fed, put)


def _same(a: list[list[Tensor]], b: list[list[Tensor]]) -> bool:
    return all(
        torch.equal(x, y)
        for some, others in zip(a, b, strict=True)
        for x, y in zip(some, others, strict=True)
    )


def _not_numbers(parts: list[Tensor]) -> list[Tensor]:
    return [torch.full_like(part, torch.nan) for part in parts]


def _large(parts: list[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [_LARGE * torch.randn(part.shape, generator=generator).to(part) for part in parts]
