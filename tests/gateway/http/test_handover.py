"""A gateway takes the listener of the one that it replaces: real processes, and clients that never notice."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from gateway.http import handover
from testing.ports import free_ports
from testing.until import until

ROOT = Path(__file__).resolve().parents[3]
# A clone may be in a folder whose path is longer than a socket's address may be.
FOLDER = "g" * 120


@pytest.fixture
def start(tmp_path):
    """Return a function that starts a gateway on one port, with an engine that need not exist."""
    (port,) = free_ports(1)
    started = []

    def gateway(engine: str = "http://127.0.0.1:9/v1") -> tuple[subprocess.Popen[bytes], Path, str]:
        environment = {
            "PATH": os.environ["PATH"], "ASSIST_HANDOVER_DIR": str(tmp_path / FOLDER), "ASSIST_PORT": str(port),
            "ASSIST_METRICS_PORT": "none", "ASSIST_ENGINE": "openai", "ASSIST_ENGINE_URL": engine,
            "ASSIST_MODEL_DIR": str(ROOT / "models/tiny-codegen"),
        }  # fmt: skip
        command = [sys.executable, "-m", "gateway"]
        with (tmp_path / "gateways.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
        started.append(process)
        return process, tmp_path / FOLDER / f"{process.pid}.sock", f"http://127.0.0.1:{port}"

    yield gateway
    for process in started:
        process.kill()
        process.wait()


@pytest.fixture
def engine():
    """Run an engine that is ready: only the status of its model list is read."""

    class Models(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Models)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


class Clients:
    """Requests without a pause, on one connection each and on a new one each time."""

    def __init__(self, url: str) -> None:
        self.results: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url, kept)) for kept in (0, 1)]
        for thread in self._threads:
            thread.start()

    def _ask(self, url: str, kept: int) -> None:
        limits = httpx.Limits(max_keepalive_connections=kept)
        with httpx.Client(trust_env=False, timeout=60, limits=limits) as client:
            while not self._stop.is_set():
                try:
                    self.results[str(client.get(f"{url}/v1/models").status_code)] += 1
                except httpx.HTTPError as error:
                    self.results[repr(error)] += 1

    def end(self) -> dict[str, int]:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        return dict(self.results)


def assert_all_served(clients: Clients) -> None:
    """Let the clients go on for 20 requests more, and assert that none of all their requests has failed."""
    seen = clients.results["200"]
    until(lambda: clients.results["200"] > seen + 20)
    results = clients.end()
    assert list(results) == ["200"], results


def test_no_request_fails_while_one_gateway_replaces_another(start, engine):
    first, offered, url = start(engine)
    until(offered.exists)
    clients = Clients(url)
    second, offered, _ = start(engine)
    until(offered.exists)
    first.send_signal(signal.SIGTERM)
    assert first.wait(60) == 0
    assert_all_served(clients)
    assert second.poll() is None


def test_no_request_fails_when_the_younger_of_two_gateways_ends(start, engine):
    first, offered, url = start(engine)
    until(offered.exists)
    second, offered, _ = start(engine)
    until(offered.exists)
    clients = Clients(url)
    until(lambda: clients.results["200"] > 20)
    second.send_signal(signal.SIGTERM)
    assert second.wait(60) == 0
    assert_all_served(clients)
    assert first.poll() is None


def test_a_gateway_whose_engine_is_not_ready_leaves_the_connections_to_the_other(start, engine, tmp_path):
    _first, offered, url = start(engine)
    until(offered.exists)
    waiting, not_offered, _ = start()  # its engine is not there
    until(lambda: f"Started server process [{waiting.pid}]" in (tmp_path / "gateways.log").read_text())
    clients = Clients(url)
    until(lambda: clients.results["200"] > 50)
    results = clients.end()
    assert list(results) == ["200"], results
    assert not not_offered.exists()
    waiting.send_signal(signal.SIGTERM)
    assert waiting.wait(60) == 0


def test_the_socket_of_a_killed_gateway_is_removed_and_the_port_bound_anew(start, engine):
    first, stale, _ = start(engine)
    until(stale.exists)
    first.kill()
    first.wait()
    second, offered, _ = start(engine)
    until(offered.exists)
    assert not stale.exists()
    assert second.poll() is None


def test_a_listener_is_given_for_its_own_address_only(start, engine, tmp_path):
    _first, offered, url = start(engine)
    until(offered.exists)
    port = int(url.rsplit(":", 1)[1])
    assert handover.take(tmp_path / FOLDER, "127.0.0.1", port + 1) is None
    taken = handover.take(tmp_path / FOLDER, "127.0.0.1", port)
    assert taken is not None
    assert taken.getsockname() == ("127.0.0.1", port)
    taken.close()


def test_a_port_of_another_program_is_named_with_the_remedy(tmp_path):
    holder = handover.listen(tmp_path, "127.0.0.1", 0).socket
    with (
        holder,
        pytest.raises(OSError, match=r"already in use by another program; choose another one: PORT="),
    ):
        handover.listen(tmp_path, *holder.getsockname())


async def test_a_process_without_a_descriptor_to_spare_gives_its_listener_later(tmp_path, monkeypatch):
    listener = handover.listen(tmp_path, "127.0.0.1", 0).socket
    port = listener.getsockname()[1]
    giver = handover.Giver(tmp_path, "127.0.0.1", port, listener)
    loop, failures = asyncio.get_running_loop(), [OSError(errno.EMFILE, "Too many open files")]
    accept = loop.sock_accept

    async def first_fails(sock):
        if failures:
            raise failures.pop()
        return await accept(sock)

    monkeypatch.setattr(loop, "sock_accept", first_fails)
    with listener:
        giver.start()
        taken = await asyncio.to_thread(handover.take, tmp_path, "127.0.0.1", port)
        assert taken is not None
        taken.close()
        await giver.stop()
