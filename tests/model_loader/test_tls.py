"""Fault matrix rows L14 and L23 (README.md) with TLS: private authorities, invalid certificates, downgrades."""

import datetime
import ipaddress
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from model_loader.errors import RedirectError, SourceError
from testing.doubles.hub import Answer, Hub
from tests.model_loader.lab import Lab


def certificate(folder: Path, name: str, days: int = 2) -> tuple[Path, ssl.SSLContext]:
    """Make a self-signed authority that is its own server certificate, valid for ``days`` (negative: expired)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    kind, _, value = name.partition(":")
    alternative = x509.IPAddress(ipaddress.ip_address(value)) if kind == "IP" else x509.DNSName(value)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=9))
    builder = builder.not_valid_after(now + datetime.timedelta(days=days))
    builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    cert, secret = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    secret.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, secret)
    return cert, context


def _tls(lab: Lab, context: ssl.SSLContext) -> None:
    secure = Hub(lab.files, tls=context)
    lab.others.append(secure)
    lab.hub.url = secure.url


def test_L14_a_private_authority_is_trusted_when_named_and_refused_when_not(lab: Lab, tmp_path: Path) -> None:
    cert, context = certificate(tmp_path, "IP:127.0.0.1")
    _tls(lab, context)
    with pytest.raises(SourceError, match=r"--ca or set SSL_CERT_FILE"):
        lab.fetch()
    lab.verdict("v1")
    lab.fetch(source=lab.source(ca=cert))
    lab.others.pop().close()
    lab.verdict("v2", staging=False)


def test_L14_a_private_authority_in_ssl_cert_file_is_honoured(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, context = certificate(tmp_path, "IP:127.0.0.1")
    _tls(lab, context)
    monkeypatch.setenv("SSL_CERT_FILE", str(cert))
    lab.fetch()
    lab.others.pop().close()
    lab.verdict("v2", staging=False)


@pytest.mark.parametrize(("names", "days", "why"), [("DNS:other", 2, "match"), ("IP:127.0.0.1", -1, "clock")])
def test_L14_a_wrong_host_or_expired_certificate_is_refused(
    lab: Lab, tmp_path: Path, names: str, days: int, why: str
) -> None:
    cert, context = certificate(tmp_path, names, days)
    _tls(lab, context)
    with pytest.raises(SourceError, match=why):
        lab.fetch(source=lab.source(ca=cert))
    lab.verdict("v1")


def test_L23_a_downgrade_from_https_is_refused(lab: Lab, tmp_path: Path) -> None:
    cert, context = certificate(tmp_path, "IP:127.0.0.1")
    plain = lab.hub.url
    _tls(lab, context)
    lab.others[0].script = lambda s: Answer(status=302, headers={"Location": plain + s.path})
    with pytest.raises(RedirectError, match="unencrypted http"):
        lab.fetch(source=lab.source(ca=cert))
    assert lab.hub.seen == []
    lab.others.pop().close()
    lab.verdict("v1")
