"""The gateway's view of the key file: looked up by digest, read again when the file changes."""

import hmac
import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from gateway.auth.keys import Key, KeyFileError, digest, read_keys

_log = logging.getLogger(__name__)


class KeyStore:
    """Keys by digest. A change of the file applies within ``poll_s`` seconds; a damaged file changes nothing.

    ``clock`` returns monotonic seconds, ``now`` the wall clock for expiry dates. Raises ``KeyFileError`` when
    the file cannot be used at the start.
    """

    def __init__(
        self,
        path: Path,
        poll_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._path, self._poll_s, self._clock, self._now = path, poll_s, clock, now
        self._version = _version(path)
        self._keys = _by_digest(path)
        self._checked_at = clock()

    def is_readable(self) -> bool:
        """Return whether the file could be used now, from any thread; the keys in use stay as they are."""
        try:
            read_keys(self._path)
        except KeyFileError:
            return False
        return True

    def find(self, secret: str) -> tuple[Key | None, str | None]:
        """Return the secret's record and, when it is not valid, the reason; ``(None, None)`` when unknown.

        The digest is compared in constant time; the dictionary's timing leaks nothing of use, because a
        caller can't choose the digest of a guess.
        """
        self._reload_if_changed()
        presented = digest(secret)
        key = self._keys.get(presented)
        if key is None or not hmac.compare_digest(key.sha256, presented):
            return None, None
        return key, key.refusal(self._now())

    def _reload_if_changed(self) -> None:
        if self._clock() - self._checked_at < self._poll_s:
            return
        self._checked_at = self._clock()
        version = _version(self._path)
        if version == self._version:
            return
        try:
            self._keys = _by_digest(self._path)
        except KeyFileError as error:
            _log.error("The key file changed but can't be used; the keys read before stay valid: %s", error)
        else:
            _log.info("The key file changed: %d keys", len(self._keys))
        self._version = version


def _by_digest(path: Path) -> dict[str, Key]:
    return {key.sha256: key for key in read_keys(path).keys}


def _version(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size
