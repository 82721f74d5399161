"""Applies a policy to a model, and to all models of a run. No torch at import."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from intrain_onnx.audit.checks.base import nothing
from intrain_onnx.audit.deployment import rows as deployment
from intrain_onnx.audit.evidence import Evidence
from intrain_onnx.audit.gather import gather
from intrain_onnx.audit.policy import Policy, Waiver
from intrain_onnx.audit.rows import (
    Audit,
    Audited,
    CheckRow,
    Counts,
    FindingRow,
    HeldAgainst,
    Outcome,
    PrecisionRow,
    ReferenceRow,
    ScoreRow,
    Scores,
    VariedRow,
    Waived,
    findings_table,
)
from intrain_onnx.audit.table import CHECKS, SEVERITIES, Check, Found, Severity
from intrain_onnx.errors import IntrainError, path_text, printable
from intrain_onnx.loading import allowance
from intrain_onnx.loading.module_paths import with_module
from intrain_onnx.progress import Progress
from intrain_onnx.report.decode import encode
from intrain_onnx.report.document import Report, number
from intrain_onnx.report.frames.notebook import Card, shown
from intrain_onnx.report.frames.table import Table

if TYPE_CHECKING:
    import pandas as pd

MOST_FINDINGS = 200
"""Most findings listed of one check: a file can have a million nodes of a kind."""

VIOLATED = 1
INTERNAL = 70


@dataclass(frozen=True, slots=True)
class Finding:
    """A finding with the severity that the policy assigns.

    Attributes:
        check: id of the check.
        severity: by the policy.
        found: message, place and values.
        waiver: the waiver that accepts it; None if it counts.
    """

    check: str
    severity: Severity
    found: Found
    waiver: Waiver | None = None


@dataclass(frozen=True, repr=False)
class Result:
    """One audited model.

    Attributes:
        path: of the model, as given.
        policy: that was applied.
        findings: most severe first, then in the order of the table.
        evidence: None if the file could not be loaded.
        error: why it could not be loaded.
        today: date for the expiry of waivers.
        checked: ids of the checks that ran.
        seconds: wall-clock time.
    """

    path: str
    policy: Policy
    findings: tuple[Finding, ...]
    evidence: Evidence | None
    error: IntrainError | None
    today: datetime.date
    checked: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)

    @property
    def passed(self) -> bool:
        """Whether it was loaded and no unwaived finding fails the policy."""
        return self.error is None and not any(
            f.waiver is None and self.policy.fails(f.severity) for f in self.findings
        )

    @property
    def exit_code(self) -> int:
        """0: passed; 1: the policy is violated; otherwise the loader's exit code."""
        if self.error is not None:
            return self.error.exit_code if self.error.exit_code != VIOLATED else INTERNAL
        return 0 if self.passed else VIOLATED

    def counts(self) -> dict[str, int]:
        """Numbers of unwaived findings by severity, and of waived ones."""
        found = {s: sum(f.severity == s and f.waiver is None for f in self.findings) for s in SEVERITIES}
        return found | {"waived": sum(f.waiver is not None for f in self.findings)}

    def to_frame(self) -> pd.DataFrame:
        """The findings as a pandas DataFrame, a row each.

        Raises:
            SettingsError: pandas is not installed.
        """
        return Audits.of([self]).to_frame()

    def __repr__(self) -> str:
        verdict = "passed" if self.passed else "failed"
        return f"<Audit of {printable(self.path)}: {verdict}, {tally(self.counts())}>"

    def _repr_html_(self) -> str:
        return Audits.of([self])._repr_html_()

    def outcome(self, check: str) -> Outcome:
        """Outcome of one check; ``not_checked`` if evidence that it needs is missing."""
        told = [finding for finding in self.findings if finding.check == check]
        rule = self.policy.rules[check]
        if any(finding.waiver is None for finding in told):
            return "found"
        if told:
            return "waived"
        if rule.severity == "off":
            return "off"
        return "passed" if rule.check.run is nothing or check in self.checked else "not_checked"

    def row(self) -> Audit:
        """Entry of the JSON document; deterministic but for the seconds and a measured latency."""
        policy = HeldAgainst(self.policy.source, self.policy.fail_on, self.policy.deploy, self.today)
        return Audit(
            model=_audited(self.path, self.evidence),
            policy=policy,
            passed=self.passed,
            exit_code=self.exit_code,
            error=printable(self.error, 4000) if self.error is not None else None,
            counts=Counts(**self.counts()),
            scores=Scores(**{name: _score(r) for name, r in self.evidence.reports.items()})
            if self.evidence is not None
            else Scores(),
            checks=tuple(_check(self, name) for name in CHECKS),
            findings=tuple(map(finding_row, self.findings)),
            varied=_varied(self.evidence),
            seconds=round(self.seconds, 3),
            deployment=deployment.row(self.evidence.deployment) if self.evidence is not None else None,
            reference=_reference(self.evidence),
            precision=_precision(self.evidence),
        )

    def data(self) -> dict[str, Any]:
        """`row` as JSON values."""
        return encode(self.row())


