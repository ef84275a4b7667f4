"""What a client is handed: an address and a key that works, and neither twice."""

import json
import stat
from pathlib import Path

import pytest

from assist.client_env import client_env, ensure
from assist.paths import SOURCE, Paths
from gateway.auth.keys import list_keys, revoke_key

URL = "http://127.0.0.1:5000"


@pytest.fixture
def layout(tmp_path: Path) -> Paths:
    return Paths(SOURCE, tmp_path)


def test_the_first_run_makes_a_key_that_only_its_owner_can_read(layout):
    assert ensure(layout, URL)
    assert client_env(layout)["ASSIST_URL"] == URL
    assert stat.S_IMODE(layout.client_env.stat().st_mode) == 0o600
    assert stat.S_IMODE(layout.keys.stat().st_mode) == 0o600
    assert client_env(layout)["ASSIST_KEY"] not in layout.keys.read_text()


def test_a_second_run_changes_nothing(layout):
    ensure(layout, URL)
    before = layout.client_env.read_bytes(), layout.keys.read_bytes()
    assert not ensure(layout, URL)
    assert (layout.client_env.read_bytes(), layout.keys.read_bytes()) == before


def test_another_address_keeps_the_key(layout):
    ensure(layout, URL)
    key = client_env(layout)["ASSIST_KEY"]
    assert ensure(layout, "http://127.0.0.1:5100")
    assert client_env(layout) == {"ASSIST_URL": "http://127.0.0.1:5100", "ASSIST_KEY": key}


def test_a_revoked_key_is_replaced(layout):
    ensure(layout, URL)
    old = client_env(layout)["ASSIST_KEY"]
    revoke_key(layout.keys, list_keys(layout.keys)[0].id)
    assert ensure(layout, URL)
    assert client_env(layout)["ASSIST_KEY"] != old


def test_a_file_that_others_could_read_is_made_private_again(layout):
    ensure(layout, URL)
    layout.client_env.chmod(0o644)
    assert ensure(layout, URL)
    assert stat.S_IMODE(layout.client_env.stat().st_mode) == 0o600


def test_looking_writes_nothing(layout):
    assert ensure(layout, URL, write=False)
    assert not layout.client_env.exists()
    assert not layout.keys.exists()


def test_keys_of_other_users_survive_the_first_run(layout):
    layout.config.mkdir(parents=True)
    layout.keys.write_text(json.dumps({"keys": []}))
    ensure(layout, URL)
    assert len(list_keys(layout.keys)) == 1
