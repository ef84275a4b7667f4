"""The cloud on disk stays whole, whoever is killed and however many write."""

import json
import signal
import subprocess
import sys

import pytest

from testing.gcp.cloud import Cloud
from testing.until import until

WRITER = """
import sys
from pathlib import Path
from testing.gcp.cloud import Cloud
cloud = Cloud(Path(sys.argv[1]))
for _ in range(int(sys.argv[2])):
    with cloud.transaction() as state:
        state.document["left"] = state.document.get("left", 0) + 1
        state.document["filler"] = "x" * 200_000
        state.document["right"] = state.document.get("right", 0) + 1
"""


def writer(folder, times):
    return subprocess.Popen([sys.executable, "-c", WRITER, str(folder), str(times)])


def test_a_writer_that_is_killed_at_any_time_leaves_a_whole_cloud_that_others_can_use(tmp_path):
    cloud = Cloud(tmp_path)
    for kill in range(1, 11):
        process = writer(tmp_path, 1_000_000)
        until(
            lambda kill=kill: cloud.file.exists() and json.loads(cloud.file.read_text())["right"] >= 7 * kill,
            pause_s=0.001,
        )
        process.send_signal(signal.SIGKILL)
        process.wait()
        with cloud.transaction() as state:
            assert state.document["left"] == state.document["right"] >= 7 * kill


def test_writers_beside_each_other_lose_nothing(tmp_path):
    writers = [writer(tmp_path, 25) for _ in range(4)]
    assert [one.wait() for one in writers] == [0] * 4
    with Cloud(tmp_path).transaction() as state:
        assert (state.document["left"], state.document["right"]) == (100, 100)


def test_a_transaction_that_raises_changes_nothing(tmp_path):
    cloud = Cloud(tmp_path)
    with cloud.transaction() as state:
        state.put("kind", "id", {"a": 1})
    with pytest.raises(KeyError):
        half_a_change(cloud)
    with cloud.transaction() as state:
        assert state.find("kind", "id") == {"a": 1}


def half_a_change(cloud):
    with cloud.transaction() as state:
        state.put("kind", "id", {"a": 2})
        state.remove("other kind", state.document["absent"])


def test_a_thing_takes_its_parts_with_it_and_not_its_namesakes(tmp_path):
    with Cloud(tmp_path).transaction() as state:
        for identity in ("clusters/c", "clusters/cc", "clusters/c/nodePools/p"):
            state.put("kind", identity, {})
        state.remove("kind", "clusters/c")
        assert list(state.all("kind")) == ["clusters/cc"]
