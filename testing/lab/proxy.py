"""The guests' only way to packages: an HTTP proxy that keeps Debian's files and refuses everything else.

It listens in the lab's network and fetches from this machine's. Debian's files are kept with their signatures
and passed on; a tunnel is opened to the hosts of ``connect_hosts`` alone; the wheels of ``LAB_WHEELS`` are served
at /wheels/. An offline proxy serves what is kept and asks nobody: the air-gapped case. Everything is logged, so
that a test can assert what was asked for.
"""

import email.utils
import http.client
import http.server
import os
import shutil
import socket
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TextIO
from urllib.parse import quote, unquote, urlsplit

from testing.lab.namespaces import entered
from testing.lab.settings import LabSettings, archive_hosts, connect_hosts

_UPSTREAM_S = 60
_PIECE = 1 << 18
_WHEELS = "/wheels/"


class Proxy(socketserver.ThreadingMixIn, http.server.HTTPServer):
    """A proxy that listens; ``serve_forever`` serves. The port is ``server_port``."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self, address: tuple[str, int], settings: LabSettings, *, offline: bool, log: TextIO | None
    ) -> None:
        self.settings, self.offline, self.log = settings, offline, log
        self._fetching: dict[Path, threading.Lock] = {}
        self._guard = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        """Bind without looking the address up in DNS, which the class above does."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def server_close(self) -> None:
        """Listen no more."""
        super().server_close()
        if self.log:
            self.log.close()

    def lock(self, file: Path) -> threading.Lock:
        """Return the lock under which a kept file is fetched."""
        with self._guard:
            return self._fetching.setdefault(file, threading.Lock())


@contextmanager
def serving(settings: LabSettings) -> Iterator[str]:
    """Serve on a loopback port in a thread for as long as the block lasts; gives the address."""
    proxy = Proxy(("127.0.0.1", 0), settings, offline=False, log=None)
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{proxy.server_port}"
    finally:
        proxy.shutdown()
        proxy.server_close()


def listen(
    settings: LabSettings, address: tuple[str, int], namespace: str, log: Path, *, offline: bool
) -> Proxy:
    """Return a proxy that listens in a network namespace and fetches from this one."""
    with entered(namespace) if namespace else nullcontext():
        return Proxy(address, settings, offline=offline, log=log.open("a"))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class's name
        if self.server.log:
            self.server.log.write(f"{time.strftime('%H:%M:%S')} {self.client_address[0]} {format % args}\n")
            self.server.log.flush()

    def do_GET(self) -> None:
        """Serve a file of the archives, kept or fetched, or a wheel."""
        asked = urlsplit(self.path)
        if not asked.netloc:
            self._serve_wheel(unquote(asked.path))
        elif asked.scheme != "http" or asked.netloc not in archive_hosts() or ".." in asked.path:
            self._refuse(403, f"{asked.netloc} is not on the lab's list")
        else:
            file = self.server.settings.cache / "http" / asked.netloc / unquote(asked.path).lstrip("/")
            with self.server.lock(file):
                status, how = self._obtain(file, asked.netloc, asked.path)
            if status == 200:
                self._send(file, how)
            else:
                self._refuse(status, how)

    do_HEAD = do_GET  # noqa: N815 -- the base class's convention

    def _obtain(self, file: Path, host: str, path: str) -> tuple[int, str]:
        """See that ``file`` is kept and current; return the status to answer with, and how or why."""
        fixed = "/pool/" in path or "/by-hash/" in path
        if file.is_file() and (fixed or self.server.offline):
            return 200, "hit"
        if self.server.offline:
            return 504, "offline and not in the cache"
        try:
            status = fetch(host, path, file)
        except (OSError, http.client.HTTPException) as error:
            return (200, f"stale ({error})") if file.is_file() else (502, str(error))
        if status in {200, 304}:
            return 200, "miss" if status == 200 else "revalidated"
        return status, f"upstream said {status}"

    def _serve_wheel(self, path: str) -> None:
        wheels = self.server.settings.wheels
        if wheels is None or not path.startswith(_WHEELS):
            self._refuse(404, "no such thing")
            return
        file = (wheels / path.removeprefix(_WHEELS)).resolve()
        if file == wheels:
            names = sorted(each.name for each in wheels.iterdir() if each.is_file())
            page = "".join(f'<a href="{quote(name)}">{name}</a><br>\n' for name in names)
            self._answer(200, page, "text/html")
        elif file.is_file() and wheels in file.parents:
            self._send(file, "wheel")
        else:
            self._refuse(404, "no such wheel")

    def _send(self, file: Path, how: str) -> None:
        with file.open("rb") as content:
            status = os.fstat(content.fileno())
            if self._has(status.st_mtime):
                self.log_message("304 %s %s", how, self.path)
                self.send_response(304)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.log_message("200 %s %d %s", how, status.st_size, self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(status.st_size))
            self.send_header("Last-Modified", email.utils.formatdate(status.st_mtime, usegmt=True))
            self.end_headers()
            if self.command != "HEAD":
                shutil.copyfileobj(content, self.wfile, _PIECE)

    def _has(self, modified: float) -> bool:
        """Return whether the client has a file of this age already."""
        since = self.headers.get("If-Modified-Since", "")
        with suppress(ValueError):
            return int(modified) <= email.utils.parsedate_to_datetime(since).timestamp()
        return False

    def _refuse(self, status: int, why: str) -> None:
        self.log_message("REFUSED %s %s: %s", self.command, self.path, why)
        self.close_connection = True
        self._answer(status, why + "\n", "text/plain")

    def _answer(self, status: int, text: str, kind: str) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_CONNECT(self) -> None:
        """Open a tunnel to one of the hosts that pip asks."""
        host, _, port = self.path.partition(":")
        if self.server.offline or host not in connect_hosts() or port != "443":
            self._refuse(403, f"{self.path} is not on the lab's list (LAB_CONNECT_HOSTS)")
            return
        try:
            upstream = socket.create_connection((host, int(port)), timeout=_UPSTREAM_S)
        except OSError as error:
            self._refuse(502, str(error))
            return
        self.log_message("CONNECT %s", self.path)
        self.send_response(200, "Connection established")
        self.end_headers()
        self.close_connection = True
        with upstream:
            upstream.settimeout(None)
            back = threading.Thread(target=_pump, args=(upstream, self.connection), daemon=True)
            back.start()
            _pump(self.connection, upstream)
            back.join(_UPSTREAM_S)


def fetch(host: str, path: str, file: Path) -> int:
    """Fetch a file unless the kept one is current; return 200 for a new one, 304, or what the host refused with.

    Raises OSError or HTTPException where the host can't be asked; a file that ends early is a 502.
    """
    headers = {"Host": host, "User-Agent": "lab-proxy", "Connection": "close"}
    if file.exists():
        headers["If-Modified-Since"] = email.utils.formatdate(file.stat().st_mtime, usegmt=True)
    connection = http.client.HTTPConnection(host, timeout=_UPSTREAM_S)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return _keep(answer, file) if answer.status == 200 else answer.status
    finally:
        connection.close()


def _keep(answer: http.client.HTTPResponse, file: Path) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with part.open("wb") as content:
            shutil.copyfileobj(answer, content, _PIECE)
        size = answer.getheader("Content-Length")
        if size and int(size) != part.stat().st_size:
            return 502
        if modified := answer.getheader("Last-Modified"):
            at = email.utils.parsedate_to_datetime(modified).timestamp()
            os.utime(part, (at, at))
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    return 200


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
