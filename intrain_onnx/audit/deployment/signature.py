"""Verifies the signatures beside a model and its external data: OpenSSF model signing, without a network.

A signature is a Sigstore bundle over one file, ``<file>.sig``, made with a private key or with a certificate.
The package ``model-signing`` is imported when it is needed.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from intrain_onnx import untrusted
from intrain_onnx.audit.deployment.facts import SignatureFacts, Verified
from intrain_onnx.errors import SettingsError, printable

SUFFIX = ".sig"
_MOST_BYTES = 2**24
_PACKAGES = ("model_signing", "OpenSSL")
"""``model-signing`` needs the second without saying so."""


def require() -> None:
    """Look whether the packages are installed.

    Raises:
        SettingsError: one is not.
    """
    if any(importlib.util.find_spec(name) is None for name in _PACKAGES):
        raise SettingsError(
            "the check signature needs model-signing", hint="pip install 'intrain-onnx[signing]'"
        )


def signature_facts(
    model: Path, external: Sequence[str], *, key: str, certificates: Sequence[str]
) -> SignatureFacts:
    """Verify a model and each file of its external data.

    Args:
        model: the file.
        external: locations of its external data, relative to its folder.
        key: file of a public key in PEM; empty to verify by certificates.
        certificates: files of the chain that is trusted, in PEM.

    Raises:
        SettingsError: the key or a certificate cannot be read, both are given, or a package is missing.
    """
    require()
    if key and certificates:
        raise SettingsError(
            "the check signature has a key and certificates", hint="Name one of them: key, or certificates"
        )
    verifier = _verifier(key, certificates)
    names = (model.name, *external)
    return SignatureFacts(
        by=(key,) if key else tuple(certificates),
        files=tuple(Verified(name, _refused(verifier, model.parent / name)) for name in names),
    )


def _verifier(key: str, certificates: Sequence[str]) -> Any:
    from model_signing import verifying  # noqa: PLC0415 - an extra

    for name in (key,) if key else certificates:
        try:
            untrusted.text_of(Path(name), untrusted.SETTINGS_BYTES)
        except (OSError, untrusted.UnreadableError) as error:
            reason = getattr(error, "strerror", None) or error
            raise SettingsError(f"cannot read {name} of the check signature: {reason}") from error
    try:
        if key:
            return verifying.Config().use_elliptic_key_verifier(public_key=key)
        return verifying.Config().use_certificate_verifier(certificate_chain=list(certificates))
    except Exception as error:  # the libraries below raise their own
        told = key or ", ".join(certificates)
        raise SettingsError(
            f"{told} of the check signature cannot be used: {printable(error, 300)}",
            hint="Name a public key of an elliptic curve, or certificates, in PEM",
        ) from error


def _refused(verifier: Any, file: Path) -> str:
    """Why a file is not verified; empty if it is."""
    signature = file.with_name(file.name + SUFFIX)
    if not signature.exists():
        return f"there is no {signature.name} beside it"
    try:
        untrusted.text_of(signature, _MOST_BYTES)
        verifier.verify(file, signature)
    except Exception as error:  # the libraries below raise their own
        if str(error).startswith("Signature mismatch"):
            return "it is not the file that was signed"
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        return f"{signature.name} is not valid: {printable(said, 300)}"
    return ""
