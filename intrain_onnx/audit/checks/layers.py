"""Checks of layers: collapsed, dead or unreached, compared with the architecture at initialisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from intrain_onnx.audit.checks.base import Check, Found, Options
from intrain_onnx.audit.fields import limit
from intrain_onnx.audit.suspects import (
    channels_of,
    collapsed,
    has_one_row,
    layers_of,
    silent,
    without_gradient,
)
from intrain_onnx.report.derived import largest_ratio
from intrain_onnx.report.rows import Layer

if TYPE_CHECKING:
    from intrain_onnx.audit.evidence import Evidence
    from intrain_onnx.audit.facts import Variation


def _woken(evidence: Evidence) -> dict[str, Variation]:
    """Layers that another input wakes, each with the first such variation of the inputs."""
    varied = evidence.ranges.varied if evidence.ranges is not None else ()
    return {name: variation for variation in reversed(varied) for name in variation.woke}


def _collapsed(evidence: Evidence, options: Options) -> Iterator[Found]:
    woken = _woken(evidence)
    for layer in collapsed(evidence):
        if layer.name not in woken:
            yield Found("its output is the same for every input", layer.name, "layer", 0.0, 0.0)


def _fixed_tables(evidence: Evidence, options: Options) -> Iterator[Found]:
    for layer in layers_of(evidence.checkpoint):
        if layer.status == "collapsed" and has_one_row(layer):
            yield Found("a table of one row: its output cannot vary", layer.name, "layer", 1.0, 2.0)


def _input_dependent(evidence: Evidence, options: Options) -> Iterator[Found]:
    for name, variation in _woken(evidence).items():
        inputs = ", ".join(variation.inputs)
        message = f"without effect on the inputs of the run, but not with {variation.how} ({inputs})"
        yield Found(message, name, "layer")


@dataclass(frozen=True, slots=True)
class _LowParticipation(Options):
    min_share: Annotated[float, limit("least share of the channels", 0, 1)] = 0.001
    min_of_initial: Annotated[float, limit("least part of the share at initialisation")] = 0.01
    min_channels: Annotated[
        int, limit("fewest channels, and rows less one, of a layer that is looked at", 2)
    ] = 16


def _low_participation(evidence: Evidence, options: _LowParticipation) -> Iterator[Found]:
    initial = {layer.name: layer.participation_ratio for layer in layers_of(evidence.architecture)}
    for layer in layers_of(evidence.checkpoint):
        ratio, first, most = layer.participation_ratio, initial.get(layer.name), largest_ratio(layer)
        if ratio is None or first is None or most < options.min_channels:
            continue
        share, share_at_first = (ratio - 1) / (most - 1), (first - 1) / (most - 1)
        if share < options.min_share and share < options.min_of_initial * share_at_first:
            message = f"participation ratio {ratio:.4g} of {most}, {first:.3g} at initialisation"
            yield Found(message, layer.name, "layer", share, options.min_share)


def _dead(evidence: Evidence, options: Options) -> Iterator[Found]:
    woken = _woken(evidence)
    for name, channels in silent(evidence).items():
        if name not in woken:
            message = f"all {channels.channels} channels are zero after {channels.after}"
            yield Found(message, name, "layer", 1.0, 1.0)
    for layer, unread in _no_gradient_ever(evidence):
        if not unread:
            message = "the gradient of all its weights is zero, at initialisation too"
            yield Found(message, layer.name, "layer", 0.0, 0.0)


def _unread(evidence: Evidence, options: Options) -> Iterator[Found]:
    for layer, unread in _no_gradient_ever(evidence):
        if unread:
            message = "no output reads what it computes: other positions or channels are selected"
            yield Found(message, layer.name, "layer")


def _no_gradient_ever(evidence: Evidence) -> Iterator[tuple[Layer, bool]]:
    """Layers without a gradient, with fresh weights and other inputs too; each with whether it is unread."""
    woken = _woken(evidence)
    unread = evidence.ranges.unread if evidence.ranges is not None else frozenset()
    for layer, dead_at_first in without_gradient(evidence):
        if dead_at_first and layer.name not in woken:
            yield layer, layer.name in unread


def _zero_gradient(evidence: Evidence, options: Options) -> Iterator[Found]:
    for layer, dead_at_first in without_gradient(evidence):
        if not dead_at_first:
            yield Found("the gradient of all its weights is zero", layer.name, "layer", 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class _DeadChannels(Options):
    max_share: Annotated[float, limit("largest share of a layer's channels", 0, 1)] = 0.9
    min_channels: Annotated[int, limit("smallest layer that is looked at", 1)] = 8


def _dead_channels(evidence: Evidence, options: _DeadChannels) -> Iterator[Found]:
    for name, found in channels_of(evidence).items():
        share = found.zero / found.channels
        if found.channels >= options.min_channels and found.rows > 1 and options.max_share < share < 1:
            message = f"{found.zero} of {found.channels} channels are always zero after {found.after}"
            yield Found(message, name, "layer", share, options.max_share)


def _without_path(evidence: Evidence) -> Iterator[Layer]:
    """Layers of the file that no gradient path leads to, and that no branch holds which did not run."""
    report = evidence.checkpoint
    measured = {p.name for p in report.parameters if p.status == "measured"} if report is not None else set()
    for layer in layers_of(report):
        elsewhere = measured.issuperset(layer.weights)  # in the branch of an If that was taken
        if layer.status == "unreached" or (layer.status == "not_run" and not elsewhere):
            yield layer


def _in_a_branch(evidence: Evidence, layer: Layer) -> bool:
    return layer.status == "not_run" and bool(evidence.file.branches.issuperset(layer.weights))


def _unreached(evidence: Evidence, options: Options) -> Iterator[Found]:
    for layer in _without_path(evidence):
        if layer.name not in evidence.file.deciding and not _in_a_branch(evidence, layer):
            yield Found("no gradient path leads from the outputs to it", layer.name, "layer")


def _branches(evidence: Evidence, options: Options) -> Iterator[Found]:
    for layer in _without_path(evidence):
        if _in_a_branch(evidence, layer):
            yield Found("it is in a branch that no input took: not measured", layer.name, "layer")


def _deciding(evidence: Evidence, options: Options) -> Iterator[Found]:
    for layer in _without_path(evidence):
        stop = evidence.file.deciding.get(layer.name)
        if stop is not None:
            where = f"{stop.op} {stop.name}" if stop.name else "an operator without one"
            message = f"it only decides sizes, indices, branches or masks: {where} ends its gradient"
            yield Found(message, layer.name, "layer")


@dataclass(frozen=True, slots=True)
class _UnreachedShare(Options):
    max_share: Annotated[float, limit("largest share", 0, 1)] = 0.9


def _unreached_share(evidence: Evidence, options: _UnreachedShare) -> Iterator[Found]:
    report = evidence.checkpoint
    if report is None:
        return
    reach = report.gradient_reach
    missed = 1 - reach.share
    if missed > options.max_share:
        stops = ", ".join(f"{s.op} {s.node}" for s in reach.stopped_by[:3] if s.node)
        message = f"no gradient reaches {missed:.1%} of the trainable numbers" + (
            f"; stopped by {stops}" if stops else ""
        )
        yield Found(message, None, "model", missed, options.max_share)


CHECKS = (
    Check(
        "collapsed",
        "A layer whose output does not vary",
        "error",
        "On noise the layer gives the same output for every sample and position, and for other inputs too: "
        "what comes before it has no effect.",
        "Look for zero weights, a saturated activation before it, or a scale that went to zero.",
        needs=("checkpoint",),
        run=_collapsed,
        refined_by=("ranges",),
    ),
    Check(
        "one-row-tables",
        "A table of one row",
        "note",
        "An embedding with a single row gives the same output for every input, whatever was learned: token "
        "types of a model that has one type. It counts as a constant.",
        "Nothing; an export with the row folded in is smaller.",
        needs=("checkpoint",),
        run=_fixed_tables,
    ),
    Check(
        "input-dependent",
        "A layer that only some inputs wake",
        "note",
        "On the inputs of the run the layer seemed dead or collapsed. So the inputs were varied: other noise "
        "and ids, masks inverted, other constants for controls, lengths and sizes. One of these wakes it.",
        "Feed real samples (`[run.inputs]` of the policy) to see what the layer does on them.",
        needs=("ranges",),
        run=_input_dependent,
    ),
    Check(
        "low-participation",
        "A layer that uses few of its channels",
        "warning",
        "The participation ratio of the layer's output, less one, over the most that its channels and rows "
        "allow. It is reported where it is low both in itself and beside the same layer at initialisation. "
        "Trained networks do concentrate, more so on noise, so this is no proof.",
        "Compare with an earlier checkpoint, by a report of each (`intrain-onnx score MODEL --protocol "
        "checkpoint -o FILE`) and `intrain-onnx compare --reports EARLIER FILE`, which lists the layers "
        "that moved most; look at the layers before it for collapse or saturation.",
        needs=("checkpoint", "architecture"),
        run=_low_participation,
        options=_LowParticipation,
    ),
    Check(
        "dead-layers",
        "A layer without effect",
        "error",
        "All channels are zero after the layer's activation function, or the gradient of all its weights "
        "is exactly zero with the weights of the file and with fresh ones: no output depends on the layer, "
        "and training cannot bring it back. Other inputs were tried before it is said.",
        "Lower the learning rate or use a leaky activation; look at biases that are far below zero.",
        needs=("checkpoint", "architecture", "ranges"),
        run=_dead,
    ),
    Check(
        "unread-layers",
        "A layer whose output is not read",
        "warning",
        "The layer has no gradient since every output selects other positions or channels than those that it "
        "writes: with NaN in place of its output, no output is NaN. The network is as good without it.",
        "Drop the branch from the export, or read it.",
        needs=("checkpoint", "architecture", "ranges"),
        run=_unread,
    ),
    Check(
        "zero-gradient",
        "A layer that gets no gradient on noise",
        "warning",
        "The gradient of all weights of the layer is exactly zero on noise, but not with fresh weights: what "
        "follows it is saturated. Gates of trained squeeze-and-excitation blocks do that on noise.",
        "Feed real data (`intrain-onnx audit MODEL --input NAME=@FILE`) to see whether the gate opens; if "
        "it does not, the layer can go.",
        needs=("checkpoint", "architecture"),
        run=_zero_gradient,
        refined_by=("ranges",),
    ),
    Check(
        "dead-channels",
        "Channels that are always zero",
        "warning",
        "Channels that are zero after the activation function over all noise samples and positions. A "
        "trained ReLU network has some on noise that real data would wake.",
        "Feed real data (`intrain-onnx audit MODEL --input NAME=@FILE`) to see whether they stay silent; "
        "then prune them.",
        needs=("ranges",),
        run=_dead_channels,
        options=_DeadChannels,
    ),
    Check(
        "unreached-layers",
        "A layer that no output depends on smoothly",
        "error",
        "No gradient path leads from the outputs to the layer: it is cut off, or its numbers go on to an "
        "output through an operator that passes none (Round, Cast to integers). What only decides is "
        "`deciding-layers`, what did not run `branches-not-run`.",
        "Reconnect the branch, or drop it from the export; `intrain-onnx score MODEL --protocol checkpoint` "
        "names the nodes that stop the gradient.",
        needs=("checkpoint",),
        run=_unreached,
    ),
    Check(
        "deciding-layers",
        "A layer that decides, and so gets no gradient",
        "note",
        "What the layer computes ends in sizes, indices, branches or masks of other values, and no output "
        "reads its numbers: the router of a mixture of experts, the durations of a synthesiser, the encoder "
        "before a codebook. It has a loss of its own when it is trained, which the file does not hold.",
        "Nothing, if it is meant; its gradient is not measured.",
        needs=("checkpoint",),
        run=_deciding,
    ),
    Check(
        "branches-not-run",
        "A layer in a branch that did not run",
        "note",
        "A branch of an If, or the body of a loop without rounds: no input of the run led into it, so that "
        "nothing is known of its layers but their weights.",
        "Feed inputs that take the other branch (`[run.inputs]` of the policy).",
        needs=("checkpoint",),
        run=_branches,
    ),
    Check(
        "unreached-share",
        "Many numbers out of reach",
        "warning",
        "The share of trainable numbers in the file that no gradient reaches. Positions, masks and "
        "branches of an If that did not run count here.",
        "`intrain-onnx score MODEL --protocol checkpoint` names the nodes that stop it, `gradient_reach` of "
        "its report all of them.",
        needs=("checkpoint",),
        run=_unreached_share,
        options=_UnreachedShare,
    ),
)
