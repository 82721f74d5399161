"""Gathers the evidence of an audit: loads the model once, analyses it statically and runs it.

No torch at import: modules that run the model are imported when needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from intrain_onnx.audit import static
from intrain_onnx.audit.checks.numerics import PrecisionCost
from intrain_onnx.audit.deployment import gather as deployment
from intrain_onnx.audit.evidence import Evidence, Failure
from intrain_onnx.audit.facts import RangeFacts
from intrain_onnx.audit.policy import Policy, RunSettings
from intrain_onnx.audit.suspects import suspects
from intrain_onnx.audit.weights import weight_facts
from intrain_onnx.config import ScoreConfig
from intrain_onnx.errors import IntrainError, LimitError, SettingsError, UnsupportedError
from intrain_onnx.loading.load import LoadedModel, load
from intrain_onnx.progress import Progress, silent
from intrain_onnx.report import assemble
from intrain_onnx.report.document import Report
from intrain_onnx.rewrites.network import Network

if TYPE_CHECKING:
    from intrain_onnx.audit.activation_ranges import Watch

_T = TypeVar("_T")

_TELLING = (LimitError, UnsupportedError)
"""Errors whose hint is an option of the audit too, or says what to do with the file."""

PROTOCOLS = ("checkpoint", "architecture")
"""Protocols of the two reports: the network as it is, and its architecture at initialisation."""


_NOT_OF_A_SCORE = ("limits", "providers")
"""Run settings that no score depends on."""


def gather(
    path: Path,
    policy: Policy,
    baseline: Report | None = None,
    progress: Progress | None = None,
    reference: Path | None = None,
) -> Evidence:
    """Load and measure a model.

    With a reference it is compared with that file of the same network (see ``diff``).

    Raises:
        IntrainError: the file cannot be loaded. Later failures are recorded in the evidence.
        SettingsError: an input shape or a given input does not fit the model.
    """
    step = progress or silent
    step("load", 0.0)
    loaded = load(path)
    configs = {name: config_for(name, policy.run, baseline) for name in PROTOCOLS}
    failures: dict[str, Failure] = {}
    network = _network(loaded, configs["checkpoint"], failures)
    configs = {name: replace(config, inputs=network.given) for name, config in configs.items()}
    step("weights", 0.05)
    weights = weight_facts(network.model, network.layers)
    file = static.file_facts(network)
    evidence = Evidence(
        path=str(path),
        deploy=policy.deploy,
        model=assemble.describe(network),
        file=file,
        weights=weights,
        failures=failures,
        baseline=baseline,
        deployment=deployment.of_file(network, configs["checkpoint"].batch),
    )
    if not failures:
        evidence = _measured(network, configs, evidence, policy, step)
    deployed = deployment.in_onnxruntime(network, evidence.deployment, configs["checkpoint"], policy)
    evidence = replace(evidence, deployment=deployed)
    return _referred(network, configs["checkpoint"], evidence, reference, policy, step)


def config_for(protocol: str, run: RunSettings, baseline: Report | None) -> ScoreConfig:
    """Settings of one protocol; the baseline's seeds and sizes if it has that protocol, to be comparable."""
    chosen = {f.name: getattr(run, f.name) for f in fields(run) if f.name not in _NOT_OF_A_SCORE}
    chosen["batch_axes"] = {n: None if axis == "none" else axis for n, axis in run.batch_axes.items()}
    chosen["max_memory"] = run.memory()
    chosen["parity"] = protocol == "checkpoint" and run.parity
    told = baseline.document.settings if baseline is not None else None
    if told is not None and told.protocol == protocol:
        chosen |= {name: getattr(told, name) for name in ("seed", "seeds", "batch", "size", "sequence")}
        chosen["input_shapes"] = {**told.input_shapes, **run.input_shapes}
    return ScoreConfig.for_protocol(protocol, **chosen)


def _network(loaded: LoadedModel, config: ScoreConfig, failures: dict[str, Failure]) -> Network:
    """The normalised network; from the graph alone, with all runs marked failed, if parts cannot be run."""
    from intrain_onnx.pipeline import network_of  # noqa: PLC0415 - torch waits until a model is run

    failed: dict[str, Failure] = {}
    network = _attempt("network", failed, partial(network_of, loaded, config, keyed=True))
    if network is None:
        failures.update(dict.fromkeys((*PROTOCOLS, "ranges"), failed["network"]))
        return Network.of(loaded, config, keyed=True)
    return network


