"""A real redis-server on a free loopback port, to be stopped, paused, filled and locked."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from testing import needs
from testing.ports import free_ports

START_S = 60.0


class RedisServer:
    """One server that keeps its port over restarts."""

    def __init__(self, folder: Path) -> None:
        self.port = free_ports(1)[0]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *options: str) -> None:
        """Start with extra options, e.g. ``--requirepass``, and wait until it answers."""
        argv = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", *options]
        # SIGXFSZ stays ignored, as Python has it: a file limit is then an error to Redis, like a full disk.
        self._process = subprocess.Popen(
            argv, cwd=self._folder, stdout=subprocess.DEVNULL, restore_signals=False
        )
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            try:
                self.admin().ping()
            except redis.AuthenticationError:
                return
            except redis.ConnectionError:
                time.sleep(0.02)
            else:
                return
        pytest.fail("redis-server did not start")

    def admin(self, password: str | None = None) -> "redis.Redis":
        """Return a client for the test's own use."""
        return redis.Redis(port=self.port, password=password, socket_timeout=30)

    def pause(self) -> None:
        """Stop the process as a hung host would: connections open, nothing answers."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGCONT)

    def stop(self) -> None:
        """End it; the port refuses connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(timeout=START_S)
            self._process = None


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Run a server of the test's own."""
    needs.program("redis-server")
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()
