"""The guests' way to packages: what it keeps, what it passes on, what it refuses, without a guest."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from testing.lab import proxy
from testing.lab.settings import LabSettings

Ask = Callable[..., tuple[int, bytes]]
MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"


class Archive:
    """A Debian archive that counts what it is asked for; ``cut`` ends each file early."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.files = {"/debian/pool/a.deb": b"package", "/debian/dists/x/InRelease": b"index"}
        self.cut = False
        archive = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                archive.answer(self)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        since = request.headers.get("If-Modified-Since", "")
        self.asked.append((request.path, since))
        body = self.files.get(request.path, b"")
        request.send_response(304 if since else 200 if body else 404)
        request.send_header("Content-Length", str(0 if since else len(body)))
        request.send_header("Last-Modified", MODIFIED)
        request.end_headers()
        if not since:
            request.wfile.write(body[: len(body) // 2] if self.cut else body)

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[Archive]:
    made = Archive()
    monkeypatch.setattr(proxy, "archive_hosts", lambda: {made.host})
    monkeypatch.setattr(proxy, "connect_hosts", lambda: {"packages.example"})
    yield made
    made.close()


@contextmanager
def asking(folder: Path, *, offline: bool = False, wheels: Path | None = None) -> Iterator[Ask]:
    """Run a proxy; gives a function that asks it and returns status and body."""
    settings = LabSettings(cache=folder, state=folder, wheels=wheels)
    server = proxy.listen(settings, ("127.0.0.1", 0), "", folder / "log", offline=offline)
    threading.Thread(target=server.serve_forever, daemon=True).start()

    def ask(target: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
        try:
            connection.request(method, target, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    try:
        yield ask
    finally:
        server.shutdown()
        server.server_close()


def test_a_package_is_fetched_once_and_an_index_is_asked_for_again(archive, tmp_path):
    package, index = (f"http://{archive.host}{path}" for path in archive.files)
    with asking(tmp_path) as ask:
        for _ in range(2):
            assert ask(package) == (200, b"package")
            assert ask(index) == (200, b"index")
    paths = list(archive.files)
    assert archive.asked == [(paths[0], ""), (paths[1], ""), (paths[1], MODIFIED)]


def test_a_client_that_has_a_file_gets_it_only_when_it_changed(archive, tmp_path):
    with asking(tmp_path) as ask:
        url = f"http://{archive.host}/debian/pool/a.deb"
        assert ask(url, **{"If-Modified-Since": MODIFIED}) == (304, b"")
        assert ask(url, **{"If-Modified-Since": "yesterday"}) == (200, b"package")
        assert ask(url, "HEAD") == (200, b"")


def test_an_archive_that_is_away_or_ends_early_leaves_what_is_kept(archive, tmp_path):
    package, index = (f"http://{archive.host}{path}" for path in archive.files)
    with asking(tmp_path) as ask:
        archive.cut = True
        assert ask(package)[0] == 502
        archive.cut = False
        assert ask(index) == (200, b"index")
        archive.close()
        assert ask(index) == (200, b"index")
        assert ask(package)[0] == 502


def test_offline_it_serves_what_is_kept_and_asks_nobody(archive, tmp_path):
    package, index = (f"http://{archive.host}{path}" for path in archive.files)
    with asking(tmp_path) as ask:
        ask(index)
    before = list(archive.asked)
    with asking(tmp_path, offline=True) as ask:
        assert ask(index) == (200, b"index")
        assert ask(package)[0] == 504
        assert ask("packages.example:443", "CONNECT")[0] == 403
    assert archive.asked == before


def test_whatever_is_not_on_its_list_is_refused_and_written_down(archive, tmp_path):
    refused = ["http://other.example/x", f"http://{archive.host}/../x", f"ftp://{archive.host}/x"]
    with asking(tmp_path) as ask:
        assert [ask(url)[0] for url in refused] == [403] * 3
        assert ask("other.example:443", "CONNECT")[0] == 403
        assert ask("packages.example:22", "CONNECT")[0] == 403
    assert archive.asked == []
    log = (tmp_path / "log").read_text()
    assert log.count("REFUSED") == 5
    assert "REFUSED CONNECT other.example:443" in log


def test_wheels_are_listed_and_served_and_nothing_beside_them(archive, tmp_path):
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    (wheels / "a-1.whl").write_bytes(b"wheel")
    (tmp_path / "secret").touch()
    with asking(tmp_path, wheels=wheels) as ask:
        assert b'href="a-1.whl"' in ask("/wheels/")[1]
        assert ask("/wheels/a-1.whl") == (200, b"wheel")
        assert [ask(path)[0] for path in ("/wheels/b.whl", "/wheels/../secret", "/secret")] == [404] * 3
