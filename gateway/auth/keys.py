"""API keys: hashed at rest, several per user, changed without a restart.

This module needs the standard library and pydantic only, so that the ``assist keys`` command works in an
environment without the web framework. The file holds SHA-256 digests: a key has 256 random bits, so a slow
password hash would add cost to every request and no protection.
"""

import fcntl
import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

PREFIX = "ak_"
_MAX_FILE_BYTES = 16 * 1024 * 1024

Limit = Annotated[int, Field(ge=0)]


class KeyFileError(ValueError):
    """The key file can't be used; the message names the cause and the remedy."""


class Key(BaseModel):
    """One key's record. ``None`` as a limit means the gateway's default; 0 means no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")
    user: str = Field(min_length=1, max_length=128)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    created: AwareDatetime
    expires: AwareDatetime | None = None
    revoked: AwareDatetime | None = None
    rpm: Limit | None = None
    tpm: Limit | None = None
    concurrency: Limit | None = None

    def refusal(self, now: datetime) -> str | None:
        """Return why this key is not valid at ``now``, with the remedy, or ``None`` when it is."""
        if self.revoked is not None and self.revoked <= now:
            return (
                f"This API key was revoked on {self.revoked:%Y-%m-%d}. Ask your administrator for a new one."
            )
        if self.expires is not None and self.expires <= now:
            return f"This API key expired on {self.expires:%Y-%m-%d}. Ask your administrator for a new one."
        return None


class KeyFile(BaseModel):
    """The file's content: ``{"keys": [...]}``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    keys: tuple[Key, ...] = ()


def digest(secret: str) -> str:
    """Return the hexadecimal SHA-256 under which a key is stored."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def read_keys(path: Path) -> KeyFile:
    """Read and check the file; raises ``KeyFileError`` with the remedy when it is missing or damaged."""
    try:
        if path.stat().st_size > _MAX_FILE_BYTES:
            raise KeyFileError(f"{path} is larger than {_MAX_FILE_BYTES} bytes, so it is not a key file.")
        return KeyFile.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise KeyFileError(
            f"{path} does not exist. Create the first key with `assist keys add USER`."
        ) from None
    except OSError as error:
        raise KeyFileError(
            f"{path} can't be read: {error.strerror}. Give the gateway's user read access."
        ) from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise KeyFileError(
            f"{path}: {where}: {first['msg']}. Restore the file, or: assist keys repair"
        ) from None


def list_keys(path: Path) -> tuple[Key, ...]:
    """Return every record, oldest first; none where the file does not exist yet.

    Raises ``KeyFileError`` with the remedy when the file is damaged.
    """
    return read_keys(path).keys if path.exists() else ()


def create_key(
    path: Path,
    user: str,
    *,
    expires: datetime | None = None,
    rpm: int | None = None,
    tpm: int | None = None,
    concurrency: int | None = None,
) -> tuple[str, str]:
    """Add a key for ``user`` and return ``(id, secret)``; the secret is shown once and never stored.

    Raises ``KeyFileError`` with the remedy when the file is damaged.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    with _editing(path) as keys:
        key = Key(
            id=_fresh_id(user, keys),
            user=user,
            sha256=digest(secret),
            created=datetime.now(UTC),
            expires=expires,
            rpm=rpm,
            tpm=tpm,
            concurrency=concurrency,
        )
        keys[key.id] = key
    return key.id, secret


def repair(path: Path, user: str, secret: str) -> tuple[int, Path]:
    """Make a damaged file valid again; return how many records were kept, and where the old file is.

    The records that can be read stay. Where ``secret`` is not empty and not among them, it is a key of
    ``user`` again, so that the client which holds it goes on.
    """
    damaged = path.with_name(f"{path.name}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%S%f}")
    path.replace(damaged)
    with _editing(path) as keys:
        keys.update((key.id, key) for key in _readable(damaged.read_bytes()))
        kept = len(keys)
        if secret and digest(secret) not in {key.sha256 for key in keys.values()}:
            key_id = _fresh_id(user, keys)
            keys[key_id] = Key(id=key_id, user=user, sha256=digest(secret), created=datetime.now(UTC))
    return kept, damaged


def _readable(text: bytes) -> Iterator[Key]:
    """Yield the valid records of a damaged file: all that stand whole in it, as the text may be cut."""
    decoder, rest = json.JSONDecoder(), text.decode("utf-8", "replace")
    for match in re.finditer(r"\{", rest):
        with suppress(ValueError):  # pydantic's ValidationError is one, too
            yield Key.model_validate_json(rest[match.start() : decoder.raw_decode(rest, match.start())[1]])


def revoke_key(path: Path, key_id: str) -> Key:
    """Revoke the key from now on and keep its record; a second revocation keeps the first date.

    Raises ``KeyFileError`` when there is no such key.
    """
    with _editing(path) as keys:
        key = _find(keys, key_id, path)
        if key.revoked is None:
            keys[key_id] = key.model_copy(update={"revoked": datetime.now(UTC)})
        return keys[key_id]


def rotate_key(path: Path, key_id: str, overlap: timedelta = timedelta(0)) -> tuple[str, str]:
    """Replace a key with a new one of the same user and limits; the old one works for ``overlap`` longer.

    Returns the new key's ``(id, secret)``. Raises ``KeyFileError`` when there is no such key, or when it has
    expired or been revoked.
    """
    secret = PREFIX + secrets.token_urlsafe(32)
    now = datetime.now(UTC)
    with _editing(path) as keys:
        old = _find(keys, key_id, path)
        if (reason := old.refusal(now)) is not None:
            raise KeyFileError(
                f"{key_id} can't be rotated: {reason} Create a new key with `assist keys add {old.user}`."
            )
        new_id = _fresh_id(old.user, keys)
        keys[new_id] = old.model_copy(update={"id": new_id, "sha256": digest(secret), "created": now})
        end = now + overlap
        keys[key_id] = old.model_copy(update={"expires": min(end, old.expires or end)})
    return new_id, secret


def _find(keys: dict[str, Key], key_id: str, path: Path) -> Key:
    if key_id not in keys:
        raise KeyFileError(f"{path} has no key {key_id!r}; list its keys with `assist keys list`.")
    return keys[key_id]


def _fresh_id(user: str, keys: dict[str, Key]) -> str:
    stem = re.sub(r"[^A-Za-z0-9]+", "-", user).strip("-")[:32].lower() or "key"
    while (key_id := f"{stem}-{secrets.token_hex(4)}") in keys:
        pass
    return key_id


@contextmanager
def _editing(path: Path) -> Iterator[dict[str, Key]]:
    """Yield the records by id to change, and write them back on success; one writer at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.with_name(f"{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = {key.id: key for key in list_keys(path)}
        yield keys
        _write(path, KeyFile(keys=tuple(keys.values())))


def _write(path: Path, content: KeyFile) -> None:
    """Replace the file in one step, so that a reader sees the old or the new content, never a part."""
    text = json.dumps(content.model_dump(mode="json"), indent=1) + "\n"
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
