"""The audits of a run as one self-contained HTML page (no network access).

plots   charts of the evidence: activation ranges, dead channels, participation ratios
shown   view models: the types that the template reads
view    converts audits into view models: text sanitised, numbers formatted
"""

from __future__ import annotations

from intrain_onnx.audit.page import view
from intrain_onnx.audit.run import Audits
from intrain_onnx.report.page.document import rendered


def page(audits: Audits) -> str:
    """One HTML document for all models of a run; deterministic."""
    return rendered("audit.html", page=view.page(audits))
