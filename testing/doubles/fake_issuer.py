"""A GitLab server that signs tokens: real RSA keys, its discovery document and its key set, on loopback."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from testing.doubles.answering import AnsweringServer

DISCOVERY, KEYS = "/.well-known/openid-configuration", "/oauth/discovery/keys"


class FakeIssuer(AnsweringServer):
    """Signs with ``key`` under ``kid``; ``rotate`` makes another. ``broken`` maps a path to what it answers."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.broken: dict[str, tuple[int, bytes]] = {}
        self.calls: list[str] = []
        self.rotate("first")
        super().__init__()

    def rotate(self, kid: str, bits: int = 2048, *, keep: bool = False) -> None:
        """Sign with a new key from now on; the old ones are withdrawn unless kept."""
        if not keep:
            self.keys.clear()
        self.keys[kid] = rsa.generate_private_key(public_exponent=65537, key_size=bits)
        self.kid = kid

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return good claims with changes; ``None`` leaves one out."""
        now = int(time.time())
        good = {
            "iss": self.url, "aud": "gitlab-code-suggestions", "sub": "1234", "iat": now, "nbf": now,
            "exp": now + 3600, "gitlab_realm": "self-managed", "scopes": ["code_suggestions"],
        }  # fmt: skip
        return {name: value for name, value in {**good, **changes}.items() if value is not None}

    def token(self, *, kid: str | None = None, key: rsa.RSAPrivateKey | None = None, **changes: Any) -> str:
        """Return a signed token; another ``kid`` or ``key`` than the current ones makes a bad one."""
        signer = key or self.keys[self.kid]
        return jwt.encode(self.claims(**changes), signer, "RS256", {"kid": kid or self.kid})

    def forged(self, algorithm: str, secret: bytes = b"") -> str:
        """Return a token by hand, as libraries refuse to make one: unsigned, or signed with ``secret``."""
        parts = [{"alg": algorithm, "typ": "JWT", "kid": self.kid}, self.claims()]
        signed = b".".join(_base64(json.dumps(part).encode()) for part in parts)
        signature = _base64(hmac.digest(secret, signed, hashlib.sha256)) if secret else b""
        return (signed + b"." + signature).decode()

    def public_pem(self) -> bytes:
        return (
            self.keys[self.kid]
            .public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        )

    def _key_set(self) -> list[dict[str, Any]]:
        to_jwk = jwt.algorithms.RSAAlgorithm.to_jwk
        return [
            {**to_jwk(key.public_key(), as_dict=True), "kid": kid, "use": "sig", "alg": "RS256"}
            for kid, key in self.keys.items()
        ]

    def answer(self, path: str, authorization: str) -> tuple[int, bytes]:
        self.calls.append(path)
        if path in self.broken:
            return self.broken[path]
        documents = {
            DISCOVERY: {"issuer": self.url, "jwks_uri": self.url + KEYS},
            KEYS: {"keys": self._key_set()},
        }
        return (200, json.dumps(documents[path]).encode()) if path in documents else (404, b"{}")


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    """Run an issuer of the test's own."""
    fake = FakeIssuer()
    yield fake
    fake.close()