def _attempt(name: str, failures: dict[str, Failure], measure: Callable[[], _T]) -> _T | None:
    """Call ``measure`` unless its prerequisite failed; record an error as a failure and return None."""
    if name in failures:
        return None
    try:
        return measure()
    except SettingsError:
        raise
    except IntrainError as error:
        hint = f". {error.hint}" if isinstance(error, _TELLING) and error.hint else ""
        failures[name] = Failure(type(error).__name__, error.message + hint, error.node, error.op)
        return None


def _measured(
    network: Network,
    configs: Mapping[str, ScoreConfig],
    evidence: Evidence,
    policy: Policy,
    step: Progress,
) -> Evidence:
    """The evidence with both reports, and with the ranges, which are read in the checkpoint's first run.

    The checkpoint comes last, so that no other network is held while its inputs are varied.
    """
    from intrain_onnx.audit.activation_ranges import Watch  # noqa: PLC0415 - torch waits until a model is run
    from intrain_onnx.audit.vary import vary  # noqa: PLC0415 - torch waits until a model is run

    watch, reports, failures = Watch(), dict[str, Report](), dict[str, Failure]()
    config = configs["checkpoint"]
    for index, name in enumerate(reversed(PROTOCOLS)):
        watching = watch if name == "checkpoint" else None
        report = _attempt(name, failures, partial(_score, network, configs[name], step, index, watching))
        if report is not None:
            reports[name] = report
    step("ranges", 0.9)
    ranges: RangeFacts | None = None
    if "checkpoint" in reports:
        ranges = watch.facts()
    elif watch.runnable is None:
        failures["ranges"] = failures["checkpoint"]
    else:
        ranges = _attempt("ranges", failures, partial(watch.run_again, config))
    evidence = replace(
        evidence,
        reports={name: reports[name] for name in PROTOCOLS if name in reports},
        ranges=ranges,
        failures={name: failures[name] for name in (*PROTOCOLS, "ranges") if name in failures},
    )
    evidence = _in_precision(watch, config, evidence, policy, step)
    found = suspects(evidence)
    if ranges is None or not found:
        return evidence
    return replace(evidence, ranges=vary(ranges, watch, config, found))


def _in_precision(
    watch: Watch, config: ScoreConfig, evidence: Evidence, policy: Policy, step: Progress
) -> Evidence:
    """The evidence with what the type costs that the model will run in."""
    rule = policy.rules["precision-cost"]
    if policy.deploy == "float32" or rule.severity == "off" or watch.runnable is None:
        return evidence
    assert isinstance(rule.options, PrecisionCost)
    from intrain_onnx.audit.deployment.precision import precision_facts  # noqa: PLC0415 - torch waits until a model is run

    step("precision", 0.92)
    failures: dict[str, Failure] = {}
    measure = partial(
        precision_facts, watch.runnable, config, policy.deploy, per_channel=rule.options.per_channel
    )
    facts = _attempt("precision", failures, measure)
    return replace(evidence, precision=facts, failures={**evidence.failures, **failures})


def _referred(
    network: Network,
    config: ScoreConfig,
    evidence: Evidence,
    reference: Path | None,
    policy: Policy,
    step: Progress,
) -> Evidence:
    """The evidence with the comparison with another file, if one is given."""
    if reference is None:
        return evidence
    from intrain_onnx.diff.run import DiffSettings, against  # noqa: PLC0415 - torch waits until a model is run

    step("reference", 0.95)
    settings = DiffSettings(config, policy.expect, scored=False, limits=policy.run.allowed())
    failures: dict[str, Failure] = {}
    try:
        found = _attempt("reference", failures, partial(against, reference, network, settings))
    except SettingsError as error:  # it does not fit the model
        found = None
        failures["reference"] = Failure(type(error).__name__, f"{error.message}. {error.hint}", None, None)
    return replace(evidence, reference=found, failures={**evidence.failures, **failures})


def _score(network: Network, config: ScoreConfig, step: Progress, index: int, watch: Watch | None) -> Report:
    from intrain_onnx.pipeline import score  # noqa: PLC0415 - torch waits until a model is run

    def scaled(name: str, share: float) -> None:
        step(f"{config.protocol}: {name}", 0.1 + 0.4 * index + 0.4 * share)

    return score(network, config, progress=scaled, watch=watch)
