"""A ranking in memory: of reports at hand, or of the results that ``intrain-onnx rank`` has written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from intrain_onnx.errors import SettingsError
from intrain_onnx.rank import results, rows, tables
from intrain_onnx.rank.rows import Row
from intrain_onnx.report.derived import mixed_names
from intrain_onnx.report.document import Report
from intrain_onnx.report.frames.notebook import Card, shown
from intrain_onnx.report.frames.table import Table
from intrain_onnx.vocabulary import LEADING

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Ranking:
    """Models in rank order; those without a score come last.

    Attributes:
        rows: one a model.
        by: the score, baseline or part of a proxy that they are ranked by.
    """

    rows: tuple[Row, ...]
    by: str

    @classmethod
    def of(cls, reports: Iterable[Report], by: str = LEADING) -> Ranking:
        """Rank reports.

        Raises:
            SettingsError: no report has that score.
            ModelFileError: a report does not follow its schema.
        """
        made = [rows.of_report(r.document.model.path or "model in memory", {}, r, None) for r in reports]
        return cls(tuple(tables.ranked(made, by)), by)

    @classmethod
    def load(cls, folder: str | os.PathLike[str], by: str = LEADING) -> Ranking:
        """Rank what is in the folder of a run of ``intrain-onnx rank``, which may still go on.

        Raises:
            SettingsError: it holds no results, or none of them has that score.
        """
        if not (Path(folder) / results.LOG).is_file():
            raise SettingsError(
                f"{os.fspath(folder)} has no {results.LOG}", hint="Name the folder that `rank -o` was given"
            )
        return cls(tuple(tables.ranked(results.read(Path(folder)).rows.values(), by)), by)

    def to_frame(self) -> pd.DataFrame:
        """All columns of ``ranking.csv`` as a pandas DataFrame, in rank order.

        Raises:
            SettingsError: pandas is not installed.
        """
        return self.table().frame()

    def table(self) -> Table:
        """All columns of ``ranking.csv``, in rank order."""
        return tables.table(self.rows, self.by)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __repr__(self) -> str:
        scored = sum(row.value(self.by) is not None for row in self.rows)
        best = f", best {self.rows[0].model!r}" if scored else ""
        return f"<Ranking of {len(self)} models by {self.by}: {scored} have a rank{best}>"

    def _repr_html_(self) -> str:
        mixed = mixed_names({row.kind for row in self.rows if row.status == "scored"})
        card = Card(
            f"{len(self)} models, ranked by {self.by}",
            remarks=[mixed] if mixed else [],
            tables={"ranking": tables.summary(self.rows, self.by)},
        )
        return shown(card)
