"""Determines by running what the graph does not tell of inputs: the polarity of masks, and positive data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice, product
from typing import Literal

import torch
from torch import Tensor

from intrain_onnx.errors import IntrainError
from intrain_onnx.loading.allowance import raise_spent
from intrain_onnx.measure.trial import Trial
from intrain_onnx.network.input_shapes import InputSpec, Signature
from intrain_onnx.network.signature.input_roles import Role

_MOST_TRIALS = 8

_DRAWS = 4

_Fill = Literal["ones", "zeros"]


def settle_values(trial: Trial, single: Signature) -> Mapping[str, Role]:
    """Roles of inputs with which the outputs are finite and change with the other inputs.

    Noise that reaches an operator of limited domain (logarithm, root, division) becomes ``positive`` if only
    that makes finite outputs. Masks whose polarity the graph does not tell are filled with ones, else zeros,
    else mixtures over the masks; that is sure if the opposite fails. Static roles are kept if none fits, or
    if the model cannot be run.
    """
    drawn = [spec for spec in single.inputs if spec.name not in single.given and spec.number >= 0]
    masks = [spec.name for spec in drawn if spec.kind == "ones" and not spec.role.sure]
    limited = [spec.name for spec in drawn if spec.kind == "noise" and spec.role.limited]
    if all(spec.kind in ("ones", "zeros") for spec in drawn):
        return {}
    try:
        positive = _positive(trial, single, limited) if limited else {}
        return {**positive, **(_masks(trial, _filled(single, positive), masks) if masks else {})}
    except IntrainError as error:  # reported when the model is run
        raise_spent(error)
        return {}


def _positive(trial: Trial, single: Signature, names: Sequence[str]) -> dict[str, Role]:
    if _finite(trial, single):
        return {}
    positive = {name: Role("positive", sure=True) for name in names}
    return positive if _finite(trial, _filled(single, positive)) else {}


def _finite(trial: Trial, single: Signature) -> bool:
    """Whether all float outputs are finite for several draws."""
    return all(
        bool(torch.isfinite(value).all())
        for seed in range(_DRAWS)
        for value in trial.run(single, seed)
        if _is_float(value)
    )


def _masks(trial: Trial, single: Signature, names: Sequence[str]) -> dict[str, Role]:
    """Fills with which most outputs follow the other inputs; ones where as many do."""
    found: dict[tuple[_Fill, ...], int] = {}
    for fills in islice(_trials(len(names)), _MOST_TRIALS):
        found[fills] = _following(trial, single, names, fills)
    best = max(found, key=lambda fills: found[fills])
    if found[best] < 1:
        return {}
    opposite: tuple[_Fill, ...] = tuple("zeros" if fill == "ones" else "ones" for fill in best)
    worse = found.get(opposite, _following(trial, single, names, opposite)) < found[best]
    return {name: Role(fill, sure=worse) for name, fill in zip(names, best, strict=True)}


def _trials(count: int) -> Iterator[tuple[_Fill, ...]]:
    ones: _Fill = "ones"
    zeros: _Fill = "zeros"
    yield from ((ones,) * count, (zeros,) * count)
    yield from (mixed for mixed in product((ones, zeros), repeat=count) if len(set(mixed)) > 1)


def _following(trial: Trial, single: Signature, names: Sequence[str], fills: Sequence[_Fill]) -> int:
    """How many float outputs differ between two draws of the other inputs; -1 if one is not finite."""
    roles = {name: Role(fill) for name, fill in zip(names, fills, strict=True)}
    filled = _filled(single, roles)
    first, second = (trial.run(filled, seed) for seed in (0, 1))
    floats = [(a, b) for a, b in zip(first, second, strict=True) if _is_float(a) and _is_float(b)]
    if not all(bool(torch.isfinite(v).all()) for pair in floats for v in pair):
        return -1
    return sum(a.shape != b.shape or not torch.equal(a, b) for a, b in floats)


def _filled(single: Signature, roles: Mapping[str, Role]) -> Signature:
    return replace(single, inputs=tuple(_with_kind(spec, roles.get(spec.name)) for spec in single.inputs))


def _with_kind(spec: InputSpec, role: Role | None) -> InputSpec:
    return spec if role is None else replace(spec, kind=role.kind, role=role)


def _is_float(value: object) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()
