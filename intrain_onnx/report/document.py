"""The report as a JSON document: load, save, schema."""

from __future__ import annotations

import json
import math
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intrain_onnx import untrusted
from intrain_onnx.errors import ModelFileError, printable
from intrain_onnx.vocabulary import LEADING

if TYPE_CHECKING:
    import pandas as pd

    from intrain_onnx.report import rows
    from intrain_onnx.report.frames.parts import Part


@dataclass(frozen=True, repr=False)
class Report:
    """A scored model. ``data`` is the JSON document that ``report.schema.json`` describes."""

    data: Mapping[str, Any]

    @classmethod
    def of(cls, document: rows.Document) -> Report:
        """The report of a typed document."""
        from intrain_onnx.report.decode import encode  # noqa: PLC0415 - it loads msgspec

        made = cls(encode(document))
        made.__dict__["document"] = document
        return made

    @cached_property
    def document(self) -> rows.Document:
        """The typed document, upgraded to the current schema version.

        Raises:
            ModelFileError: ``data`` does not follow its schema.
        """
        from intrain_onnx.report.decode import decode  # noqa: PLC0415 - it loads msgspec

        return decode(self.data)

    @property
    def intrain(self) -> float:
        """The InTrain score, mean over the runs."""
        return float(self.data["score"]["intrain"])

    @property
    def geometric_capacity(self) -> float:
        """Sum over layers of the log participation ratio, in nats, mean over the runs."""
        return float(self.data["score"]["geometric_capacity"])

    @property
    def optimization_resilience(self) -> float:
        """Sum over parameter tensors of the gradient health, mean over the runs."""
        return float(self.data["score"]["optimization_resilience"])

    def to_frame(self, part: Part = "layers") -> pd.DataFrame:
        """A list of the report as a pandas DataFrame, a row for each entry.

        Args:
            part: ``layers``, ``parameters``, ``points`` or ``depth_profile``.

        Raises:
            SettingsError: pandas is not installed, or a report has no such list.
        """
        from intrain_onnx.report.frames import parts  # noqa: PLC0415

        return parts.part(self.document, part).frame()

    def __repr__(self) -> str:
        return f"<Report of {self._title()}>"

    def _title(self) -> str:
        """File, scores and number of layers, in one line."""
        model, scores = self.data.get("model", {}), self.data.get("scores", {})
        leads = f"{LEADING} {scores[LEADING]['value']:.5g}, " if LEADING in scores else ""
        path = printable(model.get("path") or "model in memory")
        return f"{path}: {leads}InTrain {self.intrain:.5g}, {len(self.data.get('layers', ()))} layers"

    def _repr_html_(self) -> str:
        from intrain_onnx.report.frames import parts  # noqa: PLC0415

        return parts.card(self.document, self._title())

    def to_json(self) -> str:
        """Strict JSON: no NaN, no infinity, fixed key order."""
        return strict_json(self.data)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the JSON atomically, through a temporary file and a rename."""
        return write_atomically(Path(path), self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Report:
        """Read a saved report.

        Raises:
            ModelFileError: not JSON, or not a report of a supported schema version; says where.
        """
        try:
            text = untrusted.text_of(Path(path), untrusted.DOCUMENT_BYTES)
            loaded = cls(untrusted.json_value(text))
        except (OSError, untrusted.UnreadableError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ModelFileError(f"not a report: {reason}", path=str(path)) from error
        try:
            loaded.document  # noqa: B018 (checks it)
        except ModelFileError as error:
            error.at(path=str(path))
            raise
        return loaded


def strict_json(data: object) -> str:
    """JSON text without NaN and infinity, in the order of the keys."""
    return json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def stored_schema(package: str, name: str) -> dict[str, Any]:
    """A JSON Schema that is part of the package."""
    return dict(json.loads(resources.files(package).joinpath(name).read_text(encoding="utf-8")))


def schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    return stored_schema("intrain_onnx", "report.schema.json")


def write_atomically(path: Path, content: str | bytes) -> Path:
    """Write a file atomically (text in UTF-8): a temporary file in the same folder, then a rename.

    Devices and pipes are written directly: a rename would replace them by a file.
    """
    data = content.encode() if isinstance(content, str) else content
    if path.exists() and not path.is_file():
        path.write_bytes(data)
        return path
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".intrain-", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(temporary, 0o666 & ~mask)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path


def number(value: float | None, digits: int = 12) -> float | None:
    """A JSON number rounded to significant digits, which drops round-off; None if not finite."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{digits}g}")
