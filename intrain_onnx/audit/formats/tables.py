"""The findings of a run as a table: CSV and Parquet."""

from __future__ import annotations

from intrain_onnx.audit.run import Audits


def csv(audits: Audits) -> bytes:
    """Comma-separated values."""
    return audits.table().csv()


def parquet(audits: Audits) -> bytes:
    """Apache Parquet.

    Raises:
        SettingsError: pyarrow is not installed.
    """
    return audits.table().parquet()
