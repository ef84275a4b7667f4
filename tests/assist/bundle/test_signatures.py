"""Signatures: both libraries, minisign's own program, and keys on disk."""

import base64
import stat
import subprocess

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from assist.bundle import ed25519, signatures, signing_keys
from assist.bundle.errors import BundleError
from testing import needs

CHECKS = {"cryptography": ed25519.is_valid, "the system's libcrypto": ed25519.by_libcrypto}
MESSAGE = b"what is signed"


@pytest.fixture(params=CHECKS)
def is_valid(request):
    if request.param != "cryptography":
        try:
            ed25519.by_libcrypto(bytes(32), bytes(64), b"")
        except BundleError as error:
            needs.skip(str(error), needs.TOOLS)
    return CHECKS[request.param]


@pytest.fixture
def pair():
    private = Ed25519PrivateKey.generate()
    return private, private.public_key().public_bytes_raw()


def test_the_second_vector_of_rfc_8032_is_valid_and_no_other_message_is(is_valid):
    public = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
    signature = bytes.fromhex(
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )
    assert is_valid(public, signature, b"\x72")
    assert not is_valid(public, signature, b"\x73")


def test_a_changed_bit_anywhere_makes_a_signature_invalid(is_valid, pair):
    private, public = pair
    signature = private.sign(MESSAGE)
    assert is_valid(public, signature, MESSAGE)
    for index in (0, 31, 32, 63):
        changed = bytearray(signature)
        changed[index] ^= 1
        assert not is_valid(public, bytes(changed), MESSAGE)
    assert not is_valid(public, signature, MESSAGE + b"\0")
    assert not is_valid(Ed25519PrivateKey.generate().public_key().public_bytes_raw(), signature, MESSAGE)


@pytest.mark.parametrize(("key", "signature"), [(b"", b""), (bytes(31), bytes(64)), (bytes(32), bytes(63))])
def test_keys_and_signatures_of_another_length_are_invalid_and_no_crash(is_valid, key, signature):
    assert not is_valid(key, signature, MESSAGE)


def test_a_signature_file_holds_for_its_message_and_its_comment_alone(pair):
    private, public = pair
    text = signing_keys.sign(private, MESSAGE, "bundle of stack local")
    key = signatures.PublicKey.of(public)
    signatures.check(text, MESSAGE, key)
    with pytest.raises(BundleError, match="altered"):
        signatures.check(text, MESSAGE + b"!", key)
    with pytest.raises(BundleError, match="altered"):
        signatures.check(text.replace(b"stack local", b"stack other"), MESSAGE, key)


def test_the_key_of_somebody_else_is_named(pair):
    private, _ = pair
    other = signatures.PublicKey.of(Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    with pytest.raises(BundleError, match=rf"signed by key [0-9A-F]{{16}}, not by {other.name}"):
        signatures.check(signing_keys.sign(private, MESSAGE, ""), MESSAGE, other)


@pytest.mark.parametrize("text", [b"", b"\xff\xfe", b"one\ntwo\nthree\nfour\n", b"a" * 4096])
def test_what_is_no_signature_file_is_refused(pair, text):
    with pytest.raises(BundleError, match="signature"):
        signatures.check(text, MESSAGE, signatures.PublicKey.of(pair[1]))


def test_minisign_accepts_what_we_sign_and_refuses_what_was_changed(tmp_path):
    needs.program("minisign")
    public = signing_keys.generate(tmp_path / "a.key")
    manifest = tmp_path / "manifest.json"
    manifest.write_bytes(MESSAGE)
    signed = signing_keys.sign(signing_keys.load(tmp_path / "a.key"), MESSAGE, "bundle of stack local")
    (tmp_path / "manifest.json.minisig").write_bytes(signed)
    command = ["minisign", "-Vm", manifest, "-P", base64.b64encode(b"Ed" + public.id + public.key).decode()]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    assert subprocess.run([*command[:3], "-p", tmp_path / "a.pub"], check=False).returncode == 0
    manifest.write_bytes(MESSAGE + b"!")
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


def test_a_private_key_is_for_its_owner_alone_and_never_overwritten(tmp_path):
    file = tmp_path / "keys" / "bundle.key"
    public = signing_keys.generate(file)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert signatures.read_public(signing_keys.public_name(file)) == public
    before = file.read_bytes()
    with pytest.raises(BundleError, match="never overwritten"):
        signing_keys.generate(file)
    assert file.read_bytes() == before


def test_an_encrypted_key_opens_with_its_passphrase_alone(tmp_path, monkeypatch):
    file = tmp_path / "bundle.key"
    monkeypatch.setenv(signing_keys.PASSPHRASE, "correct horse")
    signing_keys.generate(file)
    assert b"ENCRYPTED" in file.read_bytes()
    signing_keys.load(file)
    for wrong in ("battery staple", ""):
        monkeypatch.setenv(signing_keys.PASSPHRASE, wrong)
        with pytest.raises(BundleError, match=signing_keys.PASSPHRASE):
            signing_keys.load(file)


@pytest.mark.parametrize("content", [b"", b"untrusted comment: x\n", b"not base64!\n", b"\xff", b"QUJD\n"])
def test_what_is_no_public_key_is_refused_with_the_remedy(tmp_path, content):
    file = tmp_path / "some.pub"
    file.write_bytes(content)
    with pytest.raises(BundleError, match="assist bundle key"):
        signatures.read_public(file)
    with pytest.raises(BundleError, match="--key"):
        signatures.read_public(tmp_path / "missing.pub")
