"""A chain of rewrites: run it, check that it kept the function, compare the scores, and shorten it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.random import Generator

from intrain_onnx import IntrainError, ScoreConfig, score

from .editing import REWRITES

CONFIG = ScoreConfig.for_protocol(seeds=1, parity=False, threads=1, device="cpu")
"""With the default batch: the rounding between HardSwish and x HardSigmoid(x) becomes 8e-3 in MobileNetV3
with 4 samples, of which 2 x 2 positions are left at the end, and 2e-6 with 16."""

SAME_FUNCTION = 1e-4
"""Of the largest output: what a rewrite may change by rounding."""

TOLERANCES = {
    # Rounding moved it by 1e-7 at the median of 6,000 chains, and by 4e-6 at most; the least that a fault did
    # was 1e-4.
    "geometric_capacity": 2e-5,
    # A sum that falls a hair's breadth on the other side of a ReLU's kink moves a gradient by one element.
    "intrain": 1e-3,
    "optimization_resilience": 1e-3,
}
Verdict = Literal["equal", "uncovered", "refused", "differs", "crashed", "faulty"]
BROKEN: tuple[Verdict, ...] = ("differs", "crashed", "faulty")
"""A promise that is not kept, an internal error, or a rewrite of ours that does not keep the function."""


@dataclass(frozen=True)
class Step:
    """A rewrite and the seed of its choices."""

    name: str
    seed: int


Chain = tuple[Step, ...]


@dataclass
class Outcome:
    """What became of a chain.

    Attributes:
        verdict: see `BROKEN`; else equal, refused with a reason, or its coverage is below one and said so.
        detail: what differs, or the reason.
        steps: those that applied.
        model: what they made.
        gone: steps of others' tools that failed, or that changed the function, and why.
        apart: of a score that is equal, the largest relative difference of each figure.
    """

    verdict: Verdict = "equal"
    detail: str = ""
    steps: Chain = ()
    model: onnx.ModelProto | None = None
    gone: list[str] = field(default_factory=list)
    apart: Mapping[str, float] = field(default_factory=dict)


def random_chain(rng: Generator, names: Sequence[str] | None = None, candidates: int = 12) -> Chain:
    """Steps to try in turn, of those whose tools are there."""
    names = names or sorted(name for name, found in REWRITES.items() if found.available)
    return tuple(
        Step(names[int(rng.integers(len(names)))], int(rng.integers(2**31))) for _ in range(candidates)
    )


# The function


def feeds(proto: onnx.ModelProto, seed: int = 0) -> dict[str, np.ndarray]:
    """Random inputs of two samples: noise, or ids that every table of the model has."""
    rng = np.random.default_rng(seed)
    constants = {t.name for t in proto.graph.initializer}
    tables = {n.input[0] for n in proto.graph.node if n.op_type == "Gather"}
    rows = min((t.dims[0] for t in proto.graph.initializer if t.name in tables and t.dims), default=2)
    found = {}
    for value in proto.graph.input:
        if value.name in constants:
            continue
        tensor = value.type.tensor_type
        shape = [d.dim_value or 2 for d in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        values = rng.standard_normal(shape) if dtype.kind == "f" else rng.integers(0, rows, shape)
        found[value.name] = values.astype(dtype)
    return found


def run(proto: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime makes of a model as it stands."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs: list[np.ndarray] = session.run(None, dict(inputs))
    return outputs


def apart(before: Sequence[np.ndarray], after: Sequence[np.ndarray]) -> float:
    """The largest difference of any output, over its largest element."""
    if [a.shape for a in before] != [a.shape for a in after]:
        return float("inf")
    distances = [0.0]
    for a, b in zip(before, after, strict=True):
        distance = np.abs(a.astype(np.float64) - b).max(initial=0.0) / (np.abs(a).max(initial=0.0) + 1e-6)
        distances.append(float(np.nan_to_num(distance, nan=np.inf)))
    return max(distances)


# The score


def measure(proto: onnx.ModelProto) -> Mapping[str, Any]:
    """The report of a model as ``architecture`` scores it."""
    return score(proto, CONFIG).data


def keys(data: Mapping[str, Any]) -> Counter[str]:
    return Counter(layer["key"] for layer in data["layers"])


def says_what_is_missing(data: Mapping[str, Any]) -> bool:
    """Whether weights are in no layer, and a warning names them."""
    codes = {w["code"] for w in data["warnings"]}
    return data["coverage"]["share"] < 1 and "weights_not_recognised" in codes


def differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What two reports of one network disagree on."""
    found = []
    lost, gained = keys(before) - keys(after), keys(after) - keys(before)
    if lost or gained:
        counts = len(before["layers"]), len(after["layers"])
        found.append(f"layers {counts[0]} -> {counts[1]}, {lost.total()} keys gone, {gained.total()} new")
    for figure, distance in distances(before, after).items():
        if distance > TOLERANCES[figure]:
            found.append(f"{figure} {before['score'][figure]:.6g} -> {after['score'][figure]:.6g}")
    return found


