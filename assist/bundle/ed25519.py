"""Ed25519 signatures (RFC 8032), checked by OpenSSL: that of ``cryptography``, else the system's.

A bundle is verified before anything is installed, so an air-gapped machine does not have ``cryptography``
yet; but Debian's python3 depends on libcrypto (manual pages EVP_PKEY_new, EVP_DigestVerify).
"""

import ctypes

from assist.bundle.errors import BundleError

_ED25519 = 1087  # EVP_PKEY_ED25519 of openssl/obj_mac.h
_LIBRARIES = ("libcrypto.so.3", "libcrypto.so.1.1")


def is_valid(public: bytes, signature: bytes, message: bytes) -> bool:
    """Return whether ``signature`` (64 bytes) is ``message``'s by the holder of ``public`` (32 bytes).

    Raises BundleError where no library can check signatures.
    """
    try:
        return _by_cryptography(public, signature, message)
    except ImportError:
        return by_libcrypto(public, signature, message)


def _by_cryptography(public: bytes, signature: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def by_libcrypto(public: bytes, signature: bytes, message: bytes) -> bool:
    """Return the same, from the system's OpenSSL. Raises BundleError where there is none."""
    library = _libcrypto()
    key = library.EVP_PKEY_new_raw_public_key(_ED25519, None, public, ctypes.c_size_t(len(public)))
    context = library.EVP_MD_CTX_new()
    try:
        if not key or not context or len(public) != 32 or len(signature) != 64:
            return False
        if library.EVP_DigestVerifyInit(context, None, None, None, ctypes.c_void_p(key)) != 1:
            return False
        sizes = (ctypes.c_size_t(len(signature)), ctypes.c_size_t(len(message)))
        return bool(library.EVP_DigestVerify(context, signature, sizes[0], message, sizes[1]) == 1)
    finally:
        library.EVP_MD_CTX_free(context)
        library.EVP_PKEY_free(ctypes.c_void_p(key))


def _libcrypto() -> ctypes.CDLL:
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.EVP_PKEY_new_raw_public_key.restype = ctypes.c_void_p
        library.EVP_MD_CTX_new.restype = ctypes.c_void_p
        library.EVP_MD_CTX_free.argtypes = [ctypes.c_void_p]
        library.EVP_DigestVerifyInit.argtypes = [ctypes.c_void_p] * 5
        library.EVP_DigestVerify.argtypes = [
            ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_char_p, ctypes.c_size_t,
        ]  # fmt: skip
        return library
    raise BundleError(
        "checking the signature needs OpenSSL, which was not found. Remedy: sudo apt-get install libssl3"
    )
