"""API keys: hashed at rest, several per user, changed without a restart."""

import json
import multiprocessing
import stat
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from gateway.auth import keys
from gateway.auth.key_store import KeyStore


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_new_key_is_long_random_and_stored_as_its_digest_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key_id, secret = keys.create_key(path, "ann", rpm=60)
    assert secret.startswith("ak_")
    assert len(secret) == 46
    assert secret not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert KeyStore(path).find(secret)[0] == keys.list_keys(path)[0]
    assert keys.list_keys(path)[0].id == key_id


def test_a_user_may_hold_several_keys_and_each_is_revoked_alone(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    first, first_secret = keys.create_key(path, "ann")
    _, second_secret = keys.create_key(path, "ann")
    keys.revoke_key(path, first)
    store = KeyStore(path)
    assert "revoked" in (store.find(first_secret)[1] or "")
    assert store.find(second_secret)[1] is None


def test_an_unknown_key_opens_nothing(tmp_path: Path) -> None:
    keys.create_key(tmp_path / "keys.json", "ann")
    assert KeyStore(tmp_path / "keys.json").find("ak_" + "x" * 43) == (None, None)


def test_a_lone_surrogate_in_a_key_is_unknown_and_no_crash(tmp_path: Path) -> None:
    keys.create_key(tmp_path / "keys.json", "ann")
    assert KeyStore(tmp_path / "keys.json").find("ak_\ud800") == (None, None)


def test_an_expired_key_says_when_it_expired(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    _, secret = keys.create_key(path, "ann", expires=datetime(2020, 1, 2, tzinfo=UTC))
    assert "expired on 2020-01-02" in (KeyStore(path).find(secret)[1] or "")


def test_a_key_expires_while_the_gateway_runs(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    now = datetime(2026, 1, 1, tzinfo=UTC)
    _, secret = keys.create_key(path, "ann", expires=now + timedelta(hours=1))
    times = [now]
    store = KeyStore(path, now=lambda: times[0])
    assert store.find(secret)[1] is None
    times[0] = now + timedelta(hours=1)
    assert store.find(secret)[1] is not None


def test_a_change_of_the_file_counts_within_the_poll_interval(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    key_id, secret = keys.create_key(path, "ann")
    store = KeyStore(path, poll_s=1.0, clock=clock)
    keys.revoke_key(path, key_id)
    _, late = keys.create_key(path, "bob")
    assert store.find(secret)[1] is None
    clock.now += 1.0
    assert store.find(secret)[1] is not None
    assert store.find(late)[0] is not None


@pytest.mark.parametrize("damage", [b"", b"{", b'{"keys": [{"id": 1}]}', b"\xff\xfe", b"[]"])
def test_a_damaged_file_keeps_the_keys_read_before(tmp_path: Path, damage: bytes) -> None:
    path, clock = tmp_path / "keys.json", Clock()
    _, secret = keys.create_key(path, "ann")
    store = KeyStore(path, clock=clock)
    path.write_bytes(damage)
    clock.now += 2
    assert store.find(secret)[1] is None
    assert store.find(secret)[0] is not None


@pytest.mark.parametrize(("content", "part"), [(None, "does not exist"), (b"{", "Restore the file")])
def test_a_gateway_without_a_usable_file_does_not_start(
    tmp_path: Path, content: bytes | None, part: str
) -> None:
    path = tmp_path / "keys.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(keys.KeyFileError, match=part):
        KeyStore(path)


def test_the_message_about_a_damaged_file_does_not_repeat_its_content(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    path.write_text(json.dumps({"keys": [{"id": "a", "sha256": "secret-canary"}]}))
    with pytest.raises(keys.KeyFileError) as caught:
        keys.read_keys(path)
    assert "secret-canary" not in str(caught.value)


def test_rotation_keeps_user_and_limits_and_lets_the_old_key_work_for_the_overlap(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    old, old_secret = keys.create_key(path, "ann", rpm=7, concurrency=2)
    new, new_secret = keys.rotate_key(path, old, timedelta(hours=1))
    found, _ = KeyStore(path).find(new_secret)
    assert found is not None
    assert (found.id, found.user, found.rpm, found.concurrency) == (new, "ann", 7, 2)
    assert KeyStore(path).find(old_secret)[1] is None
    later = KeyStore(path, now=lambda: datetime.now(UTC) + timedelta(hours=1, seconds=1))
    assert later.find(old_secret)[1] is not None


def test_a_revoked_key_is_not_rotated_back_to_life(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    key_id, _ = keys.create_key(path, "ann")
    keys.revoke_key(path, key_id)
    with pytest.raises(keys.KeyFileError, match="assist keys add ann"):
        keys.rotate_key(path, key_id)


def test_an_unknown_id_is_refused_and_the_file_stays_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    keys.create_key(path, "ann")
    before = path.read_bytes()
    with pytest.raises(keys.KeyFileError, match="assist keys list"):
        keys.revoke_key(path, "nobody")
    assert path.read_bytes() == before


def _add(path: Path, user: str) -> None:
    for _ in range(10):
        keys.create_key(path, user)


def test_writers_at_the_same_time_lose_no_key(tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    workers = [
        multiprocessing.get_context("spawn").Process(target=_add, args=(path, f"user{number}"))
        for number in range(3)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(keys.list_keys(path)) == 30
    assert sorted(file.name for file in tmp_path.iterdir()) == ["keys.json", "keys.json.lock"]


def test_the_module_needs_no_web_framework(tmp_path: Path) -> None:
    program = (
        "import sys\nimport gateway.auth.keys\n"
        "heavy = {'fastapi', 'starlette', 'redis', 'httpx', 'structlog', 'prometheus_client', 'pydantic_settings'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
