"""The audit of one file as a job of an engine. No torch at import."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

from intrain_onnx.audit.policy import Policy
from intrain_onnx.audit.run import Result, audit, broken
from intrain_onnx.engine.outcomes import Lost, Tell
from intrain_onnx.errors import described
from intrain_onnx.failure import internal
from intrain_onnx.report.document import Report


@dataclass(frozen=True, slots=True)
class AuditFile:
    """Audits a file; whatever happens is a result, so that every output covers every model.

    Attributes:
        policy: what is demanded.
        debug: raise an internal error, for its traceback.
    """

    policy: Policy
    debug: bool = False

    def __call__(self, item: tuple[Path, Report | None, Path | None], tell: Tell) -> Result:
        """The result for a path with its baseline and reference; tells each step and the share done."""
        path, baseline, reference = item
        started = time.perf_counter()
        try:
            result = audit(
                path,
                self.policy,
                baseline,
                progress=lambda step, share: tell((step, share)),
                reference=reference,
            )
        except Exception as error:
            if self.debug:
                raise
            result = self._internal(path, described(error))
        return replace(result, seconds=time.perf_counter() - started)

    def result_of(self, lost: Lost, path: Path) -> Result:
        """The result for a file whose process was lost."""
        if lost.reason == "internal":
            return self._internal(path, lost.detail)
        return broken(path, self.policy, lost.error(str(path)))

    def _internal(self, path: Path, detail: str) -> Result:
        return broken(path, self.policy, internal(detail, str(path)))
