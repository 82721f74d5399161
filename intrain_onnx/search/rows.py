"""The row of an evaluation: what is stored, and what the page and the terminal show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from intrain_onnx.rank.rows import Row
from intrain_onnx.search.goals import Objective

FORMAT = "intrain-onnx search 1"


class Evaluation(Struct, frozen=True, kw_only=True):
    """One architecture.

    Attributes:
        number: its place in the search, from 0; one is left out where no new architecture was found.
        genes: that stand for it.
        costs: multiply-accumulate operations and parameters at the size that budgets are for, where a goal
            asks for them.
        rejected: architectures that did not keep a budget, and in whose place it is.
        row: its description as ``model``, and its scores or why it has none, as in a ranking.
    """

    number: int
    genes: tuple[int, ...]
    costs: Mapping[str, int] = {}
    rejected: int = 0
    row: Row

    @property
    def architecture(self) -> str:
        """Its description."""
        return self.row.model

    def value(self, name: str) -> float | None:
        """A cost, score, baseline or proxy part by name; None if it has none."""
        return self.costs[name] if name in self.costs else self.row.value(name)

    def losses(self, objectives: Sequence[Objective]) -> list[float | None]:
        """Values of objectives, less of which is better; all None where it has no score."""
        values = [self.value(o.name) if self.row.status == "scored" else None for o in objectives]
        return [None if v is None else -o.sign * v for o, v in zip(objectives, values, strict=True)]


class Lost(Struct, frozen=True):
    """A process that an architecture took down, and that is tried again."""

    architecture: str
    reason: str


class Made(Struct, frozen=True, kw_only=True):
    """What is handed over of a chosen architecture.

    Attributes:
        file: name of the ONNX file in the folder of results; None if it could not be made.
        report: name of its JSON report.
        costs: counted of the file.
        onnxruntime: ok, differs or not compared, with the reason.
        error: why something is missing; None if nothing is.
    """

    file: str | None = None
    report: str | None = None
    costs: Mapping[str, int] = {}
    onnxruntime: str = "not compared"
    error: str | None = None
