"""The audit as a CycloneDX bill of materials of models (ML-BOM), written by cyclonedx-python-lib.

One component for each model, one for each file of external data inside of it and for each data set beside it.
What CycloneDX has no field for, and what was found, are properties in the namespace ``intrain-onnx``.
"""

from __future__ import annotations

import datetime
import importlib.util
import json
import os
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from intrain_onnx.audit.deployment.provenance import provenance
from intrain_onnx.audit.run import Audits, Finding, Result
from intrain_onnx.errors import SettingsError, printable
from intrain_onnx.versions import version

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component

_SPACE = "intrain-onnx"

Pairs = Iterator[tuple[str, str]]


def require() -> None:
    """Look whether the library is installed, before anything is measured.

    Raises:
        SettingsError: it is not.
    """
    if importlib.util.find_spec("cyclonedx") is None:
        raise SettingsError(
            "the format cyclonedx needs cyclonedx-python-lib", hint="pip install 'intrain-onnx[bom]'"
        )


def write(audits: Audits) -> str:
    """The document as JSON text, CycloneDX 1.6; the same for the same findings.

    It has no time unless the environment says one (``SOURCE_DATE_EPOCH``), and its serial number follows from
    its contents.

    Raises:
        SettingsError: the library is not installed, or the time is no number.
    """
    require()
    from cyclonedx.output.json import JsonV1Dot6  # noqa: PLC0415 - an extra

    bom = _bom(audits.results)
    data = json.loads(JsonV1Dot6(bom).output_as_string())
    data.pop("serialNumber", None)
    data["metadata"].pop("timestamp", None)
    text = json.dumps(data, sort_keys=True)
    data["serialNumber"] = f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, text)}"
    time = _time()
    if time is not None:
        data["metadata"]["timestamp"] = time
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _time() -> str | None:
    told = os.environ.get("SOURCE_DATE_EPOCH")
    if not told:
        return None
    try:
        return datetime.datetime.fromtimestamp(int(told), datetime.UTC).isoformat()
    except (ValueError, OverflowError, OSError):
        raise SettingsError(
            f"SOURCE_DATE_EPOCH is {printable(told, 100)}", hint="Set it to seconds since 1970, or unset it"
        ) from None


def _bom(results: Sequence[Result]) -> Bom:
    from cyclonedx.model.bom import Bom, BomMetaData  # noqa: PLC0415 - an extra
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415 - an extra
    from cyclonedx.model.tool import ToolRepository  # noqa: PLC0415 - an extra

    tool = Component(name=_SPACE, version=version(_SPACE), type=ComponentType.APPLICATION)
    bom = Bom(metadata=BomMetaData(tools=ToolRepository(components=[tool])))
    data: dict[str, Component] = {}
    seen: Counter[str] = Counter()
    for result in results:
        model = _model(result, seen)
        bom.components.add(model)
        names = provenance(result.evidence.deployment.metadata).datasets if result.evidence else ()
        for name in names:
            text = printable(name, 500)
            made = Component(name=text, type=ComponentType.DATA, bom_ref=f"data:{text}")
            data.setdefault(text, made)
        bom.register_dependency(model, [data[printable(name, 500)] for name in names])
    bom.components.update(data.values())
    return bom


def _model(result: Result, seen: Counter[str]) -> Component:
    from cyclonedx.contrib.license.factories import LicenseFactory  # noqa: PLC0415 - an extra
    from cyclonedx.model import HashAlgorithm, HashType, Property  # noqa: PLC0415 - an extra
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415 - an extra
    from cyclonedx.model.contact import OrganizationalContact  # noqa: PLC0415 - an extra

    evidence = result.evidence
    told = provenance(evidence.deployment.metadata if evidence is not None else {})

    def hashed(digest: str) -> list[HashType]:
        return [HashType(alg=HashAlgorithm.SHA_256, content=digest)]

    external = evidence.model.external_sha256 if evidence is not None else {}
    reference = _reference(result, seen)
    files = [
        Component(
            name=printable(name, 500),
            type=ComponentType.FILE,
            hashes=hashed(digest),
            bom_ref=f"{reference}:{printable(name, 500)}",
        )
        for name, digest in external.items()
    ]
    return Component(
        name=printable(PurePath(result.path).name or result.path, 500),
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=reference,
        version=printable(told.version, 100) or None,
        description=printable(told.description, 2000) or None,
        authors=[OrganizationalContact(name=printable(name, 500)) for name in told.author],
        licenses=[LicenseFactory().make_from_string(printable(told.licence, 500))] if told.licence else [],
        hashes=hashed(evidence.model.sha256) if evidence is not None else [],
        components=files,
        properties=[Property(name=f"{_SPACE}:{n}", value=value) for n, value in _properties(result)],
    )


def _reference(result: Result, seen: Counter[str]) -> str:
    """A name within the document: by the digest, numbered where a file comes again."""
    evidence = result.evidence
    name = "model:" + (evidence.model.sha256 if evidence is not None else printable(result.path, 4096))
    seen[name] += 1
    return name if seen[name] == 1 else f"{name}:{seen[name]}"


def _properties(result: Result) -> Pairs:
    yield "path", printable(result.path, 4096)
    yield "passed", str(result.passed).lower()
    yield "policy", printable(result.policy.source, 500)
    if result.error is not None:
        yield "error", printable(result.error, 2000)
    if result.evidence is not None:
        yield from _facts(result)
    for finding in result.findings:
        yield f"finding:{finding.check}", _told(finding)


def _facts(result: Result) -> Pairs:
    assert result.evidence is not None
    model, deployment = result.evidence.model, result.evidence.deployment
    yield "producer", printable(model.producer, 500)
    yield "ir-version", str(model.ir_version)
    yield from ((f"opset:{printable(n, 200)}", str(v)) for n, v in model.opset_imports.items())
    yield "parameters", str(model.parameters)
    if model.macs is not None:
        yield "macs", str(model.macs)
    yield from ((f"score:{n}", _number(r.document.score.intrain)) for n, r in result.evidence.reports.items())
    if deployment.memory is not None:
        yield "memory:weights", str(deployment.memory.weights)
        yield "memory:activations", str(deployment.memory.sample.bytes)


def _told(finding: Finding) -> str:
    found, waiver = finding.found, finding.waiver
    place = f" at {printable(found.place, 500)}" if found.place else ""
    waived = f" (waived: {printable(waiver.reason, 1000)})" if waiver is not None else ""
    return f"{finding.severity}{place}: {printable(found.message, 2000)}{waived}"


def _number(value: Any) -> str:
    return f"{value:.6g}"
