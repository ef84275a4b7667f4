"""The private key that signs bundles: made once, kept on the machine that builds, never part of a bundle."""

import os
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assist.bundle import signatures
from assist.bundle.errors import BundleError
from assist.bundle.signatures import PublicKey

PASSPHRASE = "ASSIST_BUNDLE_PASSPHRASE"  # noqa: S105  -- the variable's name


def generate(file: Path) -> PublicKey:
    """Write a new private key to ``file`` (mode 0600) and its public key beside it; an existing key is kept.

    With ASSIST_BUNDLE_PASSPHRASE set, the private key is encrypted. Raises BundleError.
    """
    private, public_file = Ed25519PrivateKey.generate(), public_name(file)
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if phrase := os.environ.get(PASSPHRASE):
        encryption = serialization.BestAvailableEncryption(phrase.encode())
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
            stream.write(pem)
    except FileExistsError as error:
        raise BundleError(
            f"{file} exists, and a key is never overwritten. Name another file, or move the key away."
        ) from error
    except OSError as error:
        raise BundleError(f"{file} can't be written: {error.strerror}. Name another file.") from error
    public = _public(private)
    public_file.write_text(public.text(), encoding="utf-8")
    return public


def public_name(file: Path) -> Path:
    """Return the file of the public key that belongs to a private key's file."""
    return file.with_suffix(".pub")


def load(file: Path) -> Ed25519PrivateKey:
    """Read a private key. Raises BundleError with the remedy."""
    phrase = os.environ.get(PASSPHRASE)
    try:
        key = serialization.load_pem_private_key(file.read_bytes(), phrase.encode() if phrase else None)
    except OSError as error:
        raise BundleError(
            f"the key {file} can't be read ({error.strerror}). Make a key: assist bundle key"
        ) from error
    except (ValueError, TypeError) as error:
        raise BundleError(f"{file} can't be opened: {error}. An encrypted key needs {PASSPHRASE}.") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError(f"{file} is not an Ed25519 key. Make a key: assist bundle key")
    return key


def sign(private: Ed25519PrivateKey, message: bytes, comment: str) -> bytes:
    """Return the signature file's content for ``message``."""
    signature = private.sign(signatures.digest(message))
    over_comment = private.sign(signature + comment.encode())
    return signatures.write(_public(private), signature, comment, over_comment)


def _public(private: Ed25519PrivateKey) -> PublicKey:
    raw = private.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return PublicKey.of(raw)
