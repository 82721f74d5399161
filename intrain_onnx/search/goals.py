"""What a search looks for: objectives by name, and hard budgets on costs that are counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from intrain_onnx.errors import SettingsError
from intrain_onnx.loading.limits import whole_number
from intrain_onnx.proxy_table import LOWER, PROXIES
from intrain_onnx.scores.baselines import BASELINES
from intrain_onnx.scores.variants import VARIANTS
from intrain_onnx.vocabulary import LEADING

COSTS = ("macs", "params")
"""What a budget may be on: multiply-accumulate operations for one sample, and elements of weights."""

INTRAIN = "intrain"

Costs = Mapping[str, int]
"""By name."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A named score, baseline, part of a proxy, or cost.

    Attributes:
        name: of it.
        sign: 1 where more is better, else -1.
    """

    name: str
    sign: int

    def __str__(self) -> str:
        return f"{'most' if self.sign > 0 else 'least'} {self.name}"


@dataclass(frozen=True, slots=True)
class Goals:
    """Objectives and budgets.

    Attributes:
        objectives: the first one leads.
        budgets: most of each cost.
    """

    objectives: tuple[Objective, ...] = (Objective(LEADING, 1),)
    budgets: Mapping[str, int] = field(default_factory=dict)

    @property
    def counted(self) -> tuple[str, ...]:
        """Costs that must be counted: of budgets, and of objectives."""
        named = {*self.budgets, *(o.name for o in self.objectives)}
        return tuple(name for name in COSTS if name in named)

    @property
    def fill(self) -> bool:
        """Whether an architecture is to use its budget up: not where less of a cost is an objective."""
        return bool(self.budgets) and not any(o.sign < 0 and o.name in COSTS for o in self.objectives)

    @property
    def proxies(self) -> tuple[str, ...]:
        """Proxies that must be measured."""
        wanted = {o.name for o in self.objectives}
        return tuple(name for name, proxy in PROXIES.items() if wanted & {*proxy.parts} - known_counts())


def known_counts() -> set[str]:
    """Names that every report has a value of, or that are counted."""
    return {INTRAIN, *VARIANTS, *BASELINES, *COSTS}


def goals(scores: Sequence[str], least: Sequence[str], budgets: Mapping[str, int]) -> Goals:
    """Goals of names.

    Args:
        scores: more of each is better, or less where its authors say so.
        least: less of each is better.
        budgets: see `Goals`.

    Raises:
        SettingsError: a name is not known, or stands twice.
    """
    parts = {part for proxy in PROXIES.values() for part in proxy.parts}
    known = known_counts() | parts
    named = [*(scores or (LEADING,)), *least]
    for name in named:
        if name not in known:
            raise SettingsError(f"there is no score {name!r}", hint=f"Name one of {', '.join(sorted(known))}")
        if named.count(name) > 1:
            raise SettingsError(f"{name} is an objective twice", hint="Name it once")
    found = [Objective(name, -1 if name in LOWER else 1) for name in scores or (LEADING,)]
    return Goals((*found, *(Objective(name, -1) for name in least)), dict(budgets))


def budgets_of(texts: Sequence[str]) -> dict[str, int]:
    """Budgets of texts such as ``macs=450M``.

    Raises:
        SettingsError: one is no such text, or a cost has two.
    """
    found: dict[str, int] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name not in COSTS:
            raise SettingsError(
                f"there is no budget {text!r}", hint=f"Write {' or '.join(f'{c}=450M' for c in COSTS)}"
            )
        if name in found:
            raise SettingsError(f"there are two budgets of {name}", hint="Give one")
        try:
            found[name] = whole_number(value)
        except ValueError as error:
            raise SettingsError(f"budget {text!r}: {error}") from None
    return found


def ratio(costs: Costs, budgets: Mapping[str, int]) -> float:
    """The largest share of a budget that costs take; 0 without budgets."""
    return max((costs[name] / most for name, most in budgets.items()), default=0.0)
