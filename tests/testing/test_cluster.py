"""The test cluster itself: processes that are watched, ports that others take, and nothing left."""

import os
import shutil
import socket
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stackfile.catalogue import ROOT
from testing.cluster import simulated
from testing.cluster.engine import missing
from testing.cluster.errors import ClusterError, PortTakenError
from testing.cluster.images import Image
from testing.cluster.processes import Processes
from testing.cluster.simulated import Simulated
from testing.ports import free_ports
from testing.until import until


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.kill(made.names())


def test_a_process_that_ends_is_reported_at_once_with_its_last_words(processes: Processes):
    processes.start("etcd", "sh", "-c", "echo no space left; exit 1")
    with pytest.raises(ClusterError, match="etcd has ended:\nno space left"):
        processes.wait_for("etcd", lambda: False, ("etcd",))


def test_a_port_that_is_taken_raises_an_error_of_its_own(processes: Processes):
    processes.start("etcd", "sh", "-c", "echo listen tcp 127.0.0.1:1: bind: address already in use; exit 1")
    with pytest.raises(PortTakenError):
        processes.wait_for("etcd", lambda: False, ("etcd",))


def test_a_process_is_started_once_and_gone_when_killed(processes: Processes):
    processes.start("etcd", "sleep", "600")
    first = processes.pid("etcd")
    processes.start("etcd", "sleep", "600")
    assert processes.pid("etcd") == first
    processes.kill(["etcd"])
    assert not Path(f"/proc/{first}").exists()
    assert not processes.is_running("etcd")


@pytest.mark.parametrize("late", [False, True], ids=["", "before it is tied"])
def test_a_cluster_of_a_test_ends_with_the_tests_process_however_that_ends(tmp_path: Path, late: bool):
    slow = tmp_path / "bin/setpriv"
    slow.parent.mkdir()
    if late:
        slow.write_text(f'#!/bin/sh\nsleep 1\nexec {shutil.which("setpriv")} "$@"\n')
        slow.chmod(0o755)
    script = f"""
import os, pathlib, signal
from testing.cluster.processes import Processes
made = Processes(pathlib.Path({str(tmp_path)!r}))
made.tied = True
made.start("etcd", "sleep", "600")
print(made.pid("etcd"), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT, env=os.environ | {"PATH": f"{slow.parent}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    status = Path(f"/proc/{int(killed.stdout)}/status")
    until(lambda: Processes(tmp_path).pid("etcd") is None, evidence=status.read_text)


def test_another_process_with_a_dead_ones_id_is_left_alone(processes: Processes):
    stranger = subprocess.Popen(["sleep", "600"])
    processes.pids.mkdir()
    (processes.pids / "etcd").write_text(f"{stranger.pid} 1")
    assert not processes.is_running("etcd")
    processes.kill(["etcd"])
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait()


def test_an_image_is_the_same_each_time_and_has_a_link_for_each_name(tmp_path: Path):
    program = tmp_path / "kubeall"
    program.write_bytes(b"program")
    made = Image("local.test/a:1", files={"bin/kubeall": program}, links={"coredns": "bin/kubeall"})
    for name in ("one.tar", "two.tar"):
        made.write(tmp_path / name)
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as image:
        (layer,) = [name for name in image.getnames() if name.endswith("layer.tar")]
        with tarfile.open(fileobj=image.extractfile(layer)) as files:
            assert files.getmember("coredns").linkname == "bin/kubeall"
            assert files.getmember("bin/kubeall").mode == 0o755
            assert files.getmember("tmp").mode == 0o1777


@pytest.fixture
def cluster(tmp_path: Path) -> Simulated:
    if reason := missing():
        pytest.skip(reason)
    return Simulated(tmp_path / "cluster", cpu_nodes=1)


@pytest.mark.kube
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_cluster_whose_port_is_taken_in_the_meantime_starts_on_others_and_leaves_nothing(
    cluster: Simulated, monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        given = [taken.getsockname()[1]]

        def snatched(count: int) -> list[int]:
            # The first answer has a port that was free when it was looked at.
            return [given.pop(), *free_ports(count - 1)] if given else free_ports(count)

        monkeypatch.setattr(simulated, "free_ports", snatched)
        with cluster:
            assert not given
            assert [node["metadata"]["name"] for node in cluster.get("nodes")] == ["cpu-1"]
            running = [cluster.processes.pid(name) for name in cluster.processes.names()]
            assert len(running) == 5
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in running))
    assert not cluster.state.exists()
