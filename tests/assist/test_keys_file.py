"""`assist keys --file`: the keys of a deployment that is not on this machine, e.g. for Pulumi's configuration."""

import json
import stat

import pytest
from typer.testing import CliRunner

from assist.cli import app
from gateway.auth import keys


def run(*arguments: str):
    done = CliRunner().invoke(app, ["keys", *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_a_key_is_added_listed_rotated_and_revoked_in_the_file_that_is_named(tmp_path):
    file = tmp_path / "keys.json"
    secret = run("add", "alice", "--rpm", "60", "--file", str(file)).strip().splitlines()[-1]
    assert secret not in file.read_text()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    (key,) = json.loads(run("list", "--json", "--file", str(file)))
    assert (key["user"], key["rpm"]) == ("alice", 60)
    run("rotate", key["id"], "--file", str(file))
    ids = [one["id"] for one in json.loads(run("list", "--json", "--file", str(file)))]
    assert len(ids) == 2
    run("revoke", ids[-1], "--file", str(file))
    assert all(one["revoked"] for one in json.loads(file.read_text())["keys"] if one["id"] == ids[-1])


@pytest.mark.parametrize("cut", [3, 60])
def test_repair_keeps_the_records_that_are_whole_and_the_key_of_this_machine(tmp_path, cut):
    file = tmp_path / "keys.json"
    for user in ("alice", "bob"):
        keys.create_key(file, user)
    text = file.read_text()
    file.write_text(text[:-cut])
    with pytest.raises(keys.KeyFileError, match="keys repair"):
        keys.list_keys(file)
    kept, damaged = keys.repair(file, "local", "ak_mine")
    users = [key.user for key in keys.list_keys(file)]
    assert users == [*["alice", "bob"][:kept], "local"]
    assert kept == (2 if cut == 3 else 1)
    assert keys.digest("ak_mine") in {key.sha256 for key in keys.list_keys(file)}
    assert damaged.read_text() == text[:-cut]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