@dataclass(frozen=True, repr=False)
class Audits:
    """All models of a run.

    Attributes:
        results: by model, without findings of the run.
        findings: of the run as a whole: waivers that are over, or that no finding of any model matched.
        models: number of models that the run has; more than the results while it goes on.
    """

    results: tuple[Result, ...]
    findings: tuple[Finding, ...]
    models: int

    @classmethod
    def of(cls, results: Sequence[Result], models: int | None = None) -> Audits:
        """The results of one policy together; findings of the run are moved to it, each once.

        Args:
            results: those that are there.
            models: how many there will be; as many as the results if None.
        """
        count = len(results) if models is None else models
        findings = tuple(_about_waivers(results, len(results) == count)) if results else ()
        own = [replace(r, findings=tuple(f for f in r.findings if not _of_run(f))) for r in results]
        return cls(tuple(own), findings, count)

    @property
    def passed(self) -> bool:
        """Whether all models were audited and passed, and no finding of the run fails the policy."""
        return self.exit_code == 0 and len(self.results) == self.models

    @property
    def exit_code(self) -> int:
        """That of the first model that did not pass, or 1 if a finding of the run fails the policy."""
        return next((r.exit_code for r in self.results if not r.passed), VIOLATED if self._violated else 0)

    @property
    def _violated(self) -> bool:
        return any(self.results[0].policy.fails(f.severity) for f in self.findings)

    def counts(self) -> dict[str, int]:
        """Numbers of findings of all models and of the run, as of a result."""
        found = Counter[str](f.severity for f in self.findings)
        return {
            name: found[name] + sum(r.counts()[name] for r in self.results)
            for name in (*SEVERITIES, "waived")
        }

    def summary(self) -> str:
        """How many models passed, and the findings of all of them, in one line."""
        passed = sum(r.passed for r in self.results)
        done = len(self.results)
        among = f"{passed} of {done} passed"
        among += f", {self.models - done} not audited" if done < self.models else ""
        among += ", waivers failed" if self._violated else ""
        return f"{among}: {tally(self.counts())}"

    def to_frame(self) -> pd.DataFrame:
        """The findings of all models as a pandas DataFrame, a row each.

        Raises:
            SettingsError: pandas is not installed.
        """
        return self.table().frame()

    def table(self) -> Table:
        """A row for each finding of each model, and last those of the run; see ``findings_table``."""
        of_models = [(r.path, r.passed, finding_row(f)) for r in self.results for f in r.findings]
        return findings_table(of_models + [("", self.passed, finding_row(f)) for f in self.findings])

    def __repr__(self) -> str:
        return f"<Audits of {self.models} models: {self.summary()}>"

    def _repr_html_(self) -> str:
        found = self.table()
        count = len(found.columns["model"])
        return shown(Card(self.summary(), tables={f"{count} findings": found} if count else {}))

    def outcome(self, check: str) -> Outcome:
        """Outcome of a check of the run; ``not_checked`` while the run goes on."""
        if any(f.check == check for f in self.findings):
            return "found"
        if any(r.policy.rules[check].severity == "off" for r in self.results):
            return "off"
        return "passed" if len(self.results) == self.models else "not_checked"


