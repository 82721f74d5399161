"""Thresholds of a comparison, and what passes them. No torch.

A conversion keeps the weights, so its outputs differ by the rounding of its types alone; a later checkpoint
of a training has other weights, each tensor of which still resembles the one before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Final

from intrain_onnx.diff.rows import (
    NOT_RUN,
    Compared,
    Expected,
    FindingRow,
    LayerRow,
    OperatorRow,
    OutputRow,
    Precision,
    Side,
    WeightRow,
)
from intrain_onnx.errors import SettingsError

_MOST = 50
"""Most findings of one rule that are listed."""

_MAPS = ("weight", "weight 2", "table")
"""Roles whose size alone says nothing: that of a bias is one beside the activation, which tells its error."""

_FEW = 16
"""Elements up to which a tensor has no distribution to speak of."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """What the second file must reach.

    Attributes:
        output_snr: signal to noise of each output, dB.
        activation_correlation: of each layer's activation; a gate that hardly varies has none to speak of, so
            that its signal to noise must be below ``activation_snr`` too.
        activation_snr: signal to noise of an activation, dB, above which correlation is not looked at.
        weight_snr: signal to noise of each weight and table, dB.
        weight_correlation: of each weight and table of more than 16 elements.
        bias_correlation: of each other parameter of more than 16 elements.
        agreement: share of rows with the same top class.
        levels: distinct values of a tensor that had four times as many.
        zeros: most that the share of zeros in a tensor may grow by.
    """

    output_snr: float
    activation_correlation: float
    activation_snr: float
    weight_snr: float
    weight_correlation: float
    bias_correlation: float
    agreement: float
    levels: float
    zeros: float


_FLOAT: Final = Thresholds(60.0, 0.9999, 60.0, 80.0, 0.9999, -1.0, 0.9, 2, 0.05)

CONVERSION: Final[Mapping[Precision, Thresholds]] = {
    "float64": _FLOAT,
    "float32": _FLOAT,
    "float16": Thresholds(35.0, 0.999, 35.0, 50.0, 0.999, -1.0, 0.8, 2, 0.05),
    "bfloat16": Thresholds(20.0, 0.99, 20.0, 40.0, 0.999, -1.0, 0.7, 2, 0.05),
    "int8": Thresholds(5.0, 0.85, 20.0, 6.0, 0.9, -1.0, 0.5, 16, 0.9),
    "int4": Thresholds(3.0, 0.7, 10.0, 3.0, 0.8, -1.0, 0.3, 2, 0.9),
}
"""By the coarsest precision of both files, from the figures of healthy conversions in docs/diff.md."""

_CLIPPED: Final = {"output_snr": 0.0, "activation_correlation": 0.5}
"""Where activations are quantised to ranges of real data, and the inputs are noise, which they cut off."""

CHECKPOINT: Final = Thresholds(-40.0, 0.0, 20.0, -10.0, 0.5, 0.2, 0.0, 16, 0.25)
"""Of a later step of the same training."""

_STATIC = ("static QDQ", "QLinear operators")

_ORDER: Final[tuple[Precision, ...]] = ("float64", "float32", "bfloat16", "float16", "int8", "int4")


def chosen(
    expected: Expected,
    sides: Sequence[Side],
    changed: Mapping[str, float] | None = None,
    *,
    noise: bool = True,
) -> Thresholds:
    """The thresholds for two files.

    Args:
        expected: what the second file is.
        sides: both files.
        changed: thresholds that the user sets, by name.
        noise: the inputs are noise, not real samples.
    """
    coarsest = max((side.precision for side in sides), key=_ORDER.index)
    found = CHECKPOINT if expected == "checkpoint" else CONVERSION[coarsest]
    static = any(name in scheme for side in sides for scheme in side.quantisation for name in _STATIC)
    if noise:  # on which the classes of many networks are as good as equal
        found = replace(found, agreement=0.0)
    if expected == "conversion" and static and noise:
        found = replace(found, **_CLIPPED)
    return replace(found, **(changed or {}))


_AGREED: Final = 0.9


def notes(sides: Sequence[Side], outputs: Sequence[OutputRow]) -> Iterator[str]:
    """What noise as input cannot tell, where it matters."""
    advice = "give real samples with --inputs"
    if any(row.agreement is not None and row.agreement < _AGREED for row in outputs):
        yield f"on noise, classes that are as good as equal change places: {advice}"
    if any(name in scheme for side in sides for scheme in side.quantisation for name in _STATIC):
        yield f"activations are quantised to ranges of real data, which cut noise off: {advice}"


def require_known(names: Iterable[str]) -> None:
    """Refuse names of no threshold.

    Raises:
        SettingsError: no threshold is called that.
    """
    known = [f.name for f in fields(Thresholds)]
    for name in names:
        if name not in known:
            raise SettingsError(f"no threshold is called {name!r}", hint=f"There are {', '.join(known)}")


def as_row(thresholds: Thresholds) -> dict[str, float]:
    """By name, for the document."""
    return {name: float(value) for name, value in asdict(thresholds).items()}


def findings(
    limits: Thresholds,
    layers: Sequence[LayerRow],
    parameters: Sequence[WeightRow],
    outputs: Sequence[OutputRow],
    operators: Sequence[OperatorRow] = (),
) -> tuple[FindingRow, ...]:
    """All that passes a threshold: structure, weights, activations, outputs; operators, where they count."""
    found: list[FindingRow] = []
    for some in (
        _structure(layers),
        (FindingRow("operators", f"{x.op}: {x.difference}", None, None, None) for x in operators),
        _weights(limits, layers, parameters),
        _activations(limits, layers),
        _outputs(limits, outputs),
    ):
        found += some
    counts: dict[str, int] = {}
    kept = []
    for one in found:
        counts[one.rule] = counts.get(one.rule, 0) + 1
        if counts[one.rule] <= _MOST:
            kept.append(one)
    return tuple(kept)


def parts_at(limits: Thresholds, layers: Sequence[LayerRow]) -> str | None:
    """The first layer, by depth, whose activation is beyond its threshold."""
    for layer in sorted(layers, key=lambda x: x.depth):
        if layer.activation is not None and _beyond(limits, layer.activation):
            return layer.first
    return None


def _beyond(limits: Thresholds, difference: Compared) -> bool:
    lost = difference.not_finite > 0
    noisy = difference.snr_db is None or difference.snr_db < limits.activation_snr
    known = difference.correlation is not None
    apart = known and noisy and (difference.correlation or 0.0) < limits.activation_correlation
    return lost or apart or _one_is_constant(difference)


def _one_is_constant(difference: Compared) -> bool:
    """Whether one of both does not vary, so that there is no correlation, and they differ."""
    if difference.correlation is not None or difference.equal:
        return False
    return difference.relative_error is None or difference.relative_error > 0.5


def _structure(layers: Sequence[LayerRow]) -> Iterator[FindingRow]:
    """Layers without a counterpart that run, and others than the reference's.

    A parameter that one file lacks may be shared there: outputs decide.
    """
    for layer in layers:
        lonely = layer.first is None or layer.second is None
        if layer.status != "same" and not (lonely and layer.unseen == NOT_RUN):
            shapes = ["x".join(map(str, s)) if s else "none" for s in layer.shapes]
            message = {
                "gone": "the layer of the reference is missing",
                "added": "the reference has no such layer",
                "changed": f"its weight is {shapes[0]} in the reference and {shapes[1]} here",
            }[layer.status]
            yield FindingRow("structure", message, layer.first or layer.second, None, None)


def _weights(
    limits: Thresholds, layers: Sequence[LayerRow], parameters: Sequence[WeightRow]
) -> Iterator[FindingRow]:
    placed = [(layer.first, row) for layer in layers for row in layer.weights]
    for place, row in [*placed, *((row.first, row) for row in parameters)]:
        if row.difference is not None and not row.difference.equal:
            yield from _of_weight(limits, place, row, row.difference)


def _of_weight(
    limits: Thresholds, place: str | None, row: WeightRow, found: Compared
) -> Iterator[FindingRow]:
    name = row.role if row.first is None or place == row.first else f"{row.role} {row.first!r}"
    if found.not_finite:
        message = f"{name}: {found.not_finite:,} elements are not finite, and are in the reference"
        yield FindingRow("not-finite", message, place, found.not_finite, 0)
        return
    if row.reordered and found.elements > _FEW:
        yield FindingRow("order", f"{name}: the same values in another order", place, None, None)
        return
    if found.elements > _FEW:
        yield from _of_values(limits, place, name, row)
    is_map, some = row.role in _MAPS, found.elements > _FEW
    least = limits.weight_correlation if is_map else limits.bias_correlation
    noise = found.snr_db if found.snr_db is not None else float("-inf")
    if is_map and found.max_abs_error > 0 and noise < limits.weight_snr:
        message = f"{name}: {_decibels(found)} of signal to noise"
        yield FindingRow("weights", message, place, found.snr_db, limits.weight_snr)
    elif some and found.correlation is not None and found.correlation < least:
        message = f"{name}: a correlation of {found.correlation:.4f} with that of the reference"
        yield FindingRow("weights", message, place, found.correlation, least)


def _of_values(limits: Thresholds, place: str | None, name: str, row: WeightRow) -> Iterator[FindingRow]:
    """Few distinct values where there were many, and zeros where there were none; of weights and tables."""
    if row.role not in _MAPS:
        return
    if row.levels is not None:
        before, after = row.levels
        if after <= limits.levels and before >= 4 * after:
            message = f"{name}: {after} distinct values, {before} in the reference"
            yield FindingRow("levels", message, place, after, limits.levels)
    if row.zeros is not None and row.zeros[1] - row.zeros[0] > limits.zeros:
        message = f"{name}: {row.zeros[1]:.0%} are zero, {row.zeros[0]:.0%} in the reference"
        yield FindingRow("zeros", message, place, row.zeros[1], row.zeros[0] + limits.zeros)


def _activations(limits: Thresholds, layers: Sequence[LayerRow]) -> Iterator[FindingRow]:
    for layer in sorted(layers, key=lambda x: x.depth):
        found = layer.activation
        if found is None or not _beyond(limits, found):
            continue
        if found.not_finite:
            message = f"{found.not_finite:,} elements are not finite, and are in the reference"
            yield FindingRow("not-finite", message, layer.first, found.not_finite, 0)
            continue
        known = f"{found.correlation:.4f}" if found.correlation is not None else "none, as one is constant"
        yield FindingRow(
            "activations",
            f"correlation of the activation: {known}; {_decibels(found)} of signal to noise",
            layer.first,
            found.correlation,
            limits.activation_correlation,
        )


def _outputs(limits: Thresholds, outputs: Sequence[OutputRow]) -> Iterator[FindingRow]:
    for row in outputs:
        found = row.difference
        if found is None:
            yield FindingRow("structure", f"the output is not compared: {row.unseen}", row.first, None, None)
            continue
        if found.not_finite:
            message = f"{found.not_finite:,} elements of the output are not finite, and are in the reference"
            yield FindingRow("not-finite", message, row.first, found.not_finite, 0)
        elif found.snr_db is not None and found.snr_db < limits.output_snr:
            message = f"the output has {_decibels(found)} of signal to noise"
            yield FindingRow("outputs", message, row.first, found.snr_db, limits.output_snr)
        elif found.snr_db is None and found.max_abs_error > 0:
            yield FindingRow("outputs", "the output is zero in the reference alone", row.first, None, None)
        if row.agreement is not None and row.agreement < limits.agreement:
            message = f"the top class agrees in {row.agreement:.1%} of the rows"
            yield FindingRow("agreement", message, row.first, row.agreement, limits.agreement)


def _decibels(found: Compared) -> str:
    return f"{found.snr_db:.1f} dB" if found.snr_db is not None else "0 dB"
