"""Signatures beside a model: made by model-signing, verified without a network, refused for one bit."""

from __future__ import annotations

import datetime
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import onnx
import pytest
from builders import model, weight
from click.testing import CliRunner

from audit.conftest import TODAY, quick
from intrain_onnx.audit.deployment.signature import signature_facts
from intrain_onnx.audit.run import Result, audit
from intrain_onnx.audit.table import CHECKS
from intrain_onnx.cli import main
from intrain_onnx.errors import SettingsError

signing = pytest.importorskip("model_signing.signing", reason="the extra `signing` is not installed")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def key(folder: Path, name: str) -> tuple[Path, Path]:
    """A private and a public key."""
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    files = folder / f"{name}.key", folder / f"{name}.pub"
    files[0].write_bytes(private.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption()))
    files[1].write_bytes(
        private.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    )
    return files


@pytest.fixture
def signed(tmp_path: Path) -> Path:
    """A folder with a key, and a model with external data, both signed."""
    proto = model("(float[N,8] x) => (float[N,4] y) { a = MatMul(x, w) y = Relu(a) }", {"w": weight(8, 4)})
    onnx.save(proto, tmp_path / "net.onnx", save_as_external_data=True, location="net.bin", size_threshold=0)
    private, _ = key(tmp_path, "own")
    for name in ("net.onnx", "net.bin"):
        config = signing.Config().use_elliptic_key_signer(private_key=private)
        config.sign(tmp_path / name, tmp_path / f"{name}.sig")
    return tmp_path


def refused(folder: Path, public: str = "own.pub") -> dict[str, str]:
    facts = signature_facts(folder / "net.onnx", ["net.bin"], key=str(folder / public), certificates=())
    return {row.file: row.refused for row in facts.files}


def audited(folder: Path) -> Result:
    return audit(folder / "net.onnx", quick(f'[checks.signature]\nkey = "{folder}/own.pub"'), today=TODAY)


def test_what_was_signed_is_verified(signed: Path):
    assert refused(signed) == {"net.onnx": "", "net.bin": ""}
    result = audited(signed)
    assert result.passed, result.findings
    rows = result.data()["deployment"]["signatures"]
    assert rows == [{"file": n, "verified": True, "reason": None} for n in ("net.onnx", "net.bin")]


def _flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)


def _forge(folder: Path) -> None:
    """A signature over the changed weights by a key that nobody trusts."""
    private, _ = key(folder, "other")
    _flip(folder / "net.bin")
    config = signing.Config().use_elliptic_key_signer(private_key=private)
    config.sign(folder / "net.bin", folder / "net.bin.sig")


def _edit_payload(folder: Path) -> None:
    bundle = json.loads((folder / "net.bin.sig").read_text())
    bundle["dsseEnvelope"]["payload"] = bundle["dsseEnvelope"]["payload"][::-1]
    (folder / "net.bin.sig").write_text(json.dumps(bundle))


CHANGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "one bit of the weights": (lambda f: _flip(f / "net.bin"), "it is not the file that was signed"),
    "no signature": (lambda f: (f / "net.bin.sig").unlink(), "there is no net.bin.sig beside it"),
    "the signature of another file": (
        lambda f: (f / "net.bin.sig").write_bytes((f / "net.onnx.sig").read_bytes()),
        "it is not the file that was signed",
    ),
    "signed by another": (_forge, "net.bin.sig is not valid"),
    "an edited payload": (_edit_payload, "net.bin.sig is not valid"),
    "no bundle": (lambda f: (f / "net.bin.sig").write_text("{}"), "net.bin.sig is not valid"),
    "no text": (lambda f: (f / "net.bin.sig").write_bytes(b"\xff\xfe"), "net.bin.sig is not valid"),
    "a folder": (
        lambda f: [(f / "net.bin.sig").unlink(), (f / "net.bin.sig").mkdir()], "net.bin.sig is not valid"
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_refused(change: str, signed: Path):
    made, reason = CHANGES[change]
    made(signed)
    found = refused(signed)
    assert found["net.onnx"] == ""
    assert found["net.bin"].startswith(reason), found
    result = audited(signed)
    assert [(f.check, f.found.place) for f in result.findings if f.severity == "error"] == [
        ("signature", "net.bin")
    ]


def test_another_key_verifies_nothing(signed: Path):
    key(signed, "other")
    assert all("is not valid" in reason for reason in refused(signed, "other.pub").values())


def certificate(folder: Path) -> None:
    """A root that signs a certificate for signing, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives import serialization as s
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    now = datetime.datetime.now(datetime.UTC)
    keys = {name: ec.generate_private_key(ec.SECP256R1()) for name in ("root", "leaf")}
    names = {n: x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, n)]) for n in keys}
    for name, authority in (("root", True), ("leaf", False)):
        usage = dict.fromkeys(
            ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign",
             "encipher_only", "decipher_only"), False
        )  # fmt: skip
        made = (
            x509.CertificateBuilder()
            .subject_name(names[name])
            .issuer_name(names["root"])
            .public_key(keys[name].public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=9))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(
                x509.KeyUsage(digital_signature=not authority, key_cert_sign=authority, **usage),
                critical=True,
            )
            .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING]), critical=False)
            .sign(keys["root"], hashes.SHA256())
        )
        (folder / f"{name}.pem").write_bytes(made.public_bytes(s.Encoding.PEM))
    (folder / "leaf.key").write_bytes(
        keys["leaf"].private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    )


def test_certificates(tmp_path: Path):
    (tmp_path / "net.onnx").write_bytes(b"any bytes")
    certificate(tmp_path)
    signing.Config().use_certificate_signer(
        private_key=tmp_path / "leaf.key",
        signing_certificate=tmp_path / "leaf.pem",
        certificate_chain=[tmp_path / "root.pem"],
    ).sign(tmp_path / "net.onnx", tmp_path / "net.onnx.sig")

    def verified(*chain: str) -> str:
        names = [str(tmp_path / name) for name in chain]
        [row] = signature_facts(tmp_path / "net.onnx", [], key="", certificates=names).files
        return row.refused

    assert verified("root.pem") == ""
    certificate(tmp_path)  # another root of the same name
    assert "is not valid" in verified("root.pem")


def test_what_cannot_be_used_as_a_key_is_a_setting(signed: Path):
    (signed / "bad.pub").write_text("no key")
    for told, reason in (("bad.pub", "cannot be used"), ("none.pub", "No such file")):
        with pytest.raises(SettingsError, match=reason):
            refused(signed, told)
    with pytest.raises(SettingsError, match="a key and certificates"):
        signature_facts(signed / "net.onnx", [], key=str(signed / "own.pub"), certificates=["x.pem"])


def test_the_command(signed: Path):
    (signed / "policy.toml").write_text(
        f'[run]\nseeds = 1\nbatch = 8\nthreads = 1\n[checks.signature]\nkey = "{signed}/own.pub"\n'
    )
    arguments = ["audit", str(signed / "net.onnx"), "--policy", str(signed / "policy.toml")]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    done = CliRunner().invoke(main, [*arguments, "-o", f"json={signed / 'own.pub'}"])
    assert done.exit_code == 2
    assert "is the key or certificate" in done.stderr
    with mock.patch("importlib.util.find_spec", return_value=None):
        done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "pip install 'intrain-onnx[signing]'" in done.stderr
    _flip(signed / "net.onnx.sig")
    assert CliRunner().invoke(main, arguments).exit_code == 1


def test_the_advice_signs(signed: Path):
    [command] = re.findall(r"`(model_signing [^`]+)`", CHECKS["signature"].remedy)
    _flip(signed / "net.bin")
    names = {"FILE": str(signed / "net.bin"), "KEY": str(signed / "own.key")}
    words = [re.sub("FILE|KEY", lambda m: names[m[0]], word) for word in command.split()[1:]]
    subprocess.run([sys.executable, "-m", "model_signing", *words], check=True, capture_output=True)
    assert refused(signed) == {"net.onnx": "", "net.bin": ""}
