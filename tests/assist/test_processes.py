"""The service's processes are stopped, also those that end by themselves in that moment."""

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from assist import processes
from assist.paths import SOURCE, Paths
from testing.until import until


@pytest.fixture
def layout(tmp_path: Path) -> Paths:
    return Paths(SOURCE, tmp_path / ".run")


def _supervisord(layout: Paths, *options: str) -> subprocess.Popen[bytes]:
    """Start what looks like this clone's supervisord in the list of processes."""
    waits = "import sys; sys.stdout.write('here'); sys.stdout.flush(); import time; time.sleep(60)"
    command = [sys.executable, *options, "-c", waits, "/supervisord", str(layout.supervisor_config)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.read(4) == b"here"
    return process


def test_what_is_left_of_the_service_is_stopped_and_nothing_else(layout):
    ours, others = _supervisord(layout), _supervisord(Paths(SOURCE, layout.home / "other"))
    try:
        assert [process.pid for process in processes.own(layout)] == [ours.pid]
        processes.stop(layout)
        assert ours.poll() is not None
        assert others.poll() is None
    finally:
        for process in (ours, others):
            process.kill()
            process.communicate()


def test_a_process_that_ends_in_the_moment_it_is_looked_at_does_no_harm(layout, monkeypatch):
    ended = _supervisord(layout)
    seen = psutil.Process(ended.pid)
    ended.kill()
    until(lambda: seen.status() == psutil.STATUS_ZOMBIE)
    monkeypatch.setattr(psutil, "process_iter", lambda: [seen])
    processes._wait_for_supervisord(layout)
    ended.communicate()
    monkeypatch.setattr(processes, "own", lambda _layout: [seen])
    assert processes.stop(layout) == []
