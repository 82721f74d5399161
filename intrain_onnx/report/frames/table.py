"""A table of named columns, as CSV, Parquet or a pandas DataFrame."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from intrain_onnx.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

Format = Literal["csv", "parquet"]
FORMATS: Final[tuple[Format, ...]] = ("csv", "parquet")


@dataclass(frozen=True)
class Table:
    """Columns of equal length by name; a cell is a text, a number, a truth value or None."""

    columns: Mapping[str, Sequence[Any]]

    @classmethod
    def of(cls, names: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
        """The table of these rows."""
        return cls({name: [row[i] for row in rows] for i, name in enumerate(names)})

    def written(self, form: Format) -> bytes:
        """The table in a format.

        Raises:
            SettingsError: Parquet without pyarrow.
        """
        return self.csv() if form == "csv" else self.parquet()

    def csv(self) -> bytes:
        """Comma-separated values in UTF-8, the names in the first line; None is an empty cell."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([map(_cell, row) for row in zip(*self.columns.values(), strict=True)])
        return stream.getvalue().encode("utf-8", "backslashreplace")

    def parquet(self) -> bytes:
        """Apache Parquet, with the types of the values.

        Raises:
            SettingsError: pyarrow is not installed.
        """
        pa, parquet = require()
        sink = pa.BufferOutputStream()
        parquet.write_table(pa.table({name: pa.array(v) for name, v in self.columns.items()}), sink)
        return bytes(sink.getvalue().to_pybytes())

    def frame(self) -> pd.DataFrame:
        """A pandas DataFrame.

        Raises:
            SettingsError: pandas is not installed.
        """
        try:
            import pandas as pd  # noqa: PLC0415 - an extra
        except ImportError:
            raise SettingsError(
                "a DataFrame needs pandas", hint="pip install 'intrain-onnx[pandas]'"
            ) from None
        return pd.DataFrame({name: list(values) for name, values in self.columns.items()})


def require() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet.

    Raises:
        SettingsError: pyarrow is not installed.
    """
    try:
        import pyarrow as pa  # noqa: PLC0415 - an extra
        from pyarrow import parquet  # noqa: PLC0415
    except ImportError:
        raise SettingsError("Parquet needs pyarrow", hint="pip install 'intrain-onnx[parquet]'") from None
    return pa, parquet


def _cell(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is kept from it: names come from strangers."""
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value