def tally(counts: Mapping[str, int]) -> str:
    """Counts of findings in words."""
    return ", ".join(f"{n} {name}{'s' if n != 1 and name != 'waived' else ''}" for name, n in counts.items())


def _of_run(finding: Finding) -> bool:
    return CHECKS[finding.check].of_run


def audit(
    path: Path,
    policy: Policy,
    baseline: Report | None = None,
    *,
    today: datetime.date | None = None,
    progress: Progress | None = None,
    reference: Path | None = None,
) -> Result:
    """Audit one model, beside a reference if one is given.

    A file that cannot be loaded is a result with an error, not an exception.
    """
    day = today or datetime.date.today()
    try:
        with allowance.held(policy.run.allowed(), str(path)):
            evidence = gather(path, policy, baseline, progress, reference)
    except IntrainError as error:
        return broken(path, policy, error, day)
    return judge(evidence, policy, day)


def broken(path: Path, policy: Policy, error: IntrainError, today: datetime.date | None = None) -> Result:
    """The result for a model whose audit was ended by an error."""
    error.at(path=str(path))
    found = Found(path_text(error.message), error.node, "node" if error.node else "model")
    finding = Finding("not-loaded", "error", found)
    return Result(str(path), policy, (finding,), None, error, today or datetime.date.today(), ("not-loaded",))


def judge(evidence: Evidence, policy: Policy, today: datetime.date) -> Result:
    """Run all checks that are not off, and apply the waivers to their findings."""
    rules = [(rule, rule.severity) for rule in policy.rules.values() if rule.severity != "off"]
    modules = {
        x.name: path_text(x.module)
        for report in evidence.reports.values()
        for x in report.document.layers
        if x.module
    }
    findings = [
        Finding(rule.check.id, severity, _in_module(found, modules))
        for rule, severity in rules
        for found in _bounded(rule.check.run(evidence, rule.options))
    ]
    waivers = [w for w in policy.waivers if w.covers(evidence.path) and not w.expired(today)]
    findings = [_waived(finding, waivers) for finding in findings]
    checked = _checked([rule.check for rule, _ in rules], findings, evidence)
    result = Result(evidence.path, policy, tuple(findings), evidence, None, today, checked)
    return replace(result, findings=_ordered([*findings, *_about_waivers([result])]))


