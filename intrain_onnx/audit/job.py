"""The audit of one file: as a job of an engine, and as a call. No torch at import."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, replace
from pathlib import Path

from intrain_onnx.audit import policy as policies
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


def audit_model(
    path: str | os.PathLike[str],
    policy: Policy | str | os.PathLike[str] | None = None,
    *,
    baseline: Report | None = None,
    reference: str | os.PathLike[str] | None = None,
) -> Result:
    """Hold a checkpoint against a policy, as ``intrain-onnx audit`` does.

    Args:
        path: of the ONNX file.
        policy: or the path of one in TOML; by default the one that is shipped.
        baseline: an earlier report of the model.
        reference: another file of the same network, such as the one that it was converted from.

    Raises:
        SettingsError: a policy that cannot be read or is not valid. A model that cannot be loaded is a result
            with an error.
    """
    if not isinstance(policy, Policy):
        policy = policies.load(Path(policy)) if policy is not None else policies.default()
    return audit(Path(path), policy, baseline, reference=Path(reference) if reference is not None else None)