def distances(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, float]:
    """Relative differences of the figures of `TOLERANCES`."""
    pairs = {figure: (before["score"][figure], after["score"][figure]) for figure in TOLERANCES}
    return {figure: abs(a - b) / max(abs(a), abs(b), 1e-9) for figure, (a, b) in pairs.items()}


# Chains


def follow(proto: onnx.ModelProto, chain: Chain, longest: int) -> Outcome:
    """Rewrite a model step by step, each held to the function of the one before it, until enough applied."""
    outcome = Outcome(model=proto)
    inputs = feeds(proto)
    expected = run(proto, inputs)
    for step in chain:
        if len(outcome.steps) == longest:
            break
        found = REWRITES[step.name]
        try:
            copy = onnx.ModelProto()  # some tools work on what they are given
            copy.CopyFrom(outcome.model)
            made = found.function(copy, np.random.default_rng(step.seed))
            if made is None:
                continue
            result = run(made, inputs)
        except Exception as error:
            fault = f"{step.name}: {type(error).__name__}: {str(error)[:300]}"
        else:
            distance = apart(expected, result)
            fault = f"{step.name} moves outputs by {distance:.2g}" if distance > SAME_FUNCTION else ""
        if not fault:
            outcome.model, expected = made, result
            outcome.steps += (step,)
        elif found.tool is None:
            outcome.verdict, outcome.detail = "faulty", fault
            outcome.steps += (step,)
            return outcome
        else:
            outcome.gone.append(fault)
    return outcome


def judge(
    proto: onnx.ModelProto,
    chain: Chain,
    expected: Mapping[str, Any] | None = None,
    longest: int = 1000,
) -> Outcome:
    """Follow a chain, and compare the score at its end with the one at its start, if that is known."""
    outcome = follow(proto, chain, longest)
    if outcome.verdict != "equal" or not outcome.steps:
        return outcome
    assert outcome.model is not None
    try:
        found = measure(outcome.model)
    except IntrainError as error:
        outcome.verdict, outcome.detail = "refused", str(error)
        return outcome
    except Exception as error:
        outcome.verdict, outcome.detail = "crashed", f"{type(error).__name__}: {error}"
        return outcome
    expected = expected or measure(proto)
    differ = differences(expected, found)
    outcome.apart = distances(expected, found)
    if differ:
        outcome.verdict = "uncovered" if says_what_is_missing(found) else "differs"
        outcome.detail = "; ".join(differ)
    return outcome


def shorten(proto: onnx.ModelProto, chain: Chain) -> tuple[Chain, Outcome]:
    """Leave out steps for as long as the chain fails in the same way."""
    outcome = judge(proto, chain)
    expected = None if outcome.verdict == "faulty" else measure(proto)
    chain = outcome.steps
    index = 0
    while index < len(chain) > 1:
        shorter = chain[:index] + chain[index + 1 :]
        found = judge(proto, shorter, expected)
        if found.verdict == outcome.verdict:
            chain, outcome, index = shorter, found, 0
        else:
            index += 1
    return chain, outcome