def _ordered(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    order = {name: index for index, name in enumerate(CHECKS)}
    return tuple(
        sorted(findings, key=lambda f: (f.waiver is not None, SEVERITIES.index(f.severity), order[f.check]))
    )


def _checked(
    checks: Iterable[Check[Any]], findings: Iterable[Finding], evidence: Evidence
) -> tuple[str, ...]:
    """Ids of the checks whose evidence is complete, or that have findings without it."""
    found = {finding.check for finding in findings}
    return tuple(c.id for c in checks if c.id in found or not any(map(evidence.lacks, c.needs)))


def _bounded(found: Iterable[Found]) -> Iterator[Found]:
    more = 0
    for index, one in enumerate(found):
        if index < MOST_FINDINGS:
            yield one
        else:
            more += 1
    if more:
        yield Found(f"and {more:,} more places")


def _in_module(found: Found, modules: Mapping[str, str]) -> Found:
    """A finding at a layer that names its module, where its node does not."""
    if found.kind != "layer" or found.place is None:
        return found
    return replace(found, message=with_module(found.message, found.place, modules.get(found.place)))


def _waived(finding: Finding, waivers: Sequence[Waiver]) -> Finding:
    for waiver in waivers:
        if waiver.matches(finding.check, finding.found.place):
            return replace(finding, waiver=waiver)
    return finding


def _about_waivers(results: Sequence[Result], whole: bool = True) -> Iterator[Finding]:
    """Findings of waivers that are over, and if the run is whole of those that nothing matched.

    A waiver is judged by the models of the run that it is for; without any, nothing is known of it.
    """
    policy, today = results[0].policy, results[0].today
    for waiver in policy.waivers:
        models = [r for r in results if waiver.covers(r.path)]
        if not models:
            continue
        if waiver.expired(today):
            rule, message = (
                "waiver-expired",
                f"its last day was {waiver.expires}; its reason: {waiver.reason}",
            )
        elif whole and all(_looked(r, waiver) for r in models) and not any(_used(r, waiver) for r in models):
            rule, message = "waiver-unused", "no finding matches it"
        else:
            continue
        severity = policy.rules[rule].severity
        if severity != "off":
            within = f" in {waiver.model}" if waiver.model != "*" else ""
            place = f"waiver of {waiver.check} at {waiver.layer}{within}"
            yield Finding(rule, severity, Found(message, place, "waiver"))


def _looked(result: Result, waiver: Waiver) -> bool:
    """Whether a finding that the waiver matches would have been seen."""
    checks = [name for name in CHECKS if fnmatchcase(name, waiver.check)]
    return result.error is None and any(result.outcome(name) != "not_checked" for name in checks)


def _used(result: Result, waiver: Waiver) -> bool:
    """Whether it accepts a finding, or would if no earlier waiver did."""
    return any(f.waiver is not None and waiver.matches(f.check, f.found.place) for f in result.findings)


def _audited(path: str, evidence: Evidence | None) -> Audited:
    model = evidence.model if evidence is not None else None
    file = evidence.file if evidence is not None else None
    return Audited(
        path=path_text(path),
        sha256=model.sha256 if model else None,
        bytes=file.bytes if file else None,
        producer=model.producer if model else None,
        opset=file.opset if file else None,
        parameters=model.parameters if model else None,
        macs=model.macs if model else None,
        layers=model.canonical_layers if model else None,
    )


def _varied(evidence: Evidence | None) -> tuple[VariedRow, ...]:
    ranges = evidence.ranges if evidence is not None else None
    return tuple(VariedRow(v.how, v.inputs, v.woke) for v in ranges.varied) if ranges is not None else ()


def _reference(evidence: Evidence | None) -> ReferenceRow | None:
    found = evidence.reference if evidence is not None else None
    if found is None:
        return None
    known = [x.difference.snr_db for x in found.outputs if x.difference is not None]
    least = min((snr for snr in known if snr is not None), default=None)
    path, digest = found.first.path, found.first.sha256
    return ReferenceRow(path, digest, found.expected, found.parts_at, number(least, 6))


def _precision(evidence: Evidence | None) -> PrecisionRow | None:
    facts = evidence.precision if evidence is not None else None
    if facts is None:
        return None
    costs = facts.worst(len(facts.alone))
    return PrecisionRow(
        dtype=facts.dtype,
        snr_db=number(facts.whole, 6),
        not_finite=facts.lost,
        layers={name: number(snr, 6) for name, snr in costs},
        not_tried=facts.layers - len(facts.alone),
        flushed={name: float(f"{share:.6g}") for name, share in facts.flushed.items()},
    )


def _score(report: Report) -> ScoreRow:
    score = report.document.score
    return ScoreRow(score.intrain, score.std, score.layers)


def _check(result: Result, name: str) -> CheckRow:
    rule = result.policy.rules[name]
    options = {name: _plain(value) for name, value in asdict(rule.options).items()}
    return CheckRow(name, rule.severity, result.outcome(name), options)


def _plain(option: Any) -> Any:
    """An option as a JSON value; an infinite limit becomes null."""
    if isinstance(option, tuple):
        return list(option)
    return None if isinstance(option, float) and math.isinf(option) else option


def finding_row(finding: Finding) -> FindingRow:
    """Entry of the JSON document."""
    found, waiver = finding.found, finding.waiver
    return FindingRow(
        check=finding.check,
        severity=finding.severity,
        message=found.message,
        place=found.place,
        kind=found.kind,
        measured=number(found.measured, 6),
        threshold=number(found.threshold, 6),
        waived=Waived(waiver.reason, waiver.expires) if waiver is not None else None,
    )
