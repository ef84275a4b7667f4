"""Signatures and public keys in minisign's format (jedisct1.github.io/minisign, "Signature format").

An auditor can check a manifest with an independent tool: ``minisign -Vm manifest.json -p KEY.pub``.
"""

import base64
import hashlib
from dataclasses import dataclass
from pathlib import Path

from assist.bundle import ed25519
from assist.bundle.errors import BundleError

_KEY, _PREHASHED = b"Ed", b"ED"
_UNTRUSTED, _TRUSTED = "untrusted comment: ", "trusted comment: "


@dataclass(frozen=True)
class PublicKey:
    """A public key of 32 bytes. We derive the id from the key, so signing needs only the private key."""

    key: bytes
    id: bytes

    @classmethod
    def of(cls, key: bytes) -> "PublicKey":
        """Return the key with its id."""
        return cls(key, hashlib.blake2b(key, digest_size=8).digest())

    @property
    def name(self) -> str:
        """The id as people compare it."""
        return self.id[::-1].hex().upper()

    def text(self) -> str:
        """Return the content of a public key file."""
        data = base64.b64encode(_KEY + self.id + self.key).decode()
        return f"{_UNTRUSTED}minisign public key {self.name}\n{data}\n"


def read_public(file: Path) -> PublicKey:
    """Read a public key file. Raises BundleError with the remedy."""
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
        data = base64.b64decode(lines[1] if lines[0].startswith(_UNTRUSTED) else lines[0], validate=True)
    except OSError as error:
        raise BundleError(
            f"the public key {file} can't be read ({error.strerror}). Name the file with --key; the"
            " bundle's builder has it, beside the private key."
        ) from error
    except (ValueError, IndexError) as error:
        raise BundleError(f"{file} is not a public key ({error}); make a key: assist bundle key") from error
    if len(data) != 42 or data[:2] != _KEY:
        raise BundleError(
            f"{file} is not an Ed25519 public key; make a key: assist bundle key, or minisign -G"
        )
    return PublicKey(data[10:], data[2:10])


def digest(message: bytes) -> bytes:
    """Return the digest that is signed in place of ``message``."""
    return hashlib.blake2b(message).digest()


def write(key: PublicKey, signature: bytes, comment: str, over_comment: bytes) -> bytes:
    """Return the content of a signature file; ``over_comment`` signs signature and ``comment`` together."""
    lines = [
        f"{_UNTRUSTED}signature by key {key.name}",
        base64.b64encode(_PREHASHED + key.id + signature).decode(),
        f"{_TRUSTED}{comment}",
        base64.b64encode(over_comment).decode(),
    ]
    return ("\n".join(lines) + "\n").encode()


def check(text: bytes, message: bytes, key: PublicKey) -> None:
    """Raise BundleError unless ``text`` is a signature of ``message`` by ``key``."""
    try:
        first, data, trusted, over_comment = text.decode().splitlines()
        raw, second = (base64.b64decode(line, validate=True) for line in (data, over_comment))
    except ValueError as error:
        raise BundleError("the bundle's signature can't be read; copy the bundle again.") from error
    marked = first.startswith(_UNTRUSTED) and trusted.startswith(_TRUSTED) and len(raw) == 74
    if not marked or raw[:2] != _PREHASHED:
        raise BundleError(
            "the bundle's signature has another format; build the bundle with `assist bundle build`."
        )
    signer, signature = raw[2:10], raw[10:]
    if signer != key.id:
        raise BundleError(
            f"the bundle is signed by key {signer[::-1].hex().upper()}, not by {key.name}. Use that key's"
            " .pub file if you trust the key; otherwise ask the bundle's builder."
        )
    comment = trusted.removeprefix(_TRUSTED).encode()
    signed = ed25519.is_valid(key.key, signature, digest(message))
    if not (signed and ed25519.is_valid(key.key, second, signature + comment)):
        raise BundleError(
            "the signature is wrong: the bundle was altered after signing. Copy the bundle again."
        )
